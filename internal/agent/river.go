// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/process"
	"github.com/vigie-io/vigie/internal/sensor"
)

// river carries records up: decode, enrich, number, publish. All of it runs in one goroutine, so that the order of
// the kernel is the order of the events; only counters are read from outside.
type river struct {
	log      *slog.Logger
	clock    *clock
	table    *process.Table
	losses   *pipeline.Losses
	annotate func(*model.Event) // what more is known of an event, after enrich; never nil
	publish  func([]*model.Event)
	// observers see every event, after it was annotated.
	observers []func(*model.Event)
	// sources give out events that are not the kernel's records, before each flush.
	sources []func(emit func(*model.Event))
	detect  func(*model.Event) []*model.Event // the alerts that an event raises; may be nil
	tidied  func()                            // called after each housekeeping; may be nil
	final   bool                              // the next flush is the last

	decoders  [kernel.RecordTypes]sensor.Decode
	malformed *pipeline.Counter
	seq       uint64
	batch     []*model.Event
	found     []*model.Event                // by inventories, until settle
	reported  map[pipeline.LossKey]uint64   // losses that were told as events so far
	counts    map[model.Type]*atomic.Uint64 // of newCounts: published so far
}

// newCounts has a counter for each type of event.
func newCounts() map[model.Type]*atomic.Uint64 {
	counts := make(map[model.Type]*atomic.Uint64)
	for _, t := range model.Types() {
		counts[t] = new(atomic.Uint64)
	}
	return counts
}

func (r *river) register(s sensor.Sensor) error {
	for typ, decode := range s.Decoders() {
		if r.decoders[typ] != nil {
			return fmt.Errorf("sensor %s: record type %d has a decoder already", s.Name(), typ)
		}
		r.decoders[typ] = decode
	}
	return nil
}

// record takes one record of the kernel in.
func (r *river) record(rec kernel.Record) {
	if ev := r.decode(rec); ev != nil {
		r.event(ev)
	}
}

// decode makes an event of a record; nil when there is none in it.
func (r *river) decode(rec kernel.Record) *model.Event {
	h := rec.Header()
	if h == nil || int(h.Type) >= len(r.decoders) || r.decoders[h.Type] == nil {
		r.malformed.Add(1)
		return nil
	}
	ev := &model.Event{BootTime: h.Time, Time: r.clock.wall(h.Time), Key: h.Key(), TID: h.Tid, Count: h.Count,
		PreExisting: h.Flags&kernel.FlagPreExisting != 0}
	keep, err := r.decoders[h.Type](rec, ev)
	if err != nil {
		r.malformed.Add(1)
		r.log.Debug("record dropped", "type", h.Type, "bytes", len(rec), "error", err)
		return nil
	}
	if !keep {
		return nil
	}
	return ev
}

// event takes an event in that a decoder or a flush made.
func (r *river) event(ev *model.Event) {
	if ev.Time.IsZero() && ev.BootTime != 0 {
		ev.Time = r.clock.wall(ev.BootTime)
	}
	if ev.Flow != nil {
		r.family(ev) // the flow table knows its processes
	} else if !r.table.Enrich(ev) {
		return
	}
	r.annotate(ev)
	for _, see := range r.observers {
		see(ev)
	}
	r.batch = append(r.batch, ev)
}

// family adds the parent of a process that an event names already.
func (r *river) family(ev *model.Event) {
	if ev.Process != nil {
		ev.Parent = r.table.Get(ev.Process.ParentKey)
	}
}

// flush publishes what has gathered.
func (r *river) flush() {
	for _, s := range r.sources {
		s(r.event)
	}
	if len(r.batch) == 0 {
		r.clock.sync()
		return
	}
	batch := r.number(r.batch)
	r.publish(batch)
	// The slice belongs to the subscribers now. The next batch is likely as long as this one.
	r.batch = make([]*model.Event, 0, min(len(batch)+len(batch)/4, 4096))
	r.clock.sync()
}

// number gives each event its number, and puts the alerts that it raises right behind it.
func (r *river) number(batch []*model.Event) []*model.Event {
	take := func(ev *model.Event) {
		r.seq++
		ev.Seq = r.seq
		r.count(ev.Type)
	}
	if r.detect == nil {
		for _, ev := range batch {
			take(ev)
		}
		return batch
	}
	out := make([]*model.Event, 0, len(batch)+8)
	for _, ev := range batch {
		take(ev)
		out = append(out, ev)
		for _, alert := range r.detect(ev) {
			take(alert)
			out = append(out, alert)
		}
	}
	return out
}

