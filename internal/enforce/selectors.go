// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// cgroupLists are the policies, by number, of each cgroup that is under one; 0 ends a list.
type cgroupLists map[subject.CgroupRef][subject.Slots]uint16

// byCgroup reports whether a selector asks something of the workload: then the policy is in the lists of cgroups, else
// every process is asked for its user and binary.
func byCgroup(s *policy.Selector) bool {
	return s.Unit != "" || s.Container != "" || s.Namespace != "" || len(s.MatchLabels) > 0
}

// cgroupLists works out which policies each cgroup is under. Error: a workload that is under too many.
func (e *Enforcer) cgroupLists(tables map[string]*loaded) (cgroupLists, error) {
	var selecting []*loaded
	everywhere := 0
	for _, in := range tables {
		if byCgroup(&in.Table.Policy.Selector) {
			selecting = append(selecting, in)
		} else {
			everywhere++
		}
	}
	if everywhere > subject.Selectors {
		return nil, fmt.Errorf("%d policies select by user or binary, or everything: at most %d can; add unit, container or matchLabels to some", everywhere, subject.Selectors)
	}
	lists := make(cgroupLists)
	if len(selecting) == 0 {
		return lists, nil
	}
	index := indexSelectors(selecting)
	var err error
	answers := make(map[*model.Workload][]*loaded) // a workload has many cgroups
	e.options.Cgroups.Each(func(hierarchy uint32, id uint64, w *model.Workload) {
		if w == nil || err != nil {
			return
		}
		found, ok := answers[w]
		if !ok {
			found = index.find(w)
			answers[w] = found
		}
		if len(found) == 0 {
			return
		}
		if len(found) > subject.Slots {
			err = fmt.Errorf("workload %s is selected by %d policies (%s), at most %d can: join some of them", w.Name, len(found), names(found), subject.Slots)
			return
		}
		var list [subject.Slots]uint16
		for i, in := range found {
			list[i] = uint16(in.policy)
		}
		lists[subject.CgroupRef{Id: id, Hierarchy: hierarchy}] = list
	})
	return lists, err
}

// selectorIndex finds the policies of a workload without asking each policy.
type selectorIndex struct {
	exact map[string][]*loaded // by one thing that the selector asks for, exactly
	other []*loaded            // with wildcards
}

func indexSelectors(selecting []*loaded) *selectorIndex {
	x := &selectorIndex{exact: make(map[string][]*loaded)}
	for _, in := range selecting {
		s := &in.Table.Policy.Selector
		key := ""
		switch {
		case s.Unit != "" && !hasWildcard(s.Unit):
			key = "unit " + s.Unit
		case s.Container != "" && !hasWildcard(s.Container):
			key = "container " + s.Container
		default:
			for name, value := range s.MatchLabels {
				key = "label " + name + "=" + value
				break // any of them is as good
			}
		}
		if key == "" {
			x.other = append(x.other, in)
		} else {
			x.exact[key] = append(x.exact[key], in)
		}
	}
	return x
}

func hasWildcard(s string) bool { return strings.ContainsAny(s, "*?[") }

// find is the policies that select a workload, by number.
func (x *selectorIndex) find(w *model.Workload) (found []*loaded) {
	try := func(list []*loaded) {
		for _, in := range list {
			if !slices.Contains(found, in) && in.Table.Policy.Selector.SelectsWorkload(w) {
				found = append(found, in)
			}
		}
	}
	for _, name := range []string{w.Name, w.Container, path.Base(w.Cgroup)} {
		try(x.exact["unit "+name])
		try(x.exact["container "+name])
	}
	for name, value := range w.Labels {
		try(x.exact["label "+name+"="+value])
	}
	try(x.other)
	slices.SortFunc(found, func(a, b *loaded) int { return int(a.policy) - int(b.policy) })
	return found
}

func names(list []*loaded) string {
	out := make([]string, len(list))
	for i, in := range list {
		out[i] = in.Table.Policy.Name
	}
	return strings.Join(out, ", ")
}

// writeLists brings vg_cgroups to what lists say.
func (e *Enforcer) writeLists(lists cgroupLists) error {
	var errs []error
	for ref, list := range lists {
		if e.lists[ref] == list {
			continue
		}
		if err := e.subjects.Cgroups.Put(&ref, cgroupPolicies(list)); err != nil {
			errs = append(errs, kernel.Explain("put a cgroup under a policy", err))
			continue
		}
		e.lists[ref] = list
	}
	// Also what the kernel added itself for cgroups that are new, of policies that are gone.
	for _, ref := range e.cgroupsInKernel() {
		if _, ok := lists[ref]; ok {
			continue
		}
		if err := e.subjects.Cgroups.Delete(&ref); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, kernel.Explain("take a cgroup from under a policy", err))
		}
		delete(e.lists, ref)
	}
	return errors.Join(errs...)
}

