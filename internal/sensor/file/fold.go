// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/model"
)

// folds are the counts that the kernel keeps, as the agent knows them: for each the event that stands for it, and how
// much of it has been reported. There are about as many as vg_counts has entries, at most 8192.
type folds struct {
	byProcess map[model.ProcessKey]map[bpfVgFoldKey]*fold
	ended     map[model.ProcessKey]bool
	last      uint64 // when all were reported last, ns since boot
}

type fold struct {
	tid      uint32
	file     *model.File
	reported uint64
}

func newFolds() folds {
	return folds{byProcess: make(map[model.ProcessKey]map[bpfVgFoldKey]*fold), ended: make(map[model.ProcessKey]bool)}
}

func (s *folds) hold(f *bpfVgFile, ev *model.Event, file *model.File) {
	key := bpfVgFoldKey{Start: f.H.Start, Inode: f.Inode, Pid: f.H.Pid, Exec: f.H.Exec, Dev: f.Dev, Name: f.Name, Op: uint32(f.Op)}
	of := s.byProcess[ev.Key]
	if of == nil {
		of = make(map[bpfVgFoldKey]*fold)
		s.byProcess[ev.Key] = of
	}
	if of[key] == nil { // else two threads began the count at the same moment
		of[key] = &fold{tid: ev.TID, file: file}
	}
}

func (s *folds) gone(p model.ProcessKey) {
	if s.byProcess[p] != nil {
		s.ended[p] = true
	}
}

// counter is the kernel's side of the counts.
type counter interface {
	// read is a count so far; false when there is none.
	read(bpfVgFoldKey) (uint64, bool, error)
	// remove is read, and removes the count.
	remove(bpfVgFoldKey) (uint64, bool, error)
}

func (s *folds) flush(c counter, now uint64, interval time.Duration, final bool, emit func(*model.Event)) error {
	var errs []error
	for p := range s.ended {
		errs = append(errs, s.report(c, p, now, true, emit))
		delete(s.ended, p)
	}
	if final || now-s.last >= uint64(interval) {
		s.last = now
		for p := range s.byProcess {
			errs = append(errs, s.report(c, p, now, false, emit))
		}
	}
	return errors.Join(errs...)
}

// report emits what the counts of a process have grown by. A count that has not grown for an interval is removed,
// so that the kernel's table holds what is in use: an open that is between finding the count and adding to it at
// that very moment, nanoseconds in an interval, would be missed. Nobody can be there when the process has ended.
func (s *folds) report(c counter, p model.ProcessKey, now uint64, ended bool, emit func(*model.Event)) error {
	var errs []error
	for key, f := range s.byProcess[p] {
		n, there, err := c.read(key)
		if there && err == nil && (ended || n == f.reported) {
			n, _, err = c.remove(key)
			there = false
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if n > f.reported {
			emit(&model.Event{Type: model.TypeFile, BootTime: now, Key: p, TID: f.tid, Count: uint32(n - f.reported), File: f.file})
			f.reported = n
		}
		if !there {
			delete(s.byProcess[p], key)
		}
	}
	if len(s.byProcess[p]) == 0 {
		delete(s.byProcess, p)
	}
	return errors.Join(errs...)
}

// counts is vg_counts.
type counts struct{ m *ebpf.Map }

func (c counts) read(k bpfVgFoldKey) (uint64, bool, error) {
	var n uint64
	err := c.m.Lookup(&k, &n)
	return found(n, err)
}

func (c counts) remove(k bpfVgFoldKey) (uint64, bool, error) {
	var n uint64
	err := c.m.LookupAndDelete(&k, &n)
	return found(n, err)
}

func found(n uint64, err error) (uint64, bool, error) {
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("read the count of folded opens: %w", err)
	}
	return n, true, nil
}
