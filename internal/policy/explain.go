// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"github.com/vigie-io/vigie/internal/model"
)

// Explanation is what a policy says of an event.
type Explanation struct {
	Policy string
	Rule   string // the field; empty when no rule speaks of it
	Number int    // of the rule in the policy's table
	Text   string // the rule in words
	// Action is allowed, denied, killed or audited.
	Action    string
	Operation model.Operation
	Reason    string // why, in a sentence
}

// Explain says which policies select the process of an event, and what each says of it: of the accesses that it tells of
// the one that is judged hardest. image finds a process by its exec_id; it may be nil. An event that policies are not about
// has no explanation.
func Explain(tables []*Table, ev *model.Event, image func(execID string) *model.Process) []Explanation {
	l := newLineage(image)
	l.see(ev)
	observations := l.observe(ev)
	var out []Explanation
	for _, t := range tables {
		// A policy that has decided did select the process, whatever is known of it: it can have come into the workload
		// after its program began.
		decided := ev.Verdict != nil && ev.Verdict.Policy == t.Policy.Name
		if len(observations) == 0 || !decided && !l.selects(t.Selection, ev, observations[0].Subject) {
			continue
		}
		hardest, at := Decision(0), observations[0]
		for _, o := range observations {
			if d := t.Decide(o.Subject, o.Access); Stronger(d, hardest) != hardest {
				hardest, at = d, o
			}
		}
		rule := t.Rules[hardest.Rule()]
		out = append(out, Explanation{Policy: t.Policy.Name, Rule: rule.Field(), Number: hardest.Rule(), Text: t.Text(hardest.Rule()),
			Action: hardest.Action().String(), Operation: at.Access.Operation, Reason: t.reason(hardest, at)})
	}
	return out
}

// String is what happens to what is decided so.
func (a Action) String() string {
	return [...]string{"allowed", string(model.VerdictAudited), string(model.VerdictDenied), string(model.VerdictKilled)}[min(a, ActKill)]
}

func (t *Table) reason(d Decision, o Observation) string {
	tried := string(o.Access.Operation)
	if o.Object != "" {
		tried += " " + o.Object
	}
	if o.Subject.Binary != "" {
		tried += " by " + o.Subject.Binary
	}
	rule := t.Rules[d.Rule()]
	section := sectionOf(o.Access.Operation)
	switch {
	case d.Rule() == 0 && !t.Policy.hasSection(section):
		return tried + ": the policy has no " + section + " section"
	case d.Rule() == 0:
		return tried + ": no rule of " + section + " speaks of it, and there is no allow list"
	case rule.Allows:
		return tried + ": " + rule.Field() + " allows it, and no deny rule holds"
	case rule.Denies():
		return tried + ": " + rule.Field() + " holds, and deny rules go before allow rules" + t.acts()
	case o.Access.Operation == model.OpSocket:
		return tried + ": a socket of this kind would evade the network rules, so a policy with such rules denies it" + t.acts()
	default:
		return tried + ": no rule of " + rule.Field() + " names it, and an allow list denies what it does not name" + t.acts()
	}
}

func (t *Table) acts() string {
	if t.Mode == Audit {
		return "; in mode audit it is reported, and happens"
	}
	return ""
}

// sectionOf is the section of a policy that judges an operation.
func sectionOf(o model.Operation) string {
	switch o {
	case model.OpExec:
		return "processes"
	case model.OpRead, model.OpWrite, model.OpModify:
		return "files"
	case model.OpAccept:
		return "network.ingress"
	case model.OpBind, model.OpListen:
		return "network.listen"
	case model.OpCapability:
		return "capabilities"
	case model.OpPtrace, model.OpBPF, model.OpMount, model.OpModule:
		return "operations"
	default:
		return "network.egress"
	}
}

func (p *Policy) hasSection(name string) bool {
	switch name {
	case "processes":
		return p.Processes != nil
	case "files":
		return p.Files != nil
	case "capabilities":
		return p.Capabilities != nil
	case "operations":
		return p.Operations != nil
	}
	return p.direction(directionOf(name)) != nil
}
