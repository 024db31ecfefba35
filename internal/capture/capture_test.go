// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

var header = Header{BootID: modeltest.Boot + "-1111-2222", Host: "host", Kernel: "6.1", Version: "1", Start: time.Unix(5, 0).UTC()}

// record makes a capture of n random events, a frame for each batch of per; density as in modeltest.Event.
func record(t testing.TB, n, per int, density float64) (file []byte, events []*model.Event) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture")
	w, err := Create(path, header, false)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for len(events) < n {
		batch := make([]*model.Event, per)
		for i := range batch {
			batch[i] = modeltest.Event(rng, density)
		}
		events = append(events, batch...)
		if err := errors.Join(w.Write(batch), w.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(file)) != w.Size() || w.Events() != uint64(len(events)) {
		t.Errorf("the writer says %d bytes and %d events, there are %d and %d", w.Size(), w.Events(), len(file), len(events))
	}
	return file, events
}

// readAll reads what there is, and the error at its end: nil for a whole capture.
func readAll(file []byte) (events []*model.Event, err error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for {
		batch, err := r.Next()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, batch...)
	}
}

func TestRoundTrip(t *testing.T) {
	file, want := record(t, 500, 25, 0.5)
	got, err := readAll(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%d events came back different from %d", len(got), len(want))
	}
	r, _ := NewReader(bytes.NewReader(file))
	if r.Header() != header {
		t.Errorf("header %+v", r.Header())
	}
}

func TestManyEventsMakeSeveralFrames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture")
	w, err := Create(path, header, false)
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]*model.Event, blockEvents+10)
	for i := range batch {
		batch[i] = modeltest.Exec()
	}
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	if w.Events() == 0 {
		t.Error("nothing is in the file before Flush")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file, _ := os.ReadFile(path)
	if got, err := readAll(file); err != nil || len(got) != len(batch) {
		t.Errorf("%d events, %v", len(got), err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestCreateOverwritesOnlyWhenTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, header, false); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	w, err := Create(path, header, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.HasPrefix(got, []byte(magic)) {
		t.Errorf("got %q", got)
	}
}

// Wherever the file is cut, the frames before the cut are played and the error says where it is.
func TestTruncatedAnywhere(t *testing.T) {
	file, want := record(t, 6, 3, 0.15)
	for n := range file {
		got, err := readAll(file[:n])
		var e *Error
		if !errors.As(err, &e) || e.Offset > int64(n) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if n > 200 && !e.Interrupted {
			t.Fatalf("cut at %d is not called interrupted: %v", n, err)
		}
		if !reflect.DeepEqual(got, want[:len(got)]) && len(got) > 0 || len(got)%3 != 0 {
			t.Fatalf("cut at %d: %d events, not those that were written", n, len(got))
		}
	}
	if got, _ := readAll(file[:len(file)-frameHeader-8]); len(got) != len(want) {
		t.Errorf("without its end: %d events of %d", len(got), len(want))
	}
}

// Whichever bit is flipped, it is noticed, and no event comes out that was not written.
func TestCorruptAnywhere(t *testing.T) {
	file, want := record(t, 2, 1, 0.3)
	for n := range file {
		bad := bytes.Clone(file)
		bad[n] ^= 1 << (n % 8)
		got, err := readAll(bad)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("bit flipped in byte %d: %v", n, err)
		}
		if len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Fatalf("bit flipped in byte %d: other events", n)
		}
	}
}

