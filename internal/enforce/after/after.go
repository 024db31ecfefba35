// SPDX-License-Identifier: Apache-2.0

// Package after kills a process for what nothing on this kernel could deny. In: enriched events, the tables in force, and
// which process is under which (vg_subjects). Out: SIGKILL to the image that did it, and verdicts. It has happened by then:
// the agent hears of it up to 100 ms later.
package after

import (
	"context"
	"slices"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/model"
)

// Backend is the back-end. Make it with New.
type Backend struct {
	judge enforce.Afterwards
	ops   []model.Operation // attached
	tell  enforce.Kernel
	loads []enforce.Loaded
}

// New makes one that carries nothing yet.
func New() *Backend { return &Backend{} }

// Name is "after".
func (*Backend) Name() string { return "after" }

// Carries says yes to changes of names and attributes, capabilities and privileged operations, when they have happened.
func (*Backend) Carries(op model.Operation) (enforce.Carried, error) {
	c := enforce.Carried{Rung: enforce.AfterwardsHook, Guarantee: model.KilledAfter, Limits: []string{
		"it has happened: the agent learns of it up to 100 ms later, and what the process did meanwhile has happened too",
		"ended before: a process that has ended or executes another program by then is not killed; it is reported",
	}}
	switch op {
	case model.OpModify:
		c.Limits = append(c.Limits, "paths: of a change of a name they are those that the caller gave, resolved; in a chroot they begin at its root",
			"io_uring, 32-bit programs: their changes of names are not seen")
	case model.OpCapability:
		c.Limits = append(c.Limits, "capabilities: on some kernels a check that only asks whether a capability is there counts as its use")
	case model.OpPtrace, model.OpBPF, model.OpMount, model.OpModule:
	default:
		return enforce.Carried{}, enforce.ErrOtherOperations
	}
	return c, nil
}

// Attach makes it carry operations.
func (b *Backend) Attach(_ context.Context, k enforce.Kernel, ops []model.Operation) error {
	b.tell, b.ops = k, slices.Clone(ops)
	b.judge.Set(b.tell, b.ops, b.loads)
	return nil
}

// Load puts tables where the next event finds them.
func (b *Backend) Load(_ context.Context, tables []enforce.Loaded) error {
	b.loads = tables
	b.judge.Set(b.tell, b.ops, tables)
	return nil
}

// Learn judges what an enriched event tells. For one goroutine, which is not that of the other methods.
func (b *Backend) Learn(ev *model.Event) error {
	b.judge.See(ev)
	return nil
}

// Close carries nothing any more.
func (b *Backend) Close() error { return b.Attach(context.Background(), enforce.Kernel{}, nil) }
