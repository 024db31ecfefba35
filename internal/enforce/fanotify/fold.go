// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// fold holds verdicts back that repeat, as the kernel's programs do (vg_hit in bpf/policy.h): the first is told at once,
// those within a second of it are counted and told as one.
type fold struct {
	report func(enforce.Report)
	now    func() time.Time
	seed   maphash.Seed

	mu   sync.Mutex
	seen map[foldKey]*folded
}

const (
	foldInterval = time.Second
	foldMax      = 4096 // verdicts that are held apart; more are told at once
)

type foldKey struct {
	pid    uint32
	table  uint16
	rule   uint16
	op     policy.FileOp
	object uint64
}

type folded struct {
	told time.Time
	held uint32
	last enforce.Report
}

func newFold(report func(enforce.Report), now func() time.Time) *fold {
	return &fold{report: report, now: now, seed: maphash.MakeSeed(), seen: make(map[foldKey]*folded)}
}

// add takes a verdict in.
func (f *fold) add(v verdict) {
	r := reportOf(v)
	key := foldKey{pid: v.key.PID, table: v.table, rule: uint16(v.decision.Rule()), op: v.op, object: maphash.String(f.seed, v.path)}
	now := f.now()
	f.mu.Lock()
	s := f.seen[key]
	switch {
	case s != nil && now.Sub(s.told) < foldInterval:
		s.held++
		s.last = r
		f.mu.Unlock()
		return
	case s != nil:
		r.Count += s.held
		s.told, s.held = now, 0
	case len(f.seen) < foldMax:
		f.seen[key] = &folded{told: now}
	}
	f.mu.Unlock()
	f.report(r)
}

// flush tells what was held back for a second, everything if final, and forgets what did not come again.
func (f *fold) flush(final bool) {
	now := f.now()
	var out []enforce.Report
	f.mu.Lock()
	for key, s := range f.seen {
		if !final && now.Sub(s.told) < foldInterval {
			continue
		}
		if s.held > 0 {
			s.last.Count = s.held
			out = append(out, s.last)
		}
		delete(f.seen, key)
	}
	f.mu.Unlock()
	for _, r := range out {
		f.report(r)
	}
}

func reportOf(v verdict) enforce.Report {
	r := enforce.Report{Key: v.key, TID: uint32(v.tid), Count: 1, Table: v.table, Decision: v.decision, Path: v.path,
		Hook: hookOpen, Op: operations()[v.op], Action: model.VerdictDenied}
	if v.exec {
		r.Hook = hookExec
	}
	switch {
	case v.decision.Action() == policy.ActAudit:
		r.Action = model.VerdictAudited
	case v.killed:
		r.Action = model.VerdictKilled
	}
	return r
}