func TestHostileFiles(t *testing.T) {
	good, _ := record(t, 1, 1, 0.5)
	head := good[:prefixSize+frameHeader+int(binary.LittleEndian.Uint32(good[prefixSize+1:]))]
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	events := func(block []byte) []byte {
		return appendFrame(bytes.Clone(head), kindEvents, encoder.EncodeAll(block, nil))
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":         {nil, "no capture"},
		"text":          {[]byte(`{"type":"exec"}`), "no capture"},
		"newer":         {append([]byte(magic), 9, 0), "version 9 is not known"},
		"bad header":    {appendFrame(bytes.Clone(good[:prefixSize]), kindHeader, []byte("{")), "header is damaged"},
		"no header":     {appendFrame(bytes.Clone(good[:prefixSize]), kindEvents, nil), "header is damaged"},
		"4 GiB frame":   {append(bytes.Clone(head), kindEvents, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0), "at most 4194304"},
		"zstd bomb":     {events(make([]byte, 1<<30>>4)), "decompress"},
		"no zstd":       {appendFrame(bytes.Clone(head), kindEvents, []byte("nonsense")), "decompress"},
		"long event":    {events([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}), "longer than its block"},
		"endless size":  {events(bytes.Repeat([]byte{0xff}, 20)), "longer than its block"},
		"bad event":     {events([]byte{2, 0xff, 0xff}), "decode an event"},
		"many events":   {events(make([]byte, maxPerBlock+1)), "more than"},
		"unknown frame": {appendFrame(bytes.Clone(head), 77, nil), "kind 77"},
		"wrong number":  {appendFrame(bytes.Clone(head), kindEnd, make([]byte, 7)), "another number"},
		"missing frame": {appendFrame(bytes.Clone(head), kindEnd, []byte{3, 0, 0, 0, 0, 0, 0, 0}), "some are missing"},
		"trailing":      {append(bytes.Clone(good), 0), "follows the end"},
	} {
		if _, err := readAll(c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// A full disk ends the recording; what was written before is whole.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount a tmpfs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "capture")
	w, err := Create(path, header, false)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		if err = errors.Join(w.Write([]*model.Event{modeltest.Event(rng, 1)}), w.Flush()); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if again := w.Write([]*model.Event{modeltest.Exec()}); !errors.Is(again, syscall.ENOSPC) {
		t.Errorf("after it: %v", again)
	}
	if closed := w.Close(); !errors.Is(closed, syscall.ENOSPC) {
		t.Errorf("close: %v", closed)
	}
	file, _ := os.ReadFile(path)
	got, err := readAll(file)
	var e *Error
	if !errors.As(err, &e) || !e.Interrupted || uint64(len(got)) != w.Events() || len(got) == 0 {
		t.Errorf("%d events of %d, %v", len(got), w.Events(), err)
	}
	if e != nil && e.Offset != int64(len(file)) {
		t.Errorf("a part of a frame is left: %v in a file of %d bytes", err, len(file))
	}
}

func TestReplayKeepsThePace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture")
	w, err := Create(path, header, false)
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms uint64) *model.Event {
		return &model.Event{Type: model.TypeFork, BootTime: 1e9 + ms*1e6, Count: 1}
	}
	old, loss := at(0), &model.Event{Type: model.TypeLoss, Loss: &model.Loss{}}
	old.PreExisting, old.BootTime = true, 5
	if err := errors.Join(w.Write([]*model.Event{old, at(0), at(10), at(10), loss, at(9), at(500), at(1000)}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		speed float64
		want  []time.Duration // when each event was played
	}{
		{1, []time.Duration{0, 0, 10, 10, 10, 10, 500, 1000}},
		{2, []time.Duration{0, 0, 5, 5, 5, 5, 250, 500}},
		{0, []time.Duration{0, 0, 0, 0, 0, 0, 0, 0}},
	} {
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(100, 0)
		var got []time.Duration
		err = Replay(t.Context(), r, ReplayOptions{Speed: c.speed, Now: func() time.Time { return now },
			Sleep: func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil }},
			func(events []*model.Event) error {
				for range events {
					got = append(got, now.Sub(time.Unix(100, 0))/time.Millisecond)
				}
				return nil
			})
		if err = errors.Join(err, r.Close()); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("speed %v: played at %v ms, want %v; %v", c.speed, got, c.want, err)
		}
	}
}

func TestReplayEndsWithItsContext(t *testing.T) {
	file, _ := record(t, 10, 5, 0.5)
	r, _ := NewReader(bytes.NewReader(file))
	ctx, cancel := context.WithCancel(t.Context())
	if err := Replay(ctx, r, ReplayOptions{}, func([]*model.Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("sleep: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	file, _ := record(f, 4, 2, 0.5)
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := readAll(file)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("an error of another kind: %v", err)
		}
	})
}
