// SPDX-License-Identifier: Apache-2.0

// Package json exports events as JSON, one a line, to a file or to standard output. In: events of the
// hub. Out: lines in the form of docs/events.md, or another encoding, each whole: a disk that is full costs lines,
// which are counted, and never leaves half of one in the middle. A file can be put aside by size and age.
package json

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Dash as a path writes to standard output.
const Dash = "-"

const (
	flushEvery = 200 * time.Millisecond // how long a line waits at most
	writeAt    = 64 << 10               // bytes that are written without waiting for that
	// maxPending is how many bytes wait for a destination that takes nothing; later lines are lost.
	maxPending = 4 << 20
	// hold is how long the hub may be held up when the queue is full, for a burst that a disk can take.
	hold  = 250 * time.Millisecond
	queue = 65_536 // events
)

// Options configure an Exporter.
type Options struct {
	Path   string    // a file, which is appended to and made with mode 0640, or Dash
	Stdout io.Writer // what Dash stands for
	Encode export.Encoder
	Keep   func(*model.Event) bool // which events are exported; nil takes all
	Rotate Rotation
	Log    *slog.Logger
	Losses *pipeline.Losses
}

// Exporter implements export.Exporter.
type Exporter struct {
	options Options

	mu      sync.Mutex
	out     io.Writer
	file    *os.File  // out, when it is a file of ours
	pending []byte    // whole lines
	lines   int       // in pending
	due     time.Time // when pending is to be written
	torn    bool      // the destination ends in a part of a line
	failing string    // the cause of the failure that was reported, until a write succeeds
	lost    uint64    // while failing
	closed  bool
	size    int64     // of the file
	since   time.Time // when the file was begun
	stuck   bool      // it was reported that a file can't be put aside

	sent, lostAll atomic.Uint64
}

var _ export.Exporter = (*Exporter)(nil)

// New opens the destination. Errors: it can't be opened.
func New(o Options) (*Exporter, error) {
	e := &Exporter{options: o}
	if o.Path == Dash {
		e.out = o.Stdout
		return e, nil
	}
	return e, e.open()
}

// Name implements export.Exporter.
func (e *Exporter) Name() string { return "export json" }

// Subscribe implements export.Exporter.
func (e *Exporter) Subscribe() pipeline.SubscribeOptions {
	return pipeline.SubscribeOptions{Name: e.Name(), Queue: queue, Wait: hold, Keep: e.options.Keep}
}

// Stats implements export.Exporter.
func (e *Exporter) Stats() export.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return export.Stats{Waiting: uint64(e.lines), Bytes: uint64(len(e.pending)), Capacity: maxPending, Sent: e.sent.Load(), Lost: e.lostAll.Load(),
		Trouble: e.failing}
}

// Run implements export.Exporter.
func (e *Exporter) Run(sub *pipeline.Subscription) error {
	for {
		batch, err := e.next(sub)
		e.mu.Lock()
		for _, event := range batch {
			if e.options.Keep != nil && !e.options.Keep(event) {
				continue // a loss of the subscription's own, which no filter has seen
			}
			e.add(event)
			if len(e.pending) >= writeAt && e.failing == "" {
				e.write()
			}
		}
		if len(e.pending) > 0 && !time.Now().Before(e.due) {
			e.write()
		}
		e.mu.Unlock()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return e.close()
		}
	}
}

