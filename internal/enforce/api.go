// SPDX-License-Identifier: Apache-2.0

// Package enforce puts compiled policies in force. In: the tables of internal/policy, and which processes they select. Out:
// things that do not happen, and verdicts as events.
//
// The kernel side has three parts. subject/ keeps for every process the tables that judge it. The back-ends, one folder
// each, stand at the hooks, look up what the tables say about what a process does, and carry it out; several stand side
// by side, and which one carries which operation is chosen here by what the kernel lets load (the ladder of
// docs/ARCHITECTURE.md). This package loads tables into maps, puts them in force in one step, and reads hits.
package enforce

import (
	"context"
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// Carried says what carries a rule, or an operation.
type Carried struct {
	Rung      string // "lsm file_open", "fanotify OPEN_PERM"; empty for a rule that needs none, because it only permits
	Guarantee model.Guarantee
	Limits    []string // what the rung does not cover
}

// Status is how a policy is doing.
type Status struct {
	Hits      []uint64 // by rule number
	Processes uint32   // that it selects now
	Message   string   // what is wrong; empty when nothing is
}

// ErrOtherOperations is what a back-end answers about an operation that it has nothing to do with, on any kernel.
var ErrOtherOperations = errors.New("it is about other operations")

// Backend is one way to carry decisions out. Its methods are called by one goroutine.
type Backend interface {
	// Name is the back-end's folder: "cgroup", "fanotify", "lsm", …
	Name() string
	// Carries says how it would carry an operation on this kernel. Error: ErrOtherOperations, or why it cannot, in words for a user.
	Carries(op model.Operation) (Carried, error)
	// Attach makes it carry these operations and no others; what it carried before it goes on carrying without a gap.
	// Before it returns, every hook is in place. No operation detaches it.
	Attach(ctx context.Context, k Kernel, ops []model.Operation) error
	// Load is told of all tables that are, or are about to be, in force, before a process is judged by a new one. It is
	// told again, without the old ones, when no process is judged by these any more.
	Load(ctx context.Context, tables []Loaded) error
	// Close takes everything back.
	Close() error
}

// Loaded is a table and the number that it has in the kernel.
type Loaded struct {
	Number uint16
	Table  *policy.Table
}

// Kernel is what a back-end is given. The maps of bpf/policy.h are shared by Host: an object that includes it and is loaded
// by Host.Load gets them.
type Kernel struct {
	Host *kernel.Host
	// Subjects is vg_subjects, for back-ends in user space: the entry of a process by its pid.
	Subjects *ebpf.Map
	// Hit counts a hit of a rule.
	Hit func(table uint16, rule int)
	// Report hands over a verdict of a back-end in user space. It does not block; what its queue cannot hold is counted.
	Report func(Report)
}

// Report is a verdict of a back-end in user space, which counts its hit in vg_hits itself (Kernel.Hit).
type Report struct {
	Key       model.ProcessKey // of the process
	TID       uint32
	Count     uint32 // how many alike were held back, and this one; 0 is 1
	Table     uint16
	Decision  policy.Decision
	Action    model.VerdictAction
	Guarantee model.Guarantee // DeniedBefore when empty, SeenOnly when audited
	Hook      string
	Op        model.Operation
	Path      string
	Subject   string // what has no path: a capability, a module

	Protocol      string
	Local, Remote netip.AddrPort
}
