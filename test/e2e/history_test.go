// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What one agent saw the next one tells, also when the first was killed; and in the middle of a segment's life it is found
// by the same filters.
func TestHistoryOutlivesItsAgent(t *testing.T) {
	a := startAgent(t, "--history-interval", "1s", "--memory-events", "100")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	address := l.Addr().String()
	talk := func(n int) {
		for range n {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	told := func(a *agent, args ...string) int {
		args = append(args, "--socket", a.socket, "--addr", address, "--type", "connect", "--since", "1h", "-o", "json")
		out, err := exec.Command(vigie(t), args...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return strings.Count(string(out), "\n")
	}
	talk(150) // more than memory holds
	a.await("150 connections, from disk and memory", func() bool { return told(a, "events") == 150 })
	// The second flush from now has all of them: one may be under way. Asking makes events for it.
	for range 2 {
		before := a.written(t)
		a.await("a flush", func() bool {
			return told(a, "query", "top", "--by", "remote,binary", "--measure", "flows") > 0 && a.written(t) > before
		})
	}
	if err := a.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait() // killed

	b := newAgent(t, a.dir, "--history-interval", "1s")
	b.start()
	if n := told(b, "events"); n != 150 {
		t.Errorf("%d connections of 150 are told after kill -9", n)
	}
	talk(5)
	b.await("five more", func() bool { return told(b, "events") >= 155 })
	out, err := exec.Command(vigie(t), "query", "top", "--socket", b.socket, "--type", "connect", "--addr", address, "--by", "port,binary", "--measure", "flows", "-o", "json").Output()
	if err != nil || !strings.Contains(string(out), `"flows":15`) {
		t.Errorf("%s, %v", out, err)
	}
	b.stop()
}

// written is the place of the last event of sockets that is on disk, as files are named by it.
func (a *agent) written(t *testing.T) (last string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a.dir, "state", "history", "network", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		_, end, _ := strings.Cut(filepath.Base(path), "_")
		last = max(last, end)
	}
	return last
}