func (r *river) count(t model.Type) {
	if c := r.counts[t]; c != nil {
		c.Add(1)
	}
}

// eventCounts is the number of events published so far, by type.
func (r *river) eventCounts() map[model.Type]uint64 {
	out := make(map[model.Type]uint64, len(r.counts))
	for t, c := range r.counts {
		out[t] = c.Load()
	}
	return out
}

// reportLosses makes an event of every loss count that has grown. What a subscriber lost is told in its own
// stream (pipeline.Subscription), not in everybody's.
func (r *river) reportLosses(now time.Time) {
	for _, c := range r.losses.Snapshot() {
		told := r.reported[c.LossKey]
		if c.Count <= told {
			continue
		}
		r.reported[c.LossKey] = c.Count
		r.log.Warn("events were lost", "stage", c.Stage, "reason", c.Reason, "count", c.Count-told, "total", c.Count)
		if c.Stage == "subscriber" {
			continue
		}
		r.event(&model.Event{Type: model.TypeLoss, Time: now, Count: 1,
			Loss: &model.Loss{Stage: c.Stage, Reason: c.Reason, Count: c.Count - told, Total: c.Count}})
	}
}

// run reads the host's rings until ctx ends, and what is left in them then.
func (r *river) run(ctx context.Context, h *kernel.Host, sensors []sensor.Sensor) error {
	const housekeeping = time.Second
	next := time.Now().Add(housekeeping)
	err := h.Read(ctx, r.record, func() {
		if now := time.Now(); now.After(next) {
			next = now.Add(housekeeping)
			r.tidy(h, sensors, now, false)
		}
		r.flush()
	})
	r.tidy(h, sensors, time.Now(), true)
	r.final = true
	r.flush()
	return err
}

// tidy asks the sensors for what they hold back and reports losses.
func (r *river) tidy(h *kernel.Host, sensors []sensor.Sensor, now time.Time, final bool) {
	for _, s := range sensors {
		f, ok := s.(sensor.Flusher)
		if !ok {
			continue
		}
		if err := f.Flush(r.event, final); err != nil {
			r.log.Warn("a sensor could not report what it held back", "sensor", s.Name(), "error", err)
		}
	}
	if err := h.ReadLosses(); err != nil {
		r.log.Warn("loss counters are not up to date", "error", err)
	}
	r.reportLosses(now)
	if r.tidied != nil {
		r.tidied()
	}
}

// inventory collects what existed before a sensor was started. It is called right after the start: what ends in
// between is in no list.
func (r *river) inventory(ctx context.Context, h *kernel.Host, s sensor.Sensor) error {
	inv, ok := s.(sensor.Inventory)
	if !ok {
		return nil
	}
	err := inv.Inventory(ctx, h, func(rec kernel.Record) error {
		if ev := r.decode(rec); ev != nil {
			r.found = append(r.found, ev)
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("list what existed before: %w", err)
	}
	return nil
}

// settle takes in what the inventories found, before anything that happened since. fill completes a process.
func (r *river) settle(fill func(*model.Process)) {
	// The kernel lists by pid; parents first is what the table wants. What is no process comes after all of them.
	slices.SortStableFunc(r.found, func(a, b *model.Event) int {
		if a.Type != b.Type && (a.Type == model.TypeExec || b.Type == model.TypeExec) {
			if a.Type == model.TypeExec {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Key.Start, b.Key.Start)
	})
	for _, ev := range r.found {
		if ev.Type == model.TypeExec {
			fill(ev.Process)
		}
		r.event(ev)
	}
	r.found = nil
	r.table.Settle(r.clock.boottime())
	r.flush()
}

// inherit takes in what happened since the agent before this one stopped.
func (r *river) inherit(got *kernel.Inherited) {
	if got == nil {
		return
	}
	for _, rec := range got.Records {
		r.record(rec)
	}
	for _, l := range got.Losses {
		r.losses.Counter(l.Stage, l.Reason).Add(l.Count)
	}
	if got.Foreign > 0 {
		r.losses.Counter("handover", "records of another version").Add(uint64(got.Foreign))
	}
	if len(got.Records) > 0 {
		r.log.Info("took over from the agent before", "records", len(got.Records))
	}
	r.flush()
}
