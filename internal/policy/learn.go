// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// LearnOptions say what to learn.
type LearnOptions struct {
	Workload string // the workload's name
	Name     string // metadata.name; made of the workload's name when empty
	// Selector is the policy's; made of the workload when nil.
	Selector *Selector
	// LeaveOut are sections that are not written ("capabilities", "files", "network.ingress"), each with the reason, which
	// becomes a note: "cannot be denied on this kernel".
	LeaveOut map[string]string
	// Weaker are sections that say weaker: accept, each with the reason, which becomes a note.
	Weaker map[string]string
	// Image finds a process by its exec_id where the history does not tell of it; may be nil.
	Image func(execID string) *model.Process
}

// Learned is a policy that allows what a workload did.
type Learned struct {
	YAML   string   // in mode audit, with comments that say what each rule was learned from
	Events uint64   // how many events it was learned from, folded ones by their count
	Notes  []string // what to look at before enforcing it
}

// ErrNothingLearned: the history has nothing of the workload that policies are about.
var ErrNothingLearned = errors.New("nothing to learn from")

// Learn writes the smallest readable policy that allows what a history says a workload did, and nothing wider than the
// rules of docs/policy.md, section "Learning". The policy is parsed and compiled before it is returned.
func Learn(history iter.Seq[*model.Event], o LearnOptions) (*Learned, error) {
	s := &student{options: o, lineage: newLineage(o.Image), execs: map[string]*evidence{}, files: newTree(), net: map[netKey]*evidence{}, caps: map[string]*evidence{}, did: map[string]bool{}, notes: map[string]bool{}}
	for ev := range history {
		s.lineage.see(ev)
		if s.mine(ev.Process) {
			s.workload = ev.Process.Workload
			s.learn(ev)
		}
	}
	if s.events == 0 {
		return nil, fmt.Errorf("%w: the history has no event of workload %q that policies judge; let it work while the agent runs", ErrNothingLearned, o.Workload)
	}
	if len(s.execs)+len(s.net)+len(s.caps)+len(s.files.rules()) == 0 {
		return nil, fmt.Errorf("%w: of workload %q the history has nothing that a policy could allow", ErrNothingLearned, o.Workload)
	}
	s.files.generalise()
	name := o.Name
	if name == "" {
		name = nameOf(o.Workload)
	}
	text := s.write(name)
	policies, err := Parse(name, []byte(text))
	if err != nil {
		return nil, fmt.Errorf("check the learned policy: %w", err)
	}
	env := Env{UserID: func(string) (uint32, error) { return 0, nil }} // its own selectors have uids only; what users give is checked when it is applied
	if _, err := Compile(policies[0], env); err != nil {
		return nil, fmt.Errorf("check the learned policy: %w", err)
	}
	out := &Learned{YAML: text, Events: s.events}
	for note := range s.notes {
		out.Notes = append(out.Notes, note)
	}
	for note := range s.files.notes {
		out.Notes = append(out.Notes, note)
	}
	slices.Sort(out.Notes)
	return out, nil
}

// student collects what a workload did.
type student struct {
	options  LearnOptions
	lineage  *lineage
	workload *model.Workload
	events   uint64
	execs    map[string]*evidence
	files    *tree
	net      map[netKey]*evidence
	caps     map[string]*evidence
	did      map[string]bool // operations
	began    bool            // its beginning was seen
	notes    map[string]bool
}

// evidence is what a rule was learned from.
type evidence struct {
	count uint64
	by    []string // programs, at most 3
	more  bool     // there are more
}

func (e *evidence) add(n uint64, by string) {
	e.count += n
	switch {
	case by == "" || slices.Contains(e.by, by):
	case len(e.by) == 3:
		e.more = true
	default:
		e.by = append(e.by, by)
	}
}

// String is "12 times by nginx".
func (e *evidence) String() string {
	if e.count == 0 {
		return "was running"
	}
	out := times(e.count)
	if len(e.by) > 0 {
		names := make([]string, len(e.by))
		for i, b := range e.by {
			names[i] = b[strings.LastIndexByte(b, '/')+1:]
		}
		slices.Sort(names)
		out += " by " + strings.Join(slices.Compact(names), ", ")
		if e.more {
			out += " and others"
		}
	}
	return out
}

func times(n uint64) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

func note[K comparable](m map[K]*evidence, k K, n uint64, by string) {
	e := m[k]
	if e == nil {
		e = &evidence{}
		m[k] = e
	}
	e.add(n, by)
}

