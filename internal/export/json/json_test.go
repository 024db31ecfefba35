// SPDX-License-Identifier: Apache-2.0

package json

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// run is an exporter behind a hub.
type run struct {
	*Exporter
	hub    *pipeline.Hub
	losses *pipeline.Losses
	log    *lockedBuffer
	seq    uint64
	end    func() error // closes the hub and waits
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// own is vigie's own encoding.
func own(dst []byte, e *model.Event) []byte { return e.AppendJSON(dst, modeltest.Boot) }

func start(t *testing.T, path string, stdout io.Writer) *run {
	return startRotating(t, path, stdout, Rotation{})
}

func startRotating(t *testing.T, path string, stdout io.Writer, rotate Rotation) *run {
	t.Helper()
	r := &run{losses: new(pipeline.Losses), log: new(lockedBuffer)}
	r.hub = pipeline.NewHub(r.losses)
	var err error
	r.Exporter, err = New(Options{Path: path, Stdout: stdout, Encode: own, Rotate: rotate, Losses: r.losses,
		Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	sub := r.hub.Subscribe(r.Subscribe())
	done := make(chan error, 1)
	go func() { done <- r.Run(sub) }()
	r.end = sync.OnceValue(func() error { r.hub.Close(); return <-done })
	t.Cleanup(func() { _ = r.end() })
	return r
}

func (r *run) publish(n int) {
	batch := make([]*model.Event, n)
	for i := range batch {
		r.seq++
		batch[i] = modeltest.Exec()
		batch[i].Seq = r.seq
	}
	r.hub.Publish(batch)
}

// lines parses a file: every line must be whole.
func lines(t *testing.T, path string) (seqs []uint64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(b, []byte{'\n'}), []byte{'\n'}) {
		var e struct{ Seq uint64 }
		if len(line) == 0 {
			continue
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("line %d of %s: %v: %.80q", i+1, path, err, line)
		}
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}

func TestEverythingIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	r := start(t, path, nil)
	for range 100 {
		r.publish(300)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	seqs := lines(t, path)
	if len(seqs) != 30_000 {
		t.Fatalf("%d lines", len(seqs))
	}
	for i, n := range seqs {
		if n != uint64(i+1) {
			t.Fatalf("event %d on line %d", n, i+1)
		}
	}
}

// A few events do not wait for a full buffer.
func TestFewEventsAreWrittenSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	r := start(t, path, nil)
	r.publish(1)
	eventually(t, "a flush", func() bool { return len(lines(t, path)) == 1 })
}

func TestStdoutOutput(t *testing.T) {
	out := new(lockedBuffer)
	r := start(t, "-", out)
	r.publish(3)
	if err := r.end(); err != nil || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%v, %q", err, out.String())
	}
	if err := r.Reopen(); err != nil {
		t.Errorf("reopen: %v", err)
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	r := start(t, path, nil)
	r.publish(10)
	eventually(t, "the first lines", func() bool { return len(lines(t, path)) == 10 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	r.publish(10) // still to the old file, or to the new one
	if err := r.Reopen(); err != nil {
		t.Fatal(err)
	}
	r.publish(10)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	old, fresh := lines(t, path+".1"), lines(t, path)
	if len(old)+len(fresh) != 30 || len(fresh) < 10 {
		t.Errorf("%d lines in the old file, %d in the new one", len(old), len(fresh))
	}
}

func TestLineLeftByACrashIsNotContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(path, []byte(`{"type":"exec","seq":4`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, path, nil)
	r.publish(1)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(path)
	if all := strings.Split(string(b), "\n"); len(all) != 3 || !json.Valid([]byte(all[1])) {
		t.Errorf("got %q", b)
	}
}

func TestFileThatCannotBeOpened(t *testing.T) {
	if _, err := New(Options{Path: filepath.Join(t.TempDir(), "no", "such", "dir")}); err == nil || !strings.Contains(err.Error(), "make its directory") {
		t.Errorf("got %v", err)
	}
}

// A device that is always full: the agent goes on, the cause is told once, everything is counted.
func TestFullDevice(t *testing.T) {
	r := start(t, "/dev/full", nil)
	const published = 40_000 // more than may wait
	for range published / 100 {
		r.publish(100)
	}
	err := r.end()
	if err == nil || !strings.Contains(err.Error(), "lost at the end: no space left on device") {
		t.Errorf("end: %v", err)
	}
	var counted uint64
	for _, l := range r.losses.Snapshot() {
		counted += l.Count
	}
	if got := r.losses.Counter("export json", syscall.ENOSPC.Error()).Load(); got == 0 || counted != published {
		t.Errorf("%d counted, %d of them for the full device; want %d", counted, got, published)
	}
	if n := strings.Count(r.log.String(), "can't be exported"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// A disk that fills in the middle of a line and has room again later.
func TestDiskFullForAWhile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs to mount a tmpfs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path, ballast := filepath.Join(dir, "events.json"), filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, path, nil)
	r.publish(200) // about 200 KiB: not all fits
	eventually(t, "the full disk", func() bool { return strings.Contains(r.log.String(), "can't be exported") })
	for range 3 {
		if n := len(lines(t, path)); n == 0 || n >= 200 {
			t.Fatalf("%d whole lines on the full disk", n)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest", func() bool { return len(lines(t, path)) == 200 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	seqs := lines(t, path)
	for i, n := range seqs {
		if n != uint64(i+1) {
			t.Fatalf("event %d on line %d", n, i+1)
		}
	}
	if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("\n\n")) || !strings.Contains(r.log.String(), "exported again") {
		t.Error("there is an empty line, or the end of the trouble was not told")
	}
}

// shortWriter takes a few bytes and fails, now and then, like a full pipe of another kind.
type shortWriter struct {
	bytes.Buffer
	calls int
}

func (w *shortWriter) Write(p []byte) (int, error) {
	w.calls++
	if w.calls%3 == 1 && len(p) > 10 {
		n, _ := w.Buffer.Write(p[:len(p)/2])
		return n, io.ErrShortWrite
	}
	return w.Buffer.Write(p)
}

// Where a part of a line can't be taken back, the next begins on a line of its own, and no event is missing.
func TestShortWritesElsewhere(t *testing.T) {
	out := new(shortWriter)
	e, err := New(Options{Path: "-", Stdout: out, Encode: own, Losses: new(pipeline.Losses), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range n {
		event := modeltest.Exec()
		event.Seq = uint64(i + 1)
		e.add(event)
		e.write()
	}
	for e.lines > 0 {
		e.write()
	}
	whole := make(map[uint64]bool)
	for _, line := range strings.Split(out.String(), "\n") {
		var got struct{ Seq uint64 }
		if json.Unmarshal([]byte(line), &got) == nil {
			whole[got.Seq] = true
		}
	}
	if len(whole) != n {
		t.Errorf("%d of %d events are there", len(whole), n)
	}
}
