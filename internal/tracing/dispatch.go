// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// dispatchers run hooks of system calls by number. A number has one place in each, so hooks of the same call are in different
// ones; there are as many as the most wanted call has hooks. They go when nothing is in them.
type dispatchers struct {
	load  func(what string, spec *ebpf.CollectionSpec, replace map[string]*ebpf.Map, types *btf.Cache) (*ebpf.Collection, error)
	spec  *ebpf.CollectionSpec
	enter []*dispatcher
	exit  []*dispatcher
}

// dispatcher is one program at sys_enter or sys_exit, with the programs that it calls.
type dispatcher struct {
	collection *ebpf.Collection
	link       link.Link
	calls      *ebpf.Map
	taken      map[int]bool
}

// registration is where a program was put, to take it out again.
type registration struct {
	d       *dispatcher
	numbers []int
}

// register has p run for the numbers, each in the first dispatcher where it is free.
func (s *dispatchers) register(p *ebpf.Program, numbers []int, exit bool, types *btf.Cache) ([]registration, error) {
	list := &s.enter
	if exit {
		list = &s.exit
	}
	var out []registration
	left := numbers
	for i := 0; len(left) > 0; i++ {
		if i == len(*list) {
			d, err := s.open(exit, types)
			if err != nil {
				return out, err
			}
			*list = append(*list, d)
		}
		d := (*list)[i]
		var here, later []int
		for _, nr := range left {
			if d.taken[nr] {
				later = append(later, nr)
				continue
			}
			if err := d.calls.Put(uint32(nr), p); err != nil {
				return append(out, registration{d, here}), fmt.Errorf("register for system call %d: %w", nr, err)
			}
			d.taken[nr] = true
			here = append(here, nr)
		}
		out = append(out, registration{d, here})
		left = later
	}
	return out, nil
}

// open loads and attaches one more dispatcher.
func (s *dispatchers) open(exit bool, types *btf.Cache) (*dispatcher, error) {
	program, calls := "vg_probe_enter", "vg_enter_calls"
	if exit {
		program, calls = "vg_probe_exit", "vg_exit_calls"
	}
	spec := &ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{calls: s.spec.Maps[calls].Copy()}, ByteOrder: s.spec.ByteOrder,
		Programs: map[string]*ebpf.ProgramSpec{program: s.spec.Programs[program].Copy()}}
	c, err := s.load("the dispatcher of system calls", spec, nil, types)
	if err != nil {
		return nil, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: c.Programs[program]})
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("attach the dispatcher of system calls: %w", err)
	}
	return &dispatcher{collection: c, link: l, calls: c.Maps[calls], taken: make(map[int]bool)}, nil
}

// remove takes programs out, and dispatchers away that have none left.
func (s *dispatchers) remove(list []registration) error {
	var errs []error
	for _, r := range list {
		for _, nr := range r.numbers {
			if err := r.d.calls.Delete(uint32(nr)); err != nil {
				errs = append(errs, fmt.Errorf("take system call %d out: %w", nr, err))
			}
			delete(r.d.taken, nr)
		}
	}
	s.enter, s.exit = closeUnused(s.enter, &errs), closeUnused(s.exit, &errs)
	return errors.Join(errs...)
}

// closeUnused closes the dispatchers at the end of the list that have no calls.
func closeUnused(list []*dispatcher, errs *[]error) []*dispatcher {
	for len(list) > 0 && len(list[len(list)-1].taken) == 0 {
		d := list[len(list)-1]
		*errs = append(*errs, d.link.Close())
		d.collection.Close()
		list = list[:len(list)-1]
	}
	return list
}