func (s *student) learn(ev *model.Event) {
	count := max(uint64(ev.Count), 1)
	if f := ev.File; f != nil && f.Op == model.FileRead && f.FileType == "directory" && f.Error == 0 {
		s.files.list(ev)
	}
	if ev.Verdict != nil && ev.Verdict.Action != model.VerdictAudited {
		s.notes["what policies denied while this was learned is not allowed by it"] = true
		return
	}
	if ev.Exec != nil && !ev.PreExisting && !s.mine(ev.Parent) {
		s.began = true
	}
	found := s.lineage.observe(ev)
	if len(found) > 0 {
		s.events += count
	}
	if b := binaryPath(ev.Process); badPath(globOf(b)) == "" && s.execs[b] == nil && !ev.Process.KernelThread && !ev.Process.Forked {
		s.execs[b] = &evidence{} // it has to begin again some day
		if ev.PreExisting {
			s.events += count
		}
	}
	for _, o := range found {
		a := o.Access
		if pathed := a.Operation == model.OpExec || sectionOf(a.Operation) == "files"; pathed && badPath(globOf(a.Path)) != "" {
			s.notes["no rule can be made for the path "+shown(a.Path)+": it is not allowed"] = true
			continue
		}
		switch a.Operation {
		case model.OpExec:
			note(s.execs, a.Path, count, o.Subject.Binary)
		case model.OpRead:
			s.files.add(Read, a.Path, ev, count)
		case model.OpWrite:
			s.files.add(Write, a.Path, ev, count)
		case model.OpModify:
			s.files.add(Modify, a.Path, ev, count)
		case model.OpCapability:
			note(s.caps, a.Capability.String(), count, o.Subject.Binary)
		case model.OpPtrace, model.OpBPF, model.OpMount, model.OpModule:
			s.did[string(a.Operation)] = true
			s.notes["it did "+string(a.Operation)+" ("+shown(o.Object)+"): the section operations does not deny that"] = true
		default:
			if a.Address.IsValid() {
				note(s.net, netKeyOf(a), count, o.Subject.Binary)
			}
		}
	}
}

// mine reports whether a process is of the workload.
func (s *student) mine(p *model.Process) bool {
	return p != nil && p.Workload != nil && p.Workload.Name == s.options.Workload
}

// shown is a text that is safe in a comment of one line.
func shown(s string) string {
	var b strings.Builder
	for _, r := range s {
		if badText(string(r)) != "" {
			r = '?'
		}
		b.WriteRune(r)
	}
	if b.Len() > 120 {
		return strings.ToValidUTF8(b.String()[:117], "") + "..."
	}
	return b.String()
}

// nameOf makes a policy's name of a workload's.
func nameOf(workload string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(workload) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			r = '-'
		}
		b.WriteRune(r)
	}
	name := strings.Trim(b.String(), "-")
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	name = strings.TrimSuffix(name, "-service")
	if name == "" {
		return "learned"
	}
	return strings.Trim(name[:min(len(name), 60)], "-")
}

// selector is that of the workload that was learned from.
func (s *student) selector() Selector {
	w := s.workload
	switch {
	case s.options.Selector != nil:
		return *s.options.Selector
	case w.Kind == model.WorkloadUnit:
		return Selector{Unit: w.Name}
	case w.Kind == model.WorkloadContainer:
		return Selector{Container: w.Name}
	case w.Kind == model.WorkloadPod:
		out := Selector{Container: w.Container, MatchLabels: map[string]string{}}
		for k, v := range w.Labels { // those that each copy of a pod has a value of its own for select only one
			if !strings.Contains(k, "hash") && !strings.HasPrefix(k, "statefulset.kubernetes.io/") && !strings.HasPrefix(k, "batch.kubernetes.io/") &&
				!strings.HasPrefix(k, "controller-") {
				out.MatchLabels[k] = v
			}
		}
		return out
	case w.Kind == model.WorkloadSession && w.User != "" && badUser(w.User) == "":
		return Selector{User: w.User}
	case w.Kind == model.WorkloadProcess:
		if root := s.lineage.find(strings.TrimPrefix(w.ID, "process:")); root != nil && badPath(globOf(binaryPath(root))) == "" {
			return Selector{Binary: globOf(binaryPath(root))}
		}
	}
	s.notes["which processes the policy is about could not be told: write its selector"] = true
	return Selector{Unit: "WRITE-THE-SELECTOR"}
}
