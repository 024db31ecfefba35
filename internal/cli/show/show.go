// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// Kind groups verbs that share a colour.
type Kind uint8

// The kinds of things that happen.
const (
	Program Kind = iota
	File
	Network
	Name
	Rights   // credentials, namespaces, capabilities, mounts
	Kernel   // modules, BPF, ptrace: what reaches into others
	Decision // verdicts and alerts
	Loss
)

// Line is an event in words.
type Line struct {
	Kind   Kind
	Verb   string // "exec", "read", "connect", …; at most VerbWidth cells
	Object string // what it was done to
	Detail string // how, how long, with what result; may be empty
	// Failed: the kernel refused or it ended badly. Alarm: a person should look.
	Failed, Alarm bool
}

// VerbWidth is the width in cells of the longest verb.
const VerbWidth = 9

// Text is the object with its detail.
func (l Line) Text() string {
	if l.Detail == "" {
		return l.Object
	}
	if l.Object == "" {
		return l.Detail
	}
	return l.Object + "  " + l.Detail
}

// Event puts e into words.
func Event(e *model.Event) Line {
	switch {
	case e.Exec != nil || e.Type == model.TypeExec:
		return execLine(e)
	case e.Type == model.TypeFork:
		return forkLine(e)
	case e.ExecFailed != nil:
		x := e.ExecFailed
		return failing(Line{Kind: Program, Verb: "exec", Object: program(x.Path, x.Args)}, x.Error)
	case e.Exit != nil:
		return exitLine(e.Exit)
	case e.Credential != nil:
		return credentialLine(e.Credential)
	case e.Namespace != nil:
		x := e.Namespace
		return failing(Line{Kind: Rights, Verb: "namespace", Object: term.Escape(x.Call + " " + strings.Join(x.Flags, ","))}, x.Error)
	case e.Ptrace != nil:
		return ptraceLine(e.Ptrace)
	case e.Module != nil:
		x := e.Module
		return failing(Line{Kind: Kernel, Verb: "module", Object: term.Escape(x.Op + " " + x.Name), Alarm: true}, x.Error)
	case e.BPF != nil:
		x := e.BPF
		return failing(Line{Kind: Kernel, Verb: "bpf", Object: term.Escape(joined(" ", "load", x.ProgType, x.ProgName)),
			Detail: fmt.Sprintf("%d instructions", x.Insns)}, x.Error)
	case e.Mount != nil:
		return mountLine(e.Mount)
	case e.Capability != nil:
		l := Line{Kind: Rights, Verb: "uses", Object: e.Capability.Cap.String()}
		if !e.Capability.Granted {
			l.Failed, l.Detail = true, "refused"
		}
		return l
	case e.File != nil:
		return fileLine(e.File)
	case e.Socket != nil:
		return socketLine(e)
	case e.DNS != nil:
		return dnsLine(e.DNS)
	case e.Verdict != nil:
		return verdictLine(e.Verdict)
	case e.Alert != nil:
		return alertLine(e.Alert)
	case e.Probe != nil:
		return probeLine(e.Probe)
	case e.Flow != nil:
		return flowLine(e.Flow)
	case e.Request != nil:
		return requestLine(e.Request)
	case e.Loss != nil:
		x := e.Loss
		return Line{Kind: Loss, Verb: "LOST", Alarm: true,
			Object: fmt.Sprintf("%s events at %s: %s", Count(x.Count), term.Escape(x.Stage), term.Escape(x.Reason)),
			Detail: fmt.Sprintf("(%s since the start)", Count(x.Total))}
	}
	return Line{Kind: Program, Verb: term.Cut(term.Escape(string(e.Type)), VerbWidth)}
}

