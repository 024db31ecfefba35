// SPDX-License-Identifier: Apache-2.0

// Package filter decides which events and processes somebody wants to see: the same way for the API,
// the CLI and the exporters. In: a Spec, as flags or a request hold it. Out: a compiled Filter, or an
// error that names the field. Evaluating is pure, but for the process table, which is asked who
// descends from whom.
package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// Spec says what to keep. The zero Spec keeps everything. Values of one field are alternatives,
// different fields must all match. The fields are those of vigie.v1.Filter, which documents them.
type Spec struct {
	Types         []string
	WorkloadNames []string
	WorkloadKinds []string
	WorkloadIDs   []string
	Binaries      []string
	PIDs          []uint32
	PIDTrees      []uint32
	ExecIDs       []string
	Paths         []string
	Addresses     []string
	Names         []string
	UIDs          []uint32
	Since, Until  time.Time
	Where         string
}

// FromProto is the Spec that a request carries; nil is the zero Spec.
func FromProto(m *pb.Filter) Spec {
	s := Spec{Types: m.GetTypes(), WorkloadNames: m.GetWorkloadNames(), WorkloadKinds: m.GetWorkloadKinds(),
		WorkloadIDs: m.GetWorkloadIds(), Binaries: m.GetBinaries(), PIDs: m.GetPids(), PIDTrees: m.GetPidTrees(),
		ExecIDs: m.GetExecIds(), Paths: m.GetPaths(), Addresses: m.GetAddresses(), Names: m.GetNames(),
		UIDs: m.GetUids(), Where: m.GetWhere()}
	if t := m.GetSince(); t != nil {
		s.Since = t.AsTime()
	}
	if t := m.GetUntil(); t != nil {
		s.Until = t.AsTime()
	}
	return s
}

// Processes is what a filter asks of the process table.
type Processes interface {
	// Descends reports whether the process with pid is p itself or one of p's ancestors.
	Descends(p *model.Process, pid uint32) bool
}

// Options are what a filter needs from around it.
type Options struct {
	// Processes answers Spec.PIDTrees; without it they are refused.
	Processes Processes
	// Boot is the beginning of the boot id, as exec_ids carry it.
	Boot string
}

// FieldError says which field of a Spec makes no sense, and why.
type FieldError struct {
	Field string // as in vigie.v1.Filter
	Err   error
}

