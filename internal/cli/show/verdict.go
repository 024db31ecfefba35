// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// verdictLine puts what a policy decided into words: "denied  read /etc/shadow  web files.deny[0], fanotify OPEN_PERM".
func verdictLine(v *model.Verdict) Line {
	object := v.Path
	if object == "" {
		object = verdictEnds(v)
	}
	return Line{Kind: Decision, Verb: string(v.Action), Object: term.Escape(joined(" ", string(v.Operation), object)),
		Detail: term.Escape(joined(", ", joined(" ", v.Policy, v.Rule), v.Hook)),
		Failed: v.Action != model.VerdictAudited, Alarm: v.Action == model.VerdictKilled}
}

func verdictEnds(v *model.Verdict) string {
	at := v.Remote
	if !at.IsValid() || v.Operation == model.OpBind || v.Operation == model.OpListen {
		at = v.Local
	}
	where := ""
	if at != (netip.AddrPort{}) {
		where = at.String()
		if v.RemoteName != "" && at == v.Remote {
			where += " (" + v.RemoteName + ")"
		}
	}
	return joined(" ", v.Subject, where, v.Protocol)
}

func alertLine(a *model.Alert) Line {
	// What was found before how: a message can be longer than the line.
	detail := joined("  ", a.Message, strings.Join(a.Tags, ","))
	if a.Suppressed > 0 {
		detail += fmt.Sprintf(" (%s more held back)", Count(a.Suppressed))
	}
	return Line{Kind: Decision, Verb: "alert", Object: term.Escape(joined(" ", string(a.Severity), a.Rule)), Detail: term.Escape(detail),
		Alarm: a.Severity == model.SeverityHigh || a.Severity == model.SeverityCritical}
}

func probeLine(p *model.Probe) Line {
	args := make([]string, len(p.Args))
	for i := range p.Args {
		args[i] = ProbeArg(&p.Args[i])
	}
	call := p.Hook + "(" + strings.Join(args, ", ") + ")"
	if p.Return != nil {
		call += " = " + ProbeArg(p.Return)
	}
	detail := p.Policy
	if p.Action != "post" {
		detail = joined(" ", detail, p.Action)
	}
	return Line{Kind: Kernel, Verb: "probe", Object: term.Escape(call), Detail: term.Escape(joined(" ", detail, p.Message))}
}

// ProbeArg is the value of an argument in one word.
func ProbeArg(a *model.ProbeArg) string {
	switch {
	case a.Text != "":
		return a.Text
	case a.Data != nil:
		return fmt.Sprintf("%q", a.Data)
	case a.Remote.IsValid():
		return fmt.Sprintf("%s→%s", a.Local, a.Remote)
	case a.Creds != nil:
		return fmt.Sprintf("uid %d", a.Creds.UID)
	}
	return fmt.Sprint(a.Int)
}
