// SPDX-License-Identifier: Apache-2.0

// Package subject keeps for every process the tables that judge it, in vg_subjects, and owns the maps of bpf/policy.h that
// all back-ends share. In: tables and selectors, as the enforcer writes them into the maps. Out: entries, made before a
// process runs its first instruction, and the SIGKILL that is the last chance to stop an exec.
package subject

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

type (
	// Table is struct vg_table.
	Table = bpfVgTable
	// Entry is struct vg_subject.
	Entry = bpfVgSubject
	// Policies is struct vg_policies.
	Policies = bpfVgPolicies
	// HitKey is struct vg_hit_key.
	HitKey = bpfVgHitKey
	// InodeKey is struct vg_inode_key.
	InodeKey = bpfVgInodeKey
	// Verdict is struct vg_verdict.
	Verdict = bpfVgVerdict
	// CgroupRef is struct vg_cgroup_ref.
	CgroupRef = bpfVgCgroupRef
	// CgroupPolicies is struct vg_cgroup_policies.
	CgroupPolicies = bpfVgCgroupPolicies
	// Unit is struct vg_unit.
	Unit = bpfVgUnit
)

// Bounds of bpf/policy.h and subject.bpf.c.
const (
	Slots     = 8      // policies that one process can be under
	Chunk     = 131072 // entries of a piece of Words
	Selectors = 64     // policies that select by user or binary alone
	UnitName  = 128    // bytes of a unit's name, the final NUL included
)

// Maps are the shared maps; bpf/policy.h and subject.bpf.c say what each holds.
type Maps struct {
	Subjects, Tables, Words, Policies, Hits, Inodes, Cgroups, Units, Live, Selectors *ebpf.Map

	wordsChunk *ebpf.MapSpec
}

// Subjects is the running programs. Make it with Start.
type Subjects struct {
	Maps
	objs     bpfObjects
	host     *kernel.Host
	watching bool // changes of user
}

// Name under which its programs are listed.
const Name = "subject"

// Start loads and attaches the programs and shares the maps with the objects that host loads later. tables is how many
// tables there can be at once. The host detaches and closes; or Detach does.
func Start(host *kernel.Host, tables uint32) (*Subjects, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	spec.Maps["vg_tables"].MaxEntries = tables
	spec.Maps["vg_live"].MaxEntries = tables
	spec.Maps["vg_units"].MaxEntries = tables
	s := &Subjects{host: host}
	calls := map[string]any{"vg_setuid_calls": [3]uint32{unix.SYS_SETUID, unix.SYS_SETREUID, unix.SYS_SETRESUID}}
	if err := host.LoadBeside(Name, spec, calls, &s.objs); err != nil {
		return nil, err
	}
	o := &s.objs
	s.Maps = Maps{Subjects: o.VgSubjects, Tables: o.VgTables, Words: o.VgWords, Policies: o.VgPolicyState,
		Hits: o.VgHits, Inodes: o.VgInodes, Cgroups: o.VgCgroups, Units: o.VgUnits, Live: o.VgLive, Selectors: o.VgSelectors,
		wordsChunk: spec.Maps["vg_words"].InnerMap}
	for name, m := range map[string]*ebpf.Map{"vg_subjects": o.VgSubjects, "vg_tables": o.VgTables,
		"vg_words": o.VgWords, "vg_policy_state": o.VgPolicyState, "vg_hits": o.VgHits, "vg_inodes": o.VgInodes, "vg_verdicts_seen": o.VgVerdictsSeen} {
		host.Share(name, m)
	}
	err = host.AttachTracing(Name, o.VgSubjectFork, o.VgSubjectExec, o.VgSubjectExit, o.VgSubjectMoved, o.VgSubjectMkdir, o.VgSubjectRmdir)
	if err != nil {
		return nil, errors.Join(err, host.Detach(Name))
	}
	return s, nil
}

// users is the name under which the program for changes of user is listed.
const users = Name + " users"

// WatchUsers has processes that change their user entered anew, or no more: it costs every system call of the host some
// nanoseconds, so only for policies that select by user.
func (s *Subjects) WatchUsers(on bool) error {
	if on == s.watching {
		return nil
	}
	var err error
	if on {
		err = s.host.AttachTracing(users, s.objs.VgSubjectUser)
	} else {
		err = s.host.Detach(users)
	}
	if err == nil {
		s.watching = on
	}
	return err
}

// NewChunk makes a piece for Words.
func (m *Maps) NewChunk() (*ebpf.Map, error) {
	c, err := ebpf.NewMap(m.wordsChunk)
	if err != nil {
		return nil, kernel.Explain("make room for tables", err)
	}
	return c, nil
}

// EnterAll enters every process anew, by the selectors and live tables as the maps have them, until nothing changes any
// more. A process that is being started or executed meanwhile is entered by its own hook.
func (s *Subjects) EnterAll() error {
	// At least twice: the second pass begins when all hooks that had begun before the maps changed are through. What a
	// binary's or user's processes have started is entered one generation a pass.
	const most = 64
	for pass := range most {
		changed, err := s.pass()
		if err != nil {
			return err
		}
		if pass > 0 && changed == 0 {
			return nil
		}
	}
	return nil // fork storms: what is new is entered by its own hooks
}

// pass runs the iterator once and says how many entries it changed.
func (s *Subjects) pass() (uint32, error) {
	before, err := s.changed()
	if err != nil {
		return 0, err
	}
	it, err := link.AttachIter(link.IterOptions{Program: s.objs.VgSubjectAll})
	if err != nil {
		return 0, kernel.Explain("attach the iterator over processes", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return 0, kernel.Explain("open the iterator over processes", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return 0, fmt.Errorf("go through the processes: %w", err)
	}
	after, err := s.changed()
	return after - before, err
}

func (s *Subjects) changed() (uint32, error) {
	var p Policies
	if err := s.Policies.Lookup(uint32(0), &p); err != nil {
		return 0, fmt.Errorf("read the state of policies: %w", err)
	}
	return p.Changed, nil
}