// Process is the short name of a process: the base name of its binary, or of the script that it runs.
func Process(p *model.Process) string {
	if p == nil {
		return "?"
	}
	name := p.Binary
	if p.File.Script != "" {
		name = p.File.Script
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 && i < len(name)-1 {
		name = name[i+1:]
	}
	switch {
	case name == "" && len(p.Args) > 0:
		name = p.Args[0]
	case name == "":
		return "?"
	}
	if p.KernelThread {
		return "[" + term.Escape(name) + "]"
	}
	return term.Escape(name)
}

// Command is the whole command line of a process.
func Command(p *model.Process) string {
	if p == nil {
		return ""
	}
	if p.KernelThread {
		return Process(p)
	}
	s := program(p.Binary, p.Args)
	if p.ArgsTruncated {
		s += " …"
	}
	return s
}

// Workload is the name of a workload for a column: a pod with its namespace and container.
func Workload(w *model.Workload) string {
	switch {
	case w == nil:
		return "-"
	case w.Name == "":
		return string(w.Kind)
	case w.Kind == model.WorkloadPod:
		return term.Escape(joined("/", w.Namespace, w.Name, w.Container))
	}
	return term.Escape(w.Name)
}

// Short leaves out the directory of a command line that begins in one of the usual places, so that
// unusual ones stand out.
func Short(command string) string {
	for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/", "/usr/local/bin/", "/usr/local/sbin/"} {
		if rest, ok := strings.CutPrefix(command, dir); ok {
			return rest
		}
	}
	return command
}

// program shows a command line; the binary stands before it where argv[0] says something else.
func program(binary string, args []string) string {
	if len(args) == 0 {
		return term.Escape(binary)
	}
	args, left := withoutEmpty(args)
	base := binary[strings.LastIndexByte(binary, '/')+1:]
	arg0 := strings.TrimPrefix(args[0], "-") // a login shell
	if arg0[strings.LastIndexByte(arg0, '/')+1:] == base || binary == "" {
		if binary != "" && strings.HasPrefix(binary, "/") {
			return term.Escape(binary) + rest(args) + left
		}
		return term.Args(args) + left
	}
	return term.Escape(binary) + rest(args) + left + "  (as " + term.Args(args[:1]) + ")"
}

// withoutEmpty takes the empty arguments off the end where there are several, and counts them: a program that writes a title over its
// arguments leaves one for each byte that was there.
func withoutEmpty(args []string) (kept []string, left string) {
	n := len(args)
	for n > 1 && args[n-1] == "" {
		n--
	}
	if len(args)-n < 2 {
		return args, ""
	}
	return args[:n], fmt.Sprintf(" ''×%d", len(args)-n)
}

func rest(args []string) string {
	if len(args) < 2 {
		return ""
	}
	return " " + term.Args(args[1:])
}

func execLine(e *model.Event) Line {
	l := Line{Kind: Program, Verb: "exec"}
	if e.PreExisting {
		l.Verb = "running"
	}
	p := e.Process
	if p == nil {
		return l
	}
	l.Object = Command(p)
	var notes []string
	note := func(when bool, s string) {
		if when {
			notes = append(notes, s)
		}
	}
	f := &p.File
	note(f.Script != "" && !slices.Contains(p.Args, f.Script), "script "+term.Escape(f.Script))
	note(f.Memfd, "MEMFD")
	note(f.Deleted && !f.Memfd, "DELETED BINARY")
	note(f.OverlayUpper, "WRITTEN AFTER START")
	note(f.SetuidGained, fmt.Sprintf("SETUID %d → %d", p.Creds.UID, p.Creds.EUID))
	note(f.CapsGained != 0, "GAINS "+strings.Join(f.CapsGained.Names(), ","))
	l.Detail = strings.Join(notes, ", ")
	l.Alarm = f.Memfd || (f.Deleted && !e.PreExisting) || f.OverlayUpper || f.SetuidGained
	return l
}

func forkLine(e *model.Event) Line {
	l := Line{Kind: Program, Verb: "fork"}
	switch {
	case e.Parent != nil:
		l.Object = fmt.Sprintf("from %s(%d)", Process(e.Parent), e.Parent.Key.PID)
	case e.Process != nil && e.Process.ParentKey.PID != 0:
		l.Object = fmt.Sprint("from pid ", e.Process.ParentKey.PID)
	}
	return l
}

