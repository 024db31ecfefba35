// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/kernel/probe"
)

// The page is not laid out for a narrower terminal than minWidth, and lines are not longer than
// maxWidth on a wider one: nobody reads such lines.
const (
	minWidth     = 60
	maxWidth     = 140
	defaultWidth = 100 // when the output is no terminal
)

// page collects the text of a report.
type page struct {
	strings.Builder
	width int
	style term.Style
}

// writePage prints a report for a person: the verdict, the host, the ladder, and what is missing.
func writePage(w io.Writer, r *probe.Report, screen term.Screen, all bool) error {
	p := &page{width: defaultWidth, style: screen.Style}
	if screen.Width > 0 {
		p.width = min(max(screen.Width, minWidth), maxWidth)
	}
	p.verdict(r)
	p.host(&r.Facts)
	if r.Privileged { // else the ladder would be a list of refusals
		p.ladder(r)
	}
	p.findings(r)
	if all {
		p.rungs(r)
		p.results(r)
	} else if r.Privileged {
		works := 0
		for _, result := range r.Results {
			if result.Works {
				works++
			}
		}
		p.line(p.style.Dim(fmt.Sprintf("%d of %d features tried work here; `vigie doctor --all` lists them.", works, len(r.Results))))
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) verdict(r *probe.Report) {
	switch r.Verdict {
	case probe.Full:
		p.line(p.style.Bold(p.style.Green("● vigie can run here, fully.")))
	case probe.Limited:
		p.line(p.style.Bold(p.style.Yellow("● vigie can run here, with limits.")))
	default:
		p.line(p.style.Bold(p.style.Red("● vigie cannot run here.")))
	}
	p.line("")
}

func (p *page) host(f *probe.Facts) {
	p.heading("Host")
	fact := func(name, value string, good bool) {
		if !good {
			value = p.style.Yellow(value)
		}
		p.row(p.columns(2, 14, 0), "  ", p.style.Dim(name), value)
	}
	fact("kernel", f.Kernel+", "+f.Arch, true)
	fact("kernel types", choose(f.BTF, "BTF present", "no BTF"), f.BTF)
	fact("BPF compiler", f.JIT, f.JIT != "disabled")
	fact("cgroups", cgroups(f.Cgroup), f.Cgroup.V2Path != "")
	fact("bpffs", orElse(f.BPFFS, "not mounted"), f.BPFFS != "")
	fact("tracefs", orElse(f.TraceFS, "not mounted, not needed"), true)
	fact("security", security(f), true)
	fact("lockdown", f.Lockdown, f.Lockdown != "confidentiality")
	fact("BPF for users", f.UnprivilegedBPF, true)
	lacks := slices.Concat(f.Capabilities.Missing, f.Capabilities.Useful)
	fact("capabilities", choose(len(lacks) == 0, "all that vigie uses", "lacks "+strings.Join(lacks, ", ")), len(lacks) == 0)
	fact("memory lock", memlock(f.Memlock), true)
	if f.UserNamespace {
		fact("user namespace", "not the host's", false)
	}
	if f.Seccomp {
		fact("seccomp", "a filter is on", true)
	}
	p.line("")
}

func cgroups(c probe.CgroupFacts) string {
	switch {
	case c.V2Path == "" && c.Mode == "none":
		return "not mounted"
	case c.V2Path == "":
		return c.Mode + " only"
	case c.ReadOnly:
		return c.Mode + ", v2 at " + term.Escape(c.V2Path) + ", read-only"
	}
	return c.Mode + ", v2 at " + term.Escape(c.V2Path)
}

func security(f *probe.Facts) string {
	if f.LSMs == nil {
		return "not known"
	}
	return strings.Join(f.LSMs, ", ")
}

func memlock(bytes int64) string {
	const text = " (BPF is not charged to it since Linux 5.11)"
	if bytes < 0 {
		return "unlimited"
	}
	return fmt.Sprintf("%d KiB", bytes>>10) + text
}

// wide is the width from which a job of the ladder takes one line, and not two.
const wide = 120

// ladder prints for each job what it gives here and which rung carries it. Numbers in brackets lead
// to the findings that say why that is not a better one.
func (p *page) ladder(r *probe.Report) {
	p.row(p.columns(0, 0), "", p.style.Bold("What vigie can do here")+p.style.Dim("   ✓ best rung  ↓ lower rung  ✗ no rung  [n] why"))
	causes := limitCauses(r)
	for _, row := range r.Ladder {
		why := ""
		if n := slices.Index(causes, row.Rungs[0].Cause); row.InUse != 1 && n >= 0 {
			why = fmt.Sprintf(" [%d]", n+1)
		}
		mark, by := p.style.Red("✗"), "no rung works here"+why
		var limits []string
		if rung := row.Rung(); rung != nil {
			mark, limits = p.style.Yellow("↓"), rung.Limits
			if row.InUse == 1 {
				mark = p.style.Green("✓")
			}
			by = fmt.Sprintf("rung %d/%d%s  %s", row.InUse, len(row.Rungs), why, rung.Title)
		}
		if p.width >= wide {
			p.row(p.columns(2, titleWidth, resultWidth, 0), mark+" ", row.Title, p.guarantee(row.Guarantee), p.style.Dim(by))
		} else {
			p.row(p.columns(2, titleWidth, 0), mark+" ", row.Title, p.guarantee(row.Guarantee))
			p.row(p.columns(2, 0), "  ", p.style.Dim(by))
		}
		for _, limit := range limits {
			p.row(p.columns(4, 0), "    ", p.style.Dim("└ "+limit))
		}
	}
	p.line("")
}

// The widths of the longest title and the longest guarantee.
const (
	titleWidth  = 43
	resultWidth = 35
)

func (p *page) guarantee(g probe.Guarantee) string {
	switch g {
	case probe.Denied, probe.KilledBefore, probe.Seen:
		return p.style.Green(string(g))
	case probe.KilledAfter:
		return p.style.Yellow(string(g))
	}
	return p.style.Red(string(g))
}

// limitCauses are the findings that the ladder's numbers point at, in their order.
func limitCauses(r *probe.Report) []string {
	var causes []string
	for _, f := range r.Findings {
		if f.Severity == probe.Limit {
			causes = append(causes, f.What)
		}
	}
	return causes
}

func (p *page) findings(r *probe.Report) {
	n := 0
	for _, severity := range []probe.Severity{probe.Blocker, probe.Limit, probe.Note} {
		title := map[probe.Severity]string{probe.Blocker: "What stands in the way", probe.Limit: "Why not more", probe.Note: "Good to know"}[severity]
		for _, f := range r.Findings {
			if f.Severity != severity {
				continue
			}
			if title != "" {
				p.heading(title)
				title = ""
			}
			mark := p.style.Dim("·")
			switch severity {
			case probe.Blocker:
				mark = p.style.Red("✗")
			case probe.Limit:
				n++
				mark = p.style.Yellow(fmt.Sprintf("[%d]", n))
			}
			p.row(p.columns(2, 3, 0), "  ", mark, f.What)
			p.row(p.columns(2, 3, 5, 0), "  ", "", p.style.Dim("costs"), f.Costs)
			if f.Fix != "" {
				p.row(p.columns(2, 3, 5, 0), "  ", "", p.style.Dim("fix"), f.Fix)
			}
		}
		if title == "" {
			p.line("")
		}
	}
}

// rungs lists every rung of every job, and why it does not work.
func (p *page) rungs(r *probe.Report) {
	p.heading("Every rung")
	causes := limitCauses(r)
	for _, row := range r.Ladder {
		p.line("  " + p.style.Dim(row.Title))
		for i, rung := range row.Rungs {
			mark, text := p.style.Green("✓"), p.guarantee(rung.Guarantee)
			if !rung.Works {
				mark, text = p.style.Red("✗"), because(causes, rung.Cause, "", rung.Needs)
			}
			p.row(p.columns(4, 38, 0), "  "+mark+" ", fmt.Sprintf("%d %s", i+1, rung.Title), text)
		}
	}
	p.line("")
}

// results lists every try.
func (p *page) results(r *probe.Report) {
	p.heading("Every try")
	causes := limitCauses(r)
	var kind probe.Kind
	for _, result := range r.Results {
		if result.Kind != kind {
			kind = result.Kind
			p.line("  " + p.style.Dim(string(kind)))
		}
		mark, text := p.style.Green("✓"), result.About
		if !result.Works {
			mark, text = p.style.Red("✗"), result.About+": "+because(causes, result.Cause, result.Errno, result.Needs)
		}
		p.row(p.columns(4, 38, 0), "  "+mark+" ", string(result.Name), text)
	}
}

// because is a cause with the kernel's answer, where the cause does not name it, and what it takes;
// or the number of the finding that says all this.
func because(numbered []string, cause, errno, needs string) string {
	if n := slices.Index(numbered, cause); n >= 0 {
		return fmt.Sprintf("[%d]", n+1)
	}
	if errno != "" && !strings.Contains(cause, errno) {
		cause += " (" + errno + ")"
	}
	if needs != "" && !strings.Contains(cause, needs) {
		cause += "; it takes " + needs
	}
	return term.Escape(cause)
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

func orElse(s, other string) string { return choose(s != "", term.Escape(s), other) }
