// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/policy"
)

// The bits of vg_table.flags (bpf/policy.h).
const (
	flagParent      = 0x01
	flagUser        = 0x02
	flagBinary      = 0x04
	flagRelease     = 0x08
	flagExec        = 0x10
	flagFiles       = 0x20
	flagNet         = 0x40
	flagPriv        = 0x80
	flagNames       = 0x100
	flagPeers       = 0x200
	flagTimeoutDeny = 0x400
	flagInodes      = 0x800
)

// loaded is a table in the maps.
type loaded struct {
	Loaded
	policy                       uint32 // number of its policy
	paths, names, selects, words run
	carried                      []*Carried
}

// loader writes tables into the maps.
type loader struct {
	maps  *subject.Maps
	words pool
	next  uint32 // where the search for a free number begins: late reuse, so that verdicts on their way are still understood
	used  map[uint16]bool
}

func newLoader(m *subject.Maps) *loader {
	return &loader{maps: m, next: 1, used: make(map[uint16]bool),
		words: pool{outer: m.Words, newChunk: m.NewChunk}}
}

// number finds a free table number.
func (l *loader) number() (uint16, error) {
	size := l.maps.Tables.MaxEntries()
	for range size {
		n := l.next
		if l.next++; l.next >= size {
			l.next = 1
		}
		if n < 1<<16 && !l.used[uint16(n)] {
			l.used[uint16(n)] = true
			return uint16(n), nil
		}
	}
	return 0, fmt.Errorf("there are %d policies, more than this agent was started for: raise --max-policies", size/2)
}

// load writes a table, which nobody reads yet. On an error nothing is left of it.
func (l *loader) load(t *policy.Table, policyNumber uint32) (in *loaded, err error) {
	n, err := l.number()
	if err != nil {
		return nil, err
	}
	in = &loaded{Loaded: Loaded{Number: n, Table: t}, policy: policyNumber}
	defer func() {
		if err != nil {
			l.unload(in)
		}
	}()
	for _, a := range []struct {
		run  *run
		from *policy.Matcher
	}{{&in.paths, &t.Paths}, {&in.names, &t.Names}, {&in.selects, &t.Select}} {
		if *a.run, err = put(&l.words, a.from.Cells); err != nil {
			return nil, err
		}
	}
	words, cells, privileges := tableWords(t)
	if in.words, err = put(&l.words, words); err != nil {
		return nil, err
	}
	entry := subject.Table{Policy: policyNumber, Flags: tableFlags(t), Subjects: t.Subjects, Parents: t.Parents, Sockets: uint16(t.Sockets)}
	entry.Words, entry.Classes = in.words.chunk, in.words.offset
	entry.Cells, entry.Privileges = in.words.offset+cells, in.words.offset+privileges
	setAutomaton(&entry.Paths.Chunk, &entry.Paths.Offset, &entry.Paths.Cells, in.paths)
	setAutomaton(&entry.Names.Chunk, &entry.Names.Offset, &entry.Names.Cells, in.names)
	setAutomaton(&entry.Select.Chunk, &entry.Select.Offset, &entry.Select.Cells, in.selects)
	for i, d := range t.Default {
		entry.Defaults[i] = uint16(d)
	}
	entry.ExecDefault = uint16(t.ExecDefault())
	entry.Uid, _ = t.Selection.UID()
	if err = l.maps.Tables.Put(uint32(n), &entry); err != nil {
		return nil, kernel.Explain("write a policy's table", err)
	}
	return in, nil
}

func setAutomaton(chunk, offset, cells *uint32, r run) {
	*chunk, *offset, *cells = r.chunk, r.offset, r.length
}

// unload takes back what load has done so far. No process may be judged by the table any more.
func (l *loader) unload(in *loaded) {
	for _, r := range []run{in.paths, in.names, in.selects, in.words} {
		l.words.release(r)
	}
	delete(l.used, in.Number)
}

func (l *loader) close() error {
	return errors.Join(l.words.close()...)
}

// tableWords are the words of a table: what path classes are as `by` and `parent`, then its cells, then its privileges.
func tableWords(t *policy.Table) (words []uint64, cells, privileges uint32) {
	words = make([]uint64, 0, len(t.By)+len(t.Cells)+len(t.Privileges))
	for i, by := range t.By {
		w := uint64(by)
		if i < len(t.Parent) {
			w |= uint64(t.Parent[i]) << 8
		}
		words = append(words, w)
	}
	cells = uint32(len(words))
	for _, c := range t.Cells {
		words = append(words, uint64(c[policy.Exec])|uint64(c[policy.Read])<<16|uint64(c[policy.Write])<<32|uint64(c[policy.Modify])<<48)
	}
	privileges = uint32(len(words))
	for _, d := range t.Privileges {
		words = append(words, uint64(d))
	}
	return words, cells, privileges
}

func tableFlags(t *policy.Table) uint32 {
	p := t.Policy
	var f uint32
	for _, x := range []struct {
		set bool
		bit uint32
	}{
		{t.HasParent, flagParent}, {p.Selector.User != "", flagUser}, {p.Selector.Binary != "", flagBinary},
		{p.OnAgentExit != policy.Keep, flagRelease}, {p.Processes != nil, flagExec}, {p.Files != nil, flagFiles},
		{p.Network != nil, flagNet}, {len(t.Privileges) > 0, flagPriv}, {len(t.Names.Cells) > 0, flagNames},
		{len(t.Peers) > 0, flagPeers}, {p.OnTimeout == policy.TimeoutDeny, flagTimeoutDeny}, {len(deniedPaths(p)) > 0, flagInodes},
	} {
		if x.set {
			f |= x.bit
		}
	}
	return f
}

// hit counts a hit of a rule for a back-end in user space. Two at the same moment can count as one: the programs of the
// kernel count the same entry.
func (e *Enforcer) hit(table uint16, rule int) {
	key := subject.HitKey{Table: table, Rule: uint16(rule)}
	var n uint64
	_ = e.subjects.Hits.Lookup(&key, &n)
	_ = e.subjects.Hits.Put(&key, n+1)
}

// agentPID is the pid of this process in the root pid namespace, as the kernel programs see it.
func agentPID() uint32 {
	// NSpid's first number is that of the namespace of the /proc that is mounted; in a container without the host's pid
	// namespace it is not the kernel's, and the end of the agent goes unnoticed.
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return uint32(os.Getpid())
	}
	n, err := strconv.ParseUint(link, 10, 32)
	if err != nil {
		return uint32(os.Getpid())
	}
	return uint32(n)
}
