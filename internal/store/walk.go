// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// walk goes over what a history holds, one event after the other, in the order of positions or against it.
type walk struct {
	reverse bool
	ways    []*way
}

// walk begins a walk over the families that hold the scan's types.
func (h *History) walk(scan segment.Scan) *walk {
	w := &walk{reverse: scan.Reverse}
	if scan.Cache == nil {
		scan.Cache = segment.NewCache()
	}
	for _, f := range h.families {
		if scan.Types != nil && !slices.ContainsFunc(f.Types, func(t model.Type) bool { return scan.Types[t] }) {
			continue
		}
		wy := &way{h: h, f: h.folders[f.Name], scan: scan}
		wy.step()
		w.ways = append(w.ways, wy)
	}
	return w
}

func (w *walk) close() {
	for _, wy := range w.ways {
		wy.closeFile()
	}
}

// next is the next event; nil at the end.
func (w *walk) next() (*model.Event, segment.Position) {
	var first *way
	for _, wy := range w.ways {
		if wy.event != nil && (first == nil || (wy.at.Compare(first.at) < 0) != w.reverse) {
			first = wy
		}
	}
	if first == nil {
		return nil, segment.Position{}
	}
	e, at := first.event, first.at
	first.step()
	return e, at
}

// way is the walk through one family.
type way struct {
	h    *History
	f    *folder
	scan segment.Scan // From and To move on as the way is gone

	reading *stored // the open segment
	file    *openSegment
	cursor  *segment.Cursor
	read    int64 // rows read of it

	pending []*model.Event // what waits to be written, as far as the scan asks for it
	looked  bool           // pending was taken

	event *model.Event // the next one, read ahead; nil at the end
	at    segment.Position
}

// step reads one event ahead. Segments come before what waits to be written, or after it against the order.
func (w *way) step() {
	w.event = nil
	if w.scan.Reverse && w.stepPending() {
		return
	}
	for w.reading != nil || w.open() {
		if w.event != nil { // in place of a segment that does not open
			return
		}
		e, at, err := w.cursor.Next()
		if err == nil {
			w.event, w.at = e, at
			w.read++
			return
		}
		if !errors.Is(err, io.EOF) {
			w.damaged(err)
			return
		}
		w.leave()
	}
	if !w.scan.Reverse {
		w.stepPending()
	}
}

// open opens the next segment; false when there is none. It is looked up by position each time: segments are merged and
// removed while a walk goes on.
func (w *way) open() bool {
	for {
		s := w.nextStored()
		if s == nil {
			return false
		}
		file, err := openFile(s.path, w.h.families)
		if errors.Is(err, fs.ErrNotExist) && w.gone(s) {
			continue // merged or too old by now: look again
		}
		w.reading, w.read = s, 0
		if err != nil {
			w.damaged(err)
			return true
		}
		w.file, w.cursor = file, file.Scan(w.scan)
		return true
	}
}

// damaged puts a loss in the place of what a segment still held, and leaves it.
func (w *way) damaged(err error) {
	s := w.reading
	w.h.cannotRead(s.path, err)
	at := s.Last
	if w.scan.Reverse {
		at = s.First
	}
	w.event, w.at = &model.Event{Type: model.TypeLoss, Time: s.Until, Seq: at.Seq, Count: 1, Loss: &model.Loss{Stage: "store",
		Reason: fmt.Sprintf("segment %s/%s cannot be read", w.f.family.Name, fileName(s.Info)), Count: uint64(max(0, s.Rows-w.read))}}, at
	w.leave()
}

// leave goes behind the segment that was read.
func (w *way) leave() {
	if w.scan.Reverse {
		w.scan.To = w.reading.First
	} else {
		w.scan.From = w.reading.Last.Next()
	}
	w.closeFile()
}

func (w *way) closeFile() {
	if w.file != nil {
		w.cursor.Close()
		w.file.Close()
	}
	w.reading, w.file, w.cursor = nil, nil, nil
}

// gone reports whether a segment is no longer entered.
func (w *way) gone(s *stored) bool {
	w.h.mu.RLock()
	defer w.h.mu.RUnlock()
	return !slices.Contains(w.f.segments, s)
}

// nextStored is the next segment that the scan has to read; nil when there is none: then what waits to be written is taken
// in the same moment, so that nothing is missed, or read twice, when it is written.
func (w *way) nextStored() *stored {
	w.h.mu.RLock()
	defer w.h.mu.RUnlock()
	list := w.f.segments
	if w.scan.Reverse {
		i := len(list)
		if !w.scan.To.IsZero() {
			i = sort.Search(len(list), func(i int) bool { return list[i].First.Compare(w.scan.To) >= 0 })
		}
		for i--; i >= 0 && list[i].Last.Compare(w.scan.From) >= 0; i-- {
			if w.wanted(list[i]) {
				return list[i]
			}
		}
		return nil
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].Last.Compare(w.scan.From) >= 0 })
	for ; i < len(list) && (w.scan.To.IsZero() || list[i].First.Compare(w.scan.To) < 0); i++ {
		if w.wanted(list[i]) {
			return list[i]
		}
	}
	w.takePending()
	return nil
}

// wanted reports whether a segment can have events of the scan's time.
func (w *way) wanted(s *stored) bool {
	return (w.scan.Since.IsZero() || !s.Until.Before(w.scan.Since)) && (w.scan.Until.IsZero() || s.Since.Before(w.scan.Until))
}

// takePending takes what waits to be written, once; the caller holds the lock.
func (w *way) takePending() {
	if w.looked {
		return
	}
	w.looked = true
	for _, e := range w.h.pending {
		at := segment.Position{Run: w.h.run, Seq: e.Seq}
		if at.Compare(w.scan.From) >= 0 && (w.scan.To.IsZero() || at.Compare(w.scan.To) < 0) && slices.Contains(w.f.family.Types, e.Type) {
			w.pending = append(w.pending, e)
		}
	}
	if w.scan.Reverse && len(w.pending) > 0 {
		w.scan.To = segment.Position{Run: w.h.run, Seq: w.pending[0].Seq} // it may be written before segments are read
	}
}

// stepPending reads one of the events ahead that wait to be written; false when there is none.
func (w *way) stepPending() bool {
	if !w.looked {
		w.h.mu.RLock()
		w.takePending()
		w.h.mu.RUnlock()
	}
	if len(w.pending) == 0 {
		return false
	}
	next, rest := 0, w.pending[1:]
	if w.scan.Reverse {
		next, rest = len(w.pending)-1, w.pending[:len(w.pending)-1]
	}
	w.event, w.pending = w.pending[next], rest
	w.at = segment.Position{Run: w.h.run, Seq: w.event.Seq}
	return true
}
