// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// fold reports what the kernel folded: for each key the count since the last look. A Sensor's Flush runs in
// one goroutine, so it needs no lock.
type fold struct {
	interval       time.Duration
	evicted        *pipeline.Counter
	counts, folded *ebpf.Map

	next     time.Time
	last     map[bpfVgFoldKey]bpfVgFoldCount // what was reported of the entries that are in the map
	reported uint64                          // sum of all that was reported
}

// Flush implements sensor.Flusher.
func (s *Sensor) Flush(emit func(*model.Event), final bool) error {
	f := &s.fold
	now := time.Now()
	if f.counts == nil || (now.Before(f.next) && !final) {
		return nil
	}
	f.next = now.Add(f.interval)
	return f.flush(emit)
}

func (f *fold) flush(emit func(*model.Event)) error {
	// The sum first: what is folded from here on is in an entry before it is in the sum.
	total, err := f.total()
	if err != nil {
		return err
	}
	boot, err := kernel.BootTime()
	if err != nil {
		return err
	}
	seen := make(map[bpfVgFoldKey]bpfVgFoldCount, len(f.last))
	err = f.each(func(k bpfVgFoldKey, v bpfVgFoldCount) {
		if _, twice := seen[k]; twice {
			return
		}
		before := f.last[k]
		if before.Born != v.Born {
			before.Count = 0
		}
		seen[k] = v
		for n := v.Count - before.Count; n > 0; {
			part := min(n, 1<<32-1)
			n -= part
			f.reported += part
			if ev := foldedEvent(&k, uint32(part), boot); ev != nil {
				emit(ev)
			}
		}
	})
	if err != nil {
		return err
	}
	f.last = seen
	if total > f.reported {
		f.evicted.Add(total - f.reported)
		f.reported = total
	}
	return nil
}

func (f *fold) total() (sum uint64, err error) {
	var perCPU []uint64
	if err := f.folded.Lookup(uint32(0), &perCPU); err != nil {
		return 0, fmt.Errorf("read the sum of folded events: %w", err)
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

const foldBatch = 1024

func (f *fold) each(fn func(bpfVgFoldKey, bpfVgFoldCount)) error {
	keys := make([]bpfVgFoldKey, foldBatch)
	values := make([]bpfVgFoldCount, foldBatch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := f.counts.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			fn(keys[i], values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the folded events: %w", err)
		}
	}
}

func foldedEvent(k *bpfVgFoldKey, count uint32, boot uint64) *model.Event {
	ev := &model.Event{BootTime: boot, Count: count,
		Key: model.ProcessKey{PID: k.Image.Pid, Start: k.Image.Start, Exec: k.Image.Exec}}
	switch kernel.RecordType(k.Type) {
	case kernel.RecordCapability:
		ev.Type = model.TypeCapability
		ev.Capability = &model.Capability{Cap: model.Cap(k.What), Granted: k.Object != 0}
	case kernel.RecordPtrace:
		ev.Type = model.TypePtrace
		ev.Ptrace = &model.Ptrace{Request: ptraceRequest(k.What, 0), TargetPID: k.Object, Error: model.Errno(k.Error)}
	default:
		return nil
	}
	return ev
}
