// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

const crashVariable = "VIGIE_TEST_CRASH"

// TestMain lets the test be its own agent that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVariable); dir != "" {
		os.Setenv(crashVariable, "")
		if err := writeUntilKilled(dir); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes history without an end, and says after each flush how far it is.
func writeUntilKilled(dir string) error {
	h := newHost(new(testing.T), dir, clockAt(1000), nil)
	for {
		h.publish(int64(1000+h.seq), 50)
		if err := h.history.await(context.Background(), h.seq); err != nil {
			return err
		}
		if h.history.flush() != 0 {
			return fmt.Errorf("not all was written")
		}
		fmt.Println(h.seq)
	}
}

// What was said to be written is there after kill -9, whatever the agent was doing: writing, merging, removing.
func TestKilledWhileItWrites(t *testing.T) {
	for _, flushes := range []int{1, 5, 9, 17, 40} {
		dir := t.TempDir()
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), crashVariable+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		lines := bufio.NewScanner(out)
		for n := 0; n < flushes && lines.Scan(); n++ {
			if said, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			if n, err := strconv.Atoi(strings.TrimSpace(lines.Text())); err == nil {
				said = n
			}
		}
		_ = child.Wait() // killed

		h := newHost(t, dir, clockAt(9000), nil)
		var seqs []uint64
		if err := h.store.Each(t.Context(), Query{}, func(e *model.Event) bool {
			seqs = append(seqs, e.Seq)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		// Of a flush that was under way one family may be written and the other not.
		whole := seqs[:min(said, len(seqs))]
		for i, n := range whole {
			if n != uint64(i+1) {
				t.Fatalf("killed after %d flushes: number %d stands at %d", flushes, n, i+1)
			}
		}
		if len(whole) != said || !slices.IsSorted(seqs) || len(slices.Compact(slices.Clone(seqs))) != len(seqs) || len(seqs) > said+50 {
			t.Errorf("killed after %d flushes: %d were said to be written, %d are there", flushes, said, len(seqs))
		}
		if p := h.history.Problems(); len(p) > 0 {
			t.Errorf("killed after %d flushes: %v", flushes, p)
		}
		h.stop(t)
		if left, _ := filepath.Glob(filepath.Join(dir, "*", "*"+temporary)); len(left) > 0 {
			t.Errorf("killed after %d flushes: %v are left", flushes, left)
		}
	}
}
