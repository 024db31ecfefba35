// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"path"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// Observation is an access that an event tells of.
type Observation struct {
	Subject Subject
	Access  Access
	// Object is what was accessed, for people: a path, an address with a port, a capability.
	Object string
}

// open(2) flags, the same on all architectures that vigie runs on.
const (
	oAccMode = 0x3
	oRdWr    = 0x2
	oCreat   = 0x40
	oTrunc   = 0x200
)

// observe says which accesses an event tells of, as the kernel would have judged them; none when policies are not about
// it, when it failed, and when it was there before the agent, so that nobody saw who did it.
func (l *lineage) observe(ev *model.Event) []Observation {
	if ev.Process == nil || ev.Process.KernelThread {
		return nil
	}
	o := observer{subject: l.subject(ev)}
	switch {
	case ev.Exec != nil && !ev.PreExisting:
		o.exec(ev.Process)
	case ev.File != nil:
		o.file(ev.File)
	case ev.Socket != nil:
		o.socket(ev, l)
	case ev.Capability != nil && ev.Capability.Granted:
		o.add(Access{Operation: model.OpCapability, Capability: ev.Capability.Cap}, ev.Capability.Cap.String())
	case ev.Ptrace != nil && ev.Ptrace.Error == 0:
		target := ""
		if ev.Ptrace.Target != nil {
			target = ev.Ptrace.Target.Binary
		}
		o.add(Access{Operation: model.OpPtrace}, target)
	case ev.BPF != nil && ev.BPF.Error == 0:
		o.add(Access{Operation: model.OpBPF}, strings.TrimSpace(ev.BPF.ProgType+" "+ev.BPF.ProgName))
	case ev.Mount != nil && ev.Mount.Error == 0:
		o.add(Access{Operation: model.OpMount}, ev.Mount.Target)
	case ev.Module != nil && ev.Module.Error == 0:
		o.add(Access{Operation: model.OpModule}, ev.Module.Name)
	case ev.Verdict != nil:
		o.verdict(ev.Verdict)
	}
	return o.found
}

type observer struct {
	subject Subject
	found   []Observation
}

func (o *observer) add(a Access, object string) {
	o.found = append(o.found, Observation{o.subject, a, object})
}

func (o *observer) path(op model.Operation, p string) { o.add(Access{Operation: op, Path: p}, p) }

// exec is the program, and the script that it was begun for: the kernel asks for both.
func (o *observer) exec(p *model.Process) {
	o.path(model.OpExec, binaryPath(p))
	if script := p.File.Script; script != "" {
		if !strings.HasPrefix(script, "/") {
			script = path.Join(p.CWD, script)
		}
		o.path(model.OpExec, path.Clean(script))
	}
}

func (o *observer) file(f *model.File) {
	if f.Error != 0 {
		return
	}
	p, ok := objectPath(f.Path)
	if !ok {
		return
	}
	opened := func() {
		o.path(model.OpWrite, p)
		if f.Flags&oAccMode == oRdWr {
			o.path(model.OpRead, p)
		}
	}
	switch f.Op {
	case model.FileRead:
		if f.FileType != "directory" { // listing one is no read of a file
			o.path(model.OpRead, p)
		}
	case model.FileWrite:
		opened()
	case model.FileCreate:
		switch {
		case f.Flags&oCreat != 0:
			opened()
		case !strings.HasPrefix(p, "/memfd:"): // mkdir, mknod, symlink; making a memfd opens nothing
			o.path(model.OpModify, p)
		}
	case model.FileTruncate:
		if f.Flags&oTrunc != 0 {
			opened()
		} else if f.PathFrom == "argument" { // of an open file it needs no more than to have opened it
			o.path(model.OpWrite, p)
		}
	default: // rename, link, unlink, chmod, chown
		o.path(model.OpModify, p)
		if to, ok := objectPath(f.NewPath); ok {
			o.path(model.OpModify, to)
		}
	}
}

// objectPath is a path as rules see it; not ok when it is none: pipes, sockets, anonymous files.
func objectPath(p string) (string, bool) {
	p = strings.TrimSuffix(p, " (deleted)")
	return p, strings.HasPrefix(p, "/")
}

// binaryPath is the path of a process's program as rules see it.
func binaryPath(p *model.Process) string {
	if p == nil {
		return ""
	}
	b := strings.TrimSuffix(p.Binary, " (deleted)")
	if i := strings.Index(b, "memfd:"); p.File.Memfd && i >= 0 {
		b = "/" + b[i:]
	}
	return b
}

func (o *observer) socket(ev *model.Event, l *lineage) {
	s := ev.Socket
	number, ok := protocolNumber(s.Protocol)
	if !ok || number == 0 || s.Family == "unix" || s.Error == errnoPermission {
		return
	}
	a := Access{Protocol: number}
	switch ev.Type {
	case model.TypeConnect:
		a.Operation, a.Address, a.Port = model.OpConnect, s.Remote.Addr(), s.Remote.Port()
		a.Peers = l.listening(ev)
		if s.RemoteName != "" {
			a.Names = []string{s.RemoteName}
		}
		o.add(a, remote(s.Remote, s.RemoteName, s.Protocol))
	case model.TypeAccept:
		a.Operation, a.Address, a.Port = model.OpAccept, s.Remote.Addr(), s.Local.Port()
		o.add(a, "from "+s.Remote.Addr().String()+" on port "+PortRange{a.Port, a.Port, number}.String())
	case model.TypeListen:
		a.Operation, a.Address, a.Port = model.OpListen, s.Local.Addr(), s.Local.Port()
		o.add(a, remote(s.Local, "", s.Protocol))
	}
}

// errnoPermission is EPERM: what a policy answers. A verdict tells of it.
const errnoPermission = 1

func remote(a netip.AddrPort, name, protocol string) string {
	text := a.String() + "/" + protocol
	if name != "" {
		text += " (" + name + ")"
	}
	return text
}

// verdict is what a policy denied or audited at the time: there may be no other event of it.
func (o *observer) verdict(v *model.Verdict) {
	a := Access{Operation: v.Operation, Path: v.Path}
	a.Protocol, _ = protocolNumber(v.Protocol)
	object := v.Path
	switch v.Operation {
	case model.OpConnect, model.OpSend, model.OpReceive:
		a.Address, a.Port = v.Remote.Addr(), v.Remote.Port()
		object = remote(v.Remote, v.RemoteName, v.Protocol)
		if v.RemoteName != "" {
			a.Names = []string{v.RemoteName}
		}
	case model.OpAccept:
		a.Address, a.Port = v.Remote.Addr(), v.Local.Port()
		object = remote(v.Remote, "", v.Protocol)
	case model.OpBind, model.OpListen:
		a.Address, a.Port = v.Local.Addr(), v.Local.Port()
		object = remote(v.Local, "", v.Protocol)
	case model.OpCapability:
		a.Capability, _ = model.ParseCap(v.Subject)
		object = v.Subject
	case model.OpPtrace, model.OpBPF, model.OpMount, model.OpModule, model.OpSocket:
		object = v.Subject
	}
	o.add(a, object)
}