func exitLine(x *model.Exit) Line {
	l := Line{Kind: Program, Verb: "exit", Object: Exit(x), Failed: x.Code != 0 || x.Signal != 0}
	if x.RunTime > 0 {
		l.Detail = "after " + Duration(x.RunTime)
	}
	return l
}

// Exit says how a process ended: "0", "1", "SIGKILL", "SIGSEGV, core".
func Exit(x *model.Exit) string {
	if x.Signal == 0 {
		return fmt.Sprint(x.Code)
	}
	s := unix.SignalName(unix.Signal(x.Signal))
	if s == "" {
		s = fmt.Sprintf("signal %d", x.Signal)
	}
	if x.Core {
		s += ", core"
	}
	return s
}

func credentialLine(x *model.Credential) Line {
	var changes []string
	change := func(name string, old, new uint32) {
		if old != new {
			changes = append(changes, fmt.Sprintf("%s %d → %d", name, old, new))
		}
	}
	change("uid", x.Old.UID, x.New.UID)
	change("euid", x.Old.EUID, x.New.EUID)
	change("suid", x.Old.SUID, x.New.SUID)
	change("gid", x.Old.GID, x.New.GID)
	change("egid", x.Old.EGID, x.New.EGID)
	if gained := x.New.CapEffective &^ x.Old.CapEffective; gained != 0 {
		changes = append(changes, "gains "+capNames(gained))
	}
	if dropped := x.Old.CapEffective &^ x.New.CapEffective; dropped != 0 {
		changes = append(changes, "drops "+capNames(dropped))
	}
	raised := x.New.EUID == 0 && x.Old.EUID != 0 && x.Error == 0
	return failing(Line{Kind: Rights, Verb: "identity", Object: term.Escape(x.Call), Detail: strings.Join(changes, ", "), Alarm: raised}, x.Error)
}

// capNames lists up to three capabilities and counts longer sets.
func capNames(s model.CapSet) string {
	names := s.Names()
	if len(names) > 3 {
		return fmt.Sprintf("%d capabilities", len(names))
	}
	return strings.Join(names, ",")
}

func ptraceLine(x *model.Ptrace) Line {
	target := fmt.Sprintf("%s(%d)", Process(x.Target), x.TargetPID)
	if x.Target == nil {
		target = fmt.Sprint("pid ", x.TargetPID)
	}
	return failing(Line{Kind: Kernel, Verb: "ptrace", Object: term.Escape(x.Request) + " " + target, Alarm: x.Request != "traceme"}, x.Error)
}

func mountLine(x *model.Mount) Line {
	o := term.Escape(x.Target)
	if x.Source != "" {
		o = term.Escape(x.Source) + " → " + o
	}
	return failing(Line{Kind: Rights, Verb: term.Cut(term.Escape(x.Op), VerbWidth), Object: o, Detail: term.Escape(x.FSType)}, x.Error)
}

func fileLine(x *model.File) Line {
	l := Line{Kind: File, Verb: term.Cut(term.Escape(string(x.Op)), VerbWidth), Object: term.Escape(x.Path)}
	switch x.Op {
	case model.FileRename, model.FileLink:
		l.Object += " → " + term.Escape(x.NewPath)
	case model.FileChmod:
		l.Detail = fmt.Sprintf("%#o", x.Mode)
	case model.FileChown:
		l.Detail = owner(x.UID) + ":" + owner(x.GID)
	}
	return failing(l, x.Error)
}

func owner(id uint32) string {
	if id == model.NoUID {
		return ""
	}
	return fmt.Sprint(id)
}

func failing(l Line, err model.Errno) Line {
	if err == 0 {
		return l
	}
	l.Failed = true
	l.Detail = joined(", ", l.Detail, err.String())
	return l
}

func joined(sep string, parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, sep)
}