// Reopen implements export.Exporter. On an error the file before stays in use.
func (e *Exporter) Reopen() error {
	if e.options.Path == Dash {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.write()
	return e.open()
}

// open opens the file in place of the one before. When it ends in a part of a line, as a crash may
// leave it, the next line is not glued to that.
func (e *Exporter) open() error {
	f, err := os.OpenFile(e.options.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open the export file: %w; make its directory or choose another one", err)
	}
	if e.file != nil {
		_ = e.file.Close()
	}
	e.file, e.out, e.torn = f, f, endsMidLine(e.options.Path)
	e.size, e.since = begun(f)
	return nil
}

// endsMidLine reports whether the last byte of a regular file is not the end of a line.
func endsMidLine(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

// next waits for events; while lines wait to be written, no longer than those may.
func (e *Exporter) next(sub *pipeline.Subscription) ([]*model.Event, error) {
	e.mu.Lock()
	waiting, due := len(e.pending) > 0, e.due
	e.mu.Unlock()
	if !waiting {
		return sub.Next(context.Background())
	}
	ctx, cancel := context.WithDeadline(context.Background(), due)
	defer cancel()
	return sub.Next(ctx)
}

// add makes a line of an event, or counts it as lost when too many wait already.
func (e *Exporter) add(event *model.Event) {
	if len(e.pending) >= maxPending {
		e.lose(1)
		return
	}
	if len(e.pending) == 0 {
		e.due = time.Now().Add(flushEvery)
	}
	before := len(e.pending)
	if e.pending = e.options.Encode(e.pending, event); len(e.pending) == before {
		return // the encoding has no word for it
	}
	e.pending = append(e.pending, '\n')
	e.lines++
}

func (e *Exporter) lose(n int) {
	e.options.Losses.Counter("export json", e.failing).Add(uint64(n))
	e.lost += uint64(n)
	e.lostAll.Add(uint64(n))
}

// write writes what is pending. What can't be written stays pending, from the beginning of a line.
func (e *Exporter) write() {
	if len(e.pending) == 0 {
		return
	}
	e.rotate(time.Now())
	err := e.endTornLine()
	n := 0
	if err == nil {
		n, err = e.out.Write(e.pending)
		e.size += int64(n)
	}
	if err != nil {
		whole := bytes.LastIndexByte(e.pending[:n], '\n') + 1
		written := bytes.Count(e.pending[:whole], []byte{'\n'})
		e.lines -= written
		e.sent.Add(uint64(written))
		if n > whole {
			e.torn = !e.cutBack(int64(n - whole))
		}
		e.pending = append(e.pending[:0], e.pending[whole:]...)
		e.due = time.Now().Add(flushEvery)
		e.report(err)
		return
	}
	e.sent.Add(uint64(e.lines))
	e.pending, e.lines = e.pending[:0], 0
	if cap(e.pending) > 4*writeAt {
		e.pending = nil // a burst is over
	}
	if e.failing != "" {
		e.options.Log.Info("events are exported again", "path", e.options.Path, "lost", e.lost)
		e.failing, e.lost = "", 0
	}
}

// cutBack takes the last n bytes off the file, which are the beginning of a line that did not fit. That
// works on a full disk too; it does not on a pipe or a device.
func (e *Exporter) cutBack(n int64) bool {
	if e.file == nil {
		return false
	}
	info, err := e.file.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() >= n && e.file.Truncate(info.Size()-n) == nil
}

// endTornLine ends the part of a line that could not be taken back.
func (e *Exporter) endTornLine() error {
	if !e.torn {
		return nil
	}
	_, err := e.out.Write([]byte{'\n'})
	e.torn = err != nil
	return err
}

// report tells of a failure once for each cause.
func (e *Exporter) report(err error) {
	cause := "write failed"
	var errno syscall.Errno
	if errors.As(err, &errno) {
		cause = errno.Error()
	}
	if e.failing == cause {
		return
	}
	e.failing = cause
	e.options.Log.Error("events can't be exported: they wait, and are lost when too many do", "path", e.options.Path, "error", err)
}

// close writes what is left and closes the file.
func (e *Exporter) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.write()
	e.closed = true
	var err error
	if e.lines > 0 {
		e.lose(e.lines)
		err = fmt.Errorf("export to %s: %d events lost at the end: %s", e.options.Path, e.lines, e.failing)
	}
	if e.file != nil {
		err = errors.Join(err, e.file.Close())
	}
	return err
}
