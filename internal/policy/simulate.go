// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// Simulation is what policies would have denied in a history.
type Simulation struct {
	Denials []Denial // the most frequent first
	Judged  uint64   // how many events a policy had something to say about, folded ones by their count
	Limits  []string // what the history cannot tell, in words
}

// Denial is a group of events that a rule would have denied, or in mode audit reported.
type Denial struct {
	Policy, Rule string // the rule's field
	Workload     string // its name
	Binary       string // that did it; of an exec the one that called exec
	Operation    model.Operation
	Object       string // the path, address or capability
	Count        uint64
	Example      *model.Event // the latest
}

// maxDenials is how many groups are kept; what does not fit is a limit.
const maxDenials = 10_000

// Simulate judges a history, in its order, by policies, all as if they were enforced. image finds a process by its exec_id
// where the history does not tell of it; it may be nil.
func Simulate(tables []*Table, history iter.Seq[*model.Event], image func(execID string) *model.Process) *Simulation {
	s := &Simulation{}
	l := newLineage(image)
	groups := map[Denial]*Denial{}
	missed := uint64(0)
	kinds := map[model.Operation]bool{}
	for ev := range history {
		l.see(ev)
		observations := l.observe(ev)
		if len(observations) == 0 {
			continue
		}
		count := max(uint64(ev.Count), 1)
		judged := false
		for _, t := range tables {
			if !l.selects(t.Selection, ev, observations[0].Subject) {
				continue
			}
			judged = true
			for _, o := range observations {
				kinds[o.Access.Operation] = true
				d := t.Decide(o.Subject, o.Access)
				if d.Action() == ActAllow {
					continue
				}
				key := Denial{Policy: t.Policy.Name, Rule: t.Rules[d.Rule()].Field(), Workload: workloadName(ev.Process),
					Binary: o.Subject.Binary, Operation: o.Access.Operation, Object: o.Object}
				g := groups[key]
				if g == nil {
					if len(groups) == maxDenials {
						missed += count
						continue
					}
					one := key
					g = &one
					groups[key] = g
				}
				g.Count += count
				g.Example = ev
			}
		}
		if judged {
			s.Judged += count
		}
	}
	for _, g := range groups {
		s.Denials = append(s.Denials, *g)
	}
	slices.SortFunc(s.Denials, func(a, b Denial) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Binary, b.Binary))
	})
	s.Limits = limits(tables, l, kinds)
	if missed > 0 {
		s.Limits = append(s.Limits, fmt.Sprintf("there are more than %d groups of denials: %d events more would have been denied and are not listed", maxDenials, missed))
	}
	return s
}

func workloadName(p *model.Process) string {
	if p == nil || p.Workload == nil {
		return ""
	}
	return p.Workload.Name
}

// limits says what the policies judge and the history does not have.
func limits(tables []*Table, l *lineage, seen map[model.Operation]bool) []string {
	var out []string
	say := func(when bool, text string) {
		if when && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	for _, t := range tables {
		p := t.Policy
		say(p.Files != nil, "opens of the same file by the same program are folded: their count is right, the example is one of them")
		say(p.Files != nil, "files that were opened before the history begins are not in it")
		say(p.Files != nil, "changes of names by io_uring are not recorded, and modify covers them")
		say(p.Network != nil && p.Network.Egress != nil, "datagrams to one address are one event, and so are a connect and what is sent on it")
		say(p.direction(Egress) != nil && t.Sockets != 0, "raw and packet sockets are not recorded, and the policy denies them")
		say(len(t.Peers) > 0, "who listens at an address is known only of listeners in the history on this host")
		say(len(t.Names.Cells) > 0, "a connection has the one DNS name that its program asked for last")
		say(p.Capabilities != nil && !seen[model.OpCapability], "no use of a capability is in the history: the agent may not have recorded them")
	}
	say(l.unknown > 0, fmt.Sprintf("of %d execs it is not known which program called exec: the parent's was taken", l.unknown))
	say(l.full, fmt.Sprintf("there were more than %d programs: of later ones neither ancestors nor listeners are known", maxImages))
	return out
}
