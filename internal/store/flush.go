// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"io"
	"math/bits"
	"os"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// flush writes what waits, a segment for each family. What can't be written waits for the next flush, and is lost and
// counted when too much waits. It returns how many wait then.
func (h *History) flush() int {
	h.flushing.Lock()
	defer h.flushing.Unlock()
	h.mu.RLock()
	waiting := h.pending
	h.mu.RUnlock()
	if len(waiting) == 0 {
		return 0
	}
	o := segment.Options{Boot: h.c.Boot, Run: h.run, Agent: h.c.Agent, Packer: &h.packer}
	var failed error
	written := make(map[*segment.Family]*stored)
	byFamily := h.split(waiting)
	for family, events := range byFamily {
		s, err := writeFile(h.folders[family.Name].dir, func(w io.Writer) (segment.Info, error) {
			return segment.Write(w, family, o, events)
		})
		if s != nil { // also one whose name may not outlive a crash yet
			written[family] = s
		}
		if err != nil {
			failed = err
			h.c.Log.Error("history could not be written", "family", family.Name, "events", len(events), "error", err)
		}
	}
	left := h.settle(waiting, byFamily, written, failed)
	h.retain()
	h.signalMerge()
	return left
}

// split sorts events by family.
func (h *History) split(events []*model.Event) map[*segment.Family][]*model.Event {
	byType := make(map[model.Type]*segment.Family)
	out := make(map[*segment.Family][]*model.Event)
	for _, e := range events {
		f, ok := byType[e.Type]
		if !ok {
			f = segment.FamilyOf(h.families, e.Type)
			byType[e.Type] = f
		}
		if f != nil {
			out[f] = append(out[f], e)
		}
	}
	return out
}

// settle enters segments that were written, and keeps the rest waiting if that is not too much; it returns how much.
func (h *History) settle(flushed []*model.Event, byFamily map[*segment.Family][]*model.Event, written map[*segment.Family]*stored, failed error) int {
	var left []*model.Event
	for f, events := range byFamily {
		if written[f] == nil {
			left = append(left, events...)
		}
	}
	slices.SortFunc(left, func(a, b *model.Event) int { return int(int64(a.Seq - b.Seq)) })
	lost := max(0, len(left)-flushEvents)
	h.mu.Lock()
	defer h.mu.Unlock()
	for f, s := range written {
		folder := h.folders[f.Name]
		folder.segments = append(slices.Clip(folder.segments), s)
	}
	// What arrived meanwhile stands behind what was flushed.
	h.pending = slices.Concat(left[lost:], h.pending[len(flushed):])
	h.unwritten.Add(uint64(lost))
	h.trouble.unwritten += uint64(lost)
	h.trouble.write = failed
	return len(left) - lost
}

// retain removes the oldest segments until what is left is within the bounds.
func (h *History) retain() {
	tooOld := h.c.Now().Add(-h.c.MaxAge)
	for {
		h.mu.Lock()
		var total int64
		var oldest *stored
		var in *folder
		for _, f := range h.folders {
			for i, s := range f.segments {
				total += s.bytes
				if i == 0 && (oldest == nil || s.Until.Before(oldest.Until)) {
					oldest, in = s, f
				}
			}
		}
		if oldest == nil || total <= h.c.MaxSize && !oldest.Until.Before(tooOld) {
			h.mu.Unlock()
			return
		}
		in.segments = slices.Clone(in.segments[1:])
		if oldest.Last.Run == h.run && oldest.Until.After(h.cut) {
			h.cut = oldest.Until.Add(1)
		}
		h.mu.Unlock()
		if err := os.Remove(oldest.path); err != nil {
			h.c.Log.Warn("a segment that is too old stays", "segment", oldest.path, "error", err)
		}
	}
}

// Merging: segments of neighbours of like size become one, so that a day is some hundred files and not some thousand, and
// each row is written about three times more.
const (
	mergeCount = 8
	mergeRows  = 512 << 10 // segments of more rows are large enough
)

func (h *History) signalMerge() {
	select {
	case h.merge <- struct{}{}:
	default:
	}
}

// mergeUntil merges what there is to merge, whenever something was written, until ctx ends.
func (h *History) mergeUntil(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.merge:
		}
		for _, f := range h.folders {
			for ctx.Err() == nil && h.mergeOne(f) {
			}
		}
	}
}

// mergeOne merges one group of segments; false when there is none.
func (h *History) mergeOne(f *folder) bool {
	h.merging.Lock()
	defer h.merging.Unlock()
	h.mu.RLock()
	group := mergeGroup(f.segments)
	h.mu.RUnlock()
	if group == nil {
		return false
	}
	start := h.c.Now()
	merged, err := h.mergeFiles(f, group)
	if err != nil {
		h.c.Log.Warn("segments of history stay apart", "family", f.family.Name, "error", err)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, s := range group {
			s.apart = true
		}
		return true
	}
	h.mu.Lock()
	at := slices.Index(f.segments, group[0])
	if at < 0 || at+len(group) > len(f.segments) || !slices.Equal(f.segments[at:at+len(group)], group) {
		// Retention took a part of it away meanwhile.
		h.mu.Unlock()
		return h.remove([]*stored{merged})
	}
	f.segments = slices.Concat(f.segments[:at], []*stored{merged}, f.segments[at+len(group):])
	h.mu.Unlock()
	h.c.Log.Debug("merged segments", "family", f.family.Name, "rows", merged.Rows, "bytes", merged.bytes, "took", h.c.Now().Sub(start).Round(time.Millisecond))
	return h.remove(group)
}

// remove removes files of segments that are no longer entered; always true.
func (h *History) remove(list []*stored) bool {
	for _, s := range list {
		if err := os.Remove(s.path); err != nil {
			h.c.Log.Warn("a segment that was merged stays", "segment", s.path, "error", err)
		}
	}
	return true
}

// mergeGroup finds the youngest mergeCount neighbours of like size. A segment of a younger agent is left alone: it may hold
// what is not known here.
func mergeGroup(segments []*stored) []*stored {
	for end := len(segments); end >= mergeCount; end-- {
		group := segments[end-mergeCount : end]
		var rows int64
		like := true
		for _, s := range group {
			rows += s.Rows
			like = like && tier(s.Rows) == tier(group[0].Rows) && s.Version <= segment.Version && !s.apart
		}
		if like && rows <= mergeRows {
			return group
		}
	}
	return nil
}

// tier is how large a segment is: each eight times the one before, from 1,000 rows.
func tier(rows int64) int { return bits.Len64(uint64(max(rows, 0))>>10) / 3 }

func (h *History) mergeFiles(f *folder, group []*stored) (*stored, error) {
	var sources []*segment.Segment
	for _, s := range group {
		file, err := openFile(s.path, h.families)
		if err != nil {
			h.cannotRead(s.path, err)
			return nil, err
		}
		defer file.Close()
		sources = append(sources, file.Segment)
	}
	return writeFile(f.dir, func(w io.Writer) (segment.Info, error) {
		return segment.Merge(w, segment.Options{Agent: h.c.Agent}, sources)
	})
}