func (e *Enforcer) cgroupsInKernel() (refs []subject.CgroupRef) {
	var ref subject.CgroupRef
	var list subject.CgroupPolicies
	known := make(map[subject.CgroupRef]bool)
	e.options.Cgroups.Each(func(hierarchy uint32, id uint64, _ *model.Workload) {
		known[subject.CgroupRef{Id: id, Hierarchy: hierarchy}] = true
	})
	for it := e.subjects.Cgroups.Iterate(); it.Next(&ref, &list); {
		if known[ref] || e.lists[ref] != [subject.Slots]uint16{} {
			refs = append(refs, ref) // what is too new to be known stays: the kernel has put it there
		}
	}
	return refs
}

func cgroupPolicies(list [subject.Slots]uint16) *subject.CgroupPolicies {
	p := &subject.CgroupPolicies{Policies: list}
	for _, n := range list {
		if n != 0 {
			p.Count++
		}
	}
	return p
}

func selectsByUser(tables map[string]*loaded) bool {
	for _, in := range tables {
		if in.Table.Policy.Selector.User != "" {
			return true
		}
	}
	return false
}

// writeState tells the kernel what the tables need at exec.
func (e *Enforcer) writeState(tables map[string]*loaded) error {
	state := subject.Policies{Agent: agentPID()}
	for _, in := range tables {
		if in.Table.HasParent {
			state.Parents = 1
		}
		if !byCgroup(&in.Table.Policy.Selector) {
			state.Selectors++
		}
	}
	if b, _, _ := e.best(model.OpExec); b == nil || !auditsExec(b) {
		state.ExecAudit = 1
	}
	if err := e.subjects.Policies.Put(uint32(0), &state); err != nil {
		return kernel.Explain("write the state of policies", err)
	}
	return nil
}

// auditsExec reports whether a back-end sees every exec that it carries, so that it reports also what is only audited.
func auditsExec(b Backend) bool {
	a, ok := b.(interface{ AuditsExec() bool })
	return ok && a.AuditsExec()
}

// writeSelectors lists the policies that select by user or binary alone, and the units that can be told by name.
func (e *Enforcer) writeSelectors(tables map[string]*loaded) error {
	var errs []error
	var everywhere []uint32
	units := make(map[string][]uint32)
	for _, in := range tables {
		s := &in.Table.Policy.Selector
		switch {
		case !byCgroup(s):
			everywhere = append(everywhere, in.policy)
		case s.Unit != "" && s.Container == "" && s.Namespace == "" && len(s.MatchLabels) == 0 && !hasWildcard(s.Unit) && len(s.Unit) < subject.UnitName:
			units[s.Unit] = append(units[s.Unit], in.policy)
		}
	}
	slices.Sort(everywhere)
	for i, n := range everywhere {
		errs = append(errs, e.subjects.Selectors.Put(uint32(i), n))
	}
	var old subject.Unit
	var list subject.CgroupPolicies
	var gone []subject.Unit
	for it := e.subjects.Units.Iterate(); it.Next(&old, &list); {
		if units[kernel.CStringInt8(old.Name[:])] == nil {
			gone = append(gone, old)
		}
	}
	for _, u := range gone {
		errs = append(errs, e.subjects.Units.Delete(&u))
	}
	for name, numbers := range units {
		slices.Sort(numbers)
		var u subject.Unit
		for i := range len(name) {
			u.Name[i] = int8(name[i])
		}
		var list [subject.Slots]uint16
		for i, n := range numbers[:min(len(numbers), subject.Slots)] {
			list[i] = uint16(n)
		}
		errs = append(errs, e.subjects.Units.Put(&u, cgroupPolicies(list)))
	}
	if err := errors.Join(errs...); err != nil {
		return kernel.Explain("write the selectors of policies", err)
	}
	return nil
}

// followWorkloads brings the lists of cgroups up to date with what is known of workloads now.
func (e *Enforcer) followWorkloads() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subjects == nil || len(e.inForce) == 0 {
		return nil
	}
	lists, err := e.cgroupLists(e.inForce)
	if err != nil {
		return err
	}
	same := len(lists) == len(e.lists)
	for ref, list := range lists {
		same = same && e.lists[ref] == list
	}
	if same {
		return nil
	}
	return errors.Join(e.writeLists(lists), e.subjects.EnterAll())
}