// Error is "filter FIELD: why".
func (e *FieldError) Error() string { return "filter " + e.Field + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// MaxValues bounds the values of one field: a filter runs for every event.
const MaxValues = 256

// Filter is a compiled Spec. Safe for concurrent use; a nil Filter keeps everything.
type Filter struct {
	types   []model.Type                // few: looking through them is quicker than hashing one; nil for all
	noFlows bool                        // nobody asked for them: they say again what connect, accept and close say
	process []func(*model.Process) bool // each must hold
	event   []func(*model.Event) bool   // each must hold
	// eventOnly is the first field that only events can answer; empty when there is none.
	eventOnly    string
	since, until time.Time
	where        *where
	tests        []Test
}

// Compile checks and prepares s. Errors are *FieldError.
func Compile(s Spec, o Options) (*Filter, error) {
	f := &Filter{since: s.Since, until: s.Until, noFlows: len(s.Types) == 0 && !strings.Contains(s.Where, string(model.TypeFlow))}
	for _, step := range []struct {
		field string
		n     int
		add   func() error
	}{
		{"types", len(s.Types), func() error { return f.addTypes(s.Types) }},
		{"workload_names", len(s.WorkloadNames), func() error { return f.addWorkloadNames(s.WorkloadNames) }},
		{"workload_kinds", len(s.WorkloadKinds), func() error { return f.addWorkloadKinds(s.WorkloadKinds) }},
		{"workload_ids", len(s.WorkloadIDs), func() error { return f.addWorkloadIDs(s.WorkloadIDs) }},
		{"binaries", len(s.Binaries), func() error { return f.addBinaries(s.Binaries) }},
		{"pids", len(s.PIDs), func() error { return f.addPIDs(s.PIDs) }},
		{"pid_trees", len(s.PIDTrees), func() error { return f.addPIDTrees(s.PIDTrees, o.Processes) }},
		{"exec_ids", len(s.ExecIDs), func() error { return f.addExecIDs(s.ExecIDs) }},
		{"uids", len(s.UIDs), func() error { return f.addUIDs(s.UIDs) }},
		{"paths", len(s.Paths), func() error { return f.addPaths(s.Paths) }},
		{"addresses", len(s.Addresses), func() error { return f.addAddresses(s.Addresses) }},
		{"names", len(s.Names), func() error { return f.addNames(s.Names) }},
		{"where", len(s.Where), func() (err error) { f.where, err = compileExpression(s.Where, o.Boot); return err }},
	} {
		if step.n == 0 {
			continue
		}
		if step.n > MaxValues && step.field != "where" {
			return nil, &FieldError{step.field, fmt.Errorf("has %d values, at most %d are allowed", step.n, MaxValues)}
		}
		if err := step.add(); err != nil {
			return nil, &FieldError{step.field, err}
		}
		if f.eventOnly == "" && slices.Contains([]string{"types", "paths", "addresses", "names"}, step.field) {
			f.eventOnly = step.field
		}
	}
	switch {
	case f.eventOnly != "":
	case !s.Since.IsZero():
		f.eventOnly = "since"
	case !s.Until.IsZero():
		f.eventOnly = "until"
	}
	if !s.Until.IsZero() && !s.Since.IsZero() && !s.Since.Before(s.Until) {
		return nil, &FieldError{"until", fmt.Errorf("%s is not after since %s", s.Until.Format(time.RFC3339), s.Since.Format(time.RFC3339))}
	}
	return f, nil
}

// Keep reports whether e is wanted.
func (f *Filter) Keep(e *model.Event) bool { return f.KeepCheap(e) && f.KeepWhere(e) }

// KeepCheap is Keep without the expression: quick enough for the publisher's goroutine. Whoever uses it
// calls KeepWhere later, in a goroutine of its own.
func (f *Filter) KeepCheap(e *model.Event) bool {
	if f == nil {
		return true
	}
	if f.types != nil && !slices.Contains(f.types, e.Type) || f.noFlows && e.Type == model.TypeFlow {
		return false
	}
	if !f.since.IsZero() && e.Time.Before(f.since) || !f.until.IsZero() && !e.Time.Before(f.until) {
		return false
	}
	if e.Type == model.TypeLoss {
		return true // whoever watches one workload still learns that something was missed
	}
	if len(f.process) > 0 && !f.keepProcess(e) {
		return false
	}
	for _, holds := range f.event {
		if !holds(e) {
			return false
		}
	}
	return true
}

// keepProcess asks about the process of e, or about its bare key when nothing else is known; of a flow, about that of
// either end.
func (f *Filter) keepProcess(e *model.Event) bool {
	if e.Flow != nil {
		return f.keepEnd(&e.Flow.Source) || f.keepEnd(&e.Flow.Destination)
	}
	p := e.Process
	if p == nil {
		if e.Key.IsZero() {
			return false
		}
		p = &model.Process{Key: e.Key}
	}
	return f.keepAll(p)
}

func (f *Filter) keepEnd(e *model.Endpoint) bool {
	switch {
	case e.Process != nil && e.Process.Workload == nil && e.Workload != nil, e.Process == nil && e.Workload != nil:
		var p model.Process
		if e.Process != nil {
			p = *e.Process
		}
		p.Workload = e.Workload
		return f.keepAll(&p)
	case e.Process != nil:
		return f.keepAll(e.Process)
	}
	return false
}

func (f *Filter) keepAll(p *model.Process) bool {
	for _, holds := range f.process {
		if !holds(p) {
			return false
		}
	}
	return true
}

// KeepWhere reports whether the expression holds for e; true when there is none. An expression that
// can't be evaluated for e, say an index beyond the arguments, does not hold.
func (f *Filter) KeepWhere(e *model.Event) bool {
	return f == nil || f.where == nil || e.Type == model.TypeLoss || f.where.holds(e)
}

// KeepProcess reports whether p is wanted; see ForProcesses.
func (f *Filter) KeepProcess(p *model.Process) bool {
	if f == nil {
		return true
	}
	for _, holds := range f.process {
		if !holds(p) {
			return false
		}
	}
	return f.where == nil || f.where.holds(&model.Event{Key: p.Key, Process: p})
}

// ForProcesses is an error when the filter asks something that only events can answer.
func (f *Filter) ForProcesses() error {
	if f == nil || f.eventOnly == "" {
		return nil
	}
	return &FieldError{f.eventOnly, errors.New("applies to events, not to processes: leave it out")}
}

func (f *Filter) addTypes(types []string) error {
	f.types = make([]model.Type, 0, len(types))
	for _, s := range types {
		t := model.Type(s)
		if !slices.Contains(model.Types(), t) {
			return fmt.Errorf("%q is no event type: use %s", s, join(model.Types()))
		}
		f.types = append(f.types, t)
	}
	return nil
}

func (f *Filter) addWorkloadNames(globs []string) error {
	match, err := compileGlobs(globs, nameGlob)
	if err != nil {
		return err
	}
	f.tests = append(f.tests, Test{Field: "workload_name", Text: match})
	f.process = append(f.process, func(p *model.Process) bool { return p.Workload != nil && match(p.Workload.Name) })
	return nil
}

func (f *Filter) addWorkloadKinds(kinds []string) error {
	for _, k := range kinds {
		if !slices.Contains(model.WorkloadKinds(), model.WorkloadKind(k)) {
			return fmt.Errorf("%q is no kind of workload: use %s", k, join(model.WorkloadKinds()))
		}
	}
	f.tests = append(f.tests, Test{Field: "workload_kind", Text: func(kind string) bool { return slices.Contains(kinds, kind) }})
	f.process = append(f.process, func(p *model.Process) bool {
		return p.Workload != nil && slices.Contains(kinds, string(p.Workload.Kind))
	})
	return nil
}

func (f *Filter) addWorkloadIDs(ids []string) error {
	const enough = 6 // characters that name a container without doubt, mostly
	wanted := func(got string) bool {
		return slices.ContainsFunc(ids, func(id string) bool {
			return got == id || len(id) >= enough && strings.HasPrefix(got, id)
		})
	}
	f.tests = append(f.tests, Test{Field: "workload_id", Text: wanted})
	f.process = append(f.process, func(p *model.Process) bool { return p.Workload != nil && wanted(p.Workload.ID) })
	return nil
}

func (f *Filter) addBinaries(globs []string) error {
	match, err := compileGlobs(globs, pathGlob)
	if err != nil {
		return err
	}
	f.tests = append(f.tests, Test{Field: "binary", Text: match})
	f.process = append(f.process, func(p *model.Process) bool { return match(p.Binary) })
	return nil
}

func (f *Filter) addPIDs(pids []uint32) error {
	f.tests = append(f.tests, Test{Field: "pid", Number: func(n int64) bool { return slices.Contains(pids, uint32(n)) }})
	f.process = append(f.process, func(p *model.Process) bool { return slices.Contains(pids, p.Key.PID) })
	return nil
}

func (f *Filter) addPIDTrees(pids []uint32, table Processes) error {
	if table == nil {
		return errors.New("needs the process table, which is not at hand here: use pids")
	}
	f.process = append(f.process, func(p *model.Process) bool {
		return slices.ContainsFunc(pids, func(pid uint32) bool { return p.Key.PID == pid || table.Descends(p, pid) })
	})
	return nil
}

func (f *Filter) addExecIDs(ids []string) error {
	for _, id := range ids {
		if _, _, ok := model.ParseExecID(id); !ok {
			return fmt.Errorf("%q is no exec_id: it looks like 0a1b2c3d-4d2-1f3a5-2", id)
		}
	}
	f.tests = append(f.tests, Test{Field: "exec_id", Text: func(id string) bool { return slices.Contains(ids, id) }})
	f.process = append(f.process, func(p *model.Process) bool { return slices.Contains(ids, p.ExecID) })
	return nil
}

func (f *Filter) addUIDs(uids []uint32) error {
	f.tests = append(f.tests, Test{Field: "uid", Number: func(n int64) bool { return slices.Contains(uids, uint32(n)) }})
	f.process = append(f.process, func(p *model.Process) bool { return slices.Contains(uids, p.Creds.UID) })
	return nil
}

func (f *Filter) addPaths(globs []string) error {
	match, err := compileGlobs(globs, pathGlob)
	if err != nil {
		return err
	}
	f.event = append(f.event, func(e *model.Event) bool {
		switch {
		case e.File != nil:
			return match(e.File.Path) || e.File.NewPath != "" && match(e.File.NewPath)
		case e.Socket != nil:
			return e.Socket.Path != "" && match(e.Socket.Path)
		case e.Mount != nil:
			return match(e.Mount.Target) || match(e.Mount.Source)
		case e.ExecFailed != nil:
			return match(e.ExecFailed.Path)
		}
		return false
	})
	return nil
}

func (f *Filter) addAddresses(list []string) error {
	wanted := make([]endpoint, len(list))
	for i, s := range list {
		var err error
		if wanted[i], err = parseEndpoint(s); err != nil {
			return err
		}
	}
	f.event = append(f.event, func(e *model.Event) bool {
		return slices.ContainsFunc(wanted, func(w endpoint) bool { return w.in(e) })
	})
	return nil
}

func (f *Filter) addNames(globs []string) error {
	lower := make([]string, len(globs))
	for i, g := range globs {
		lower[i] = strings.TrimSuffix(strings.ToLower(g), ".")
	}
	match, err := compileGlobs(lower, nameGlob)
	if err != nil {
		return err
	}
	f.event = append(f.event, func(e *model.Event) bool {
		named := func(name string) bool { return name != "" && match(name) }
		switch {
		case e.DNS != nil:
			return match(e.DNS.Name)
		case e.Socket != nil:
			return named(e.Socket.RemoteName)
		case e.Flow != nil:
			return named(e.Flow.Source.Name) || named(e.Flow.Destination.Name)
		case e.Request != nil:
			return named(e.Request.RemoteName) || named(e.Request.Host)
		}
		return false
	})
	return nil
}

func join[S ~string](list []S) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}
