// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
)

// recorded makes a capture of n execs, a block each, and returns its path.
func recorded(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "some.vigie")
	w, err := capture.Create(path, capture.Header{BootID: "01234567-89ab", Host: "elsewhere", Start: time.Unix(1, 0)}, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		key := model.ProcessKey{PID: uint32(100 + i), Start: uint64(i + 1), Exec: 1}
		if err := w.Write([]*model.Event{{Type: model.TypeExec, Key: key, BootTime: uint64(i+1) * uint64(time.Hour), Time: time.Unix(1, 0),
			Count: 1, Process: &model.Process{Key: key, ExecID: key.ExecID("01234567"), Binary: "/bin/x"}, Exec: &model.Exec{}}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// play runs an agent on a capture, as fast as it goes, and returns how many lines it exported.
func play(t *testing.T, path string) (lines int, log string, err error) {
	t.Helper()
	b, log, err := playedEvents(t, path)
	return bytes.Count(b, []byte{'\n'}), log, err
}

// playedEvents is what play exports.
func playedEvents(t *testing.T, path string, types ...string) (events []byte, log string, err error) {
	t.Helper()
	dir := t.TempDir()
	c := Default()
	c.Replay, c.Speed, c.HTTP, c.StateDir = path, 0, Off, dir
	c.Socket, c.ExportJSON, c.ExportTypes = filepath.Join(dir, "s"), filepath.Join(dir, "out.json"), types
	var out bytes.Buffer
	err = Run(context.Background(), c, Deps{Log: slog.New(slog.NewTextHandler(&out, nil)), Version: "test"})
	b, _ := os.ReadFile(c.ExportJSON)
	return b, out.String(), err
}

func TestReplayNeedsNoPrivilegeAndEndsWithItsExport(t *testing.T) {
	n, _, err := play(t, recorded(t, 10))
	if err != nil || n != 10 {
		t.Errorf("exported %d, %v", n, err)
	}
}

// Destinations that are gone, hang or lie hold nothing up: what goes to the file is whole, and the end comes.
func TestDestinationsThatAreGoneStallNothing(t *testing.T) {
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	path, dir := recorded(t, 100), t.TempDir()
	c := Default()
	c.Replay, c.Speed, c.HTTP, c.StateDir = path, 0, Off, dir
	c.Socket, c.ExportJSON = filepath.Join(dir, "s"), filepath.Join(dir, "out.json")
	c.ExportSyslog, c.ExportKafka, c.ExportOTLP = "tcp://127.0.0.1:1", []string{hangs.Addr().String()}, "grpc://"+hangs.Addr().String()
	var out bytes.Buffer
	if err := Run(context.Background(), c, Deps{Log: slog.New(slog.NewTextHandler(&out, nil)), Version: "test"}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(c.ExportJSON); bytes.Count(b, []byte{'\n'}) != 100 {
		t.Errorf("exported %d lines", bytes.Count(b, []byte{'\n'}))
	}
	if !strings.Contains(out.String(), "events can't be exported") || !strings.Contains(out.String(), "connection refused") {
		t.Errorf("the log does not tell:\n%s", out.String())
	}
}

func TestReplayOfADamagedCapturePlaysWhatIsWhole(t *testing.T) {
	whole, err := os.ReadFile(recorded(t, 10))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		fails  bool
	}{
		{"cut off", func(b []byte) []byte { return b[:len(b)*2/3] }, false},
		{"corrupt", func(b []byte) []byte { b[len(b)*2/3] ^= 0xff; return b }, true},
	} {
		path := filepath.Join(t.TempDir(), "damaged.vigie")
		if err := os.WriteFile(path, c.damage(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		n, log, err := play(t, path)
		if n < 2 || n >= 10 {
			t.Errorf("%s: exported %d", c.name, n)
		}
		if c.fails != (err != nil) || c.fails && !strings.Contains(err.Error(), "byte") || !c.fails && !strings.Contains(log, "cut off") {
			t.Errorf("%s: %v\n%s", c.name, err, log)
		}
	}
}

func TestReplayOfWhatIsNoCaptureSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := play(t, path); err == nil || !strings.Contains(err.Error(), "no capture") {
		t.Errorf("got %v", err)
	}
}

// A capture that has no flows gets those that its events tell of.
func TestAReplayHasFlows(t *testing.T) {
	events, _, err := playedEvents(t, "../../docs/captures/web.vigie", "flow")
	if err != nil {
		t.Fatal(err)
	}
	both, closed := 0, 0
	for _, line := range bytes.Split(events, []byte{'\n'}) {
		if bytes.HasPrefix(line, []byte(`{"type":"flow"`)) {
			if bytes.Contains(line, []byte(`"direction":"local"`)) {
				both++
			}
			if bytes.Contains(line, []byte(`"state":"closed"`)) {
				closed++
			}
		}
	}
	if both == 0 || closed == 0 {
		t.Errorf("%d flows with both ends, %d that have ended", both, closed)
	}
}
