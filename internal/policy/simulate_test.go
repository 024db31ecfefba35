// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// story makes the events of a small host: systemd starts nginx in a unit, whose worker starts a shell.
type story struct {
	events []*model.Event
	pid    uint32
}

func webUnit() *model.Workload {
	return &model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service", Cgroup: "/system.slice/nginx.service"}
}

func (s *story) add(ev *model.Event) *model.Event {
	ev.Seq = uint64(len(s.events) + 1)
	if ev.Process != nil {
		ev.Key = ev.Process.Key
	}
	s.events = append(s.events, ev)
	return ev
}

func (s *story) process(parent *model.Process, binary string, w *model.Workload) *model.Process {
	s.pid++
	p := &model.Process{Key: model.ProcessKey{PID: s.pid, Start: 1}, Binary: binary, Workload: w}
	p.ExecID = p.Key.ExecID("boot")
	if parent != nil {
		p.ParentKey, p.ParentExecID = parent.Key, parent.ExecID
	}
	return p
}

// exec forks parent and executes binary in the child.
func (s *story) exec(parent *model.Process, binary string, w *model.Workload) *model.Process {
	forked := s.process(parent, parent.Binary, w)
	forked.Forked = true
	s.add(&model.Event{Type: model.TypeFork, Process: forked, Parent: parent})
	p := *forked
	p.Forked, p.Key.Exec, p.Binary = false, 1, binary
	p.ExecID = p.Key.ExecID("boot")
	s.add(&model.Event{Type: model.TypeExec, Process: &p, Parent: parent, Exec: &model.Exec{Previous: forked.ExecID}})
	return &p
}

func (s *story) file(p, parent *model.Process, op model.FileOp, path string, flags uint32) *model.Event {
	return s.add(&model.Event{Type: model.TypeFile, Process: p, Parent: parent, File: &model.File{Op: op, Path: path, Flags: flags, PathFrom: "object"}})
}

func (s *story) socket(t model.Type, p, parent *model.Process, local, remote, name string) *model.Event {
	sock := &model.Socket{Protocol: "tcp", Family: "ipv4", RemoteName: name}
	if local != "" {
		sock.Local = netip.MustParseAddrPort(local)
	}
	if remote != "" {
		sock.Remote = netip.MustParseAddrPort(remote)
	}
	return s.add(&model.Event{Type: t, Process: p, Parent: parent, Socket: sock})
}

const header = "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: web}\nspec:\n"

// lines are the denials as "rule operation object binary count".
func lines(s *Simulation) []string {
	var out []string
	for _, d := range s.Denials {
		out = append(out, strings.Join([]string{d.Rule, string(d.Operation), d.Object, d.Binary}, " ")+" "+strings.Repeat("+", int(d.Count)))
	}
	return out
}

func TestSimulate(t *testing.T) {
	var s story
	unit := webUnit()
	systemd := s.process(nil, "/usr/lib/systemd/systemd", nil)
	nginx := s.exec(systemd, "/usr/sbin/nginx", unit)
	other := s.exec(systemd, "/bin/sh", nil)
	shell := s.exec(nginx, "/bin/sh", unit)
	cat := s.exec(shell, "/bin/cat", unit)
	s.file(cat, shell, model.FileRead, "/etc/shadow", 0).Count = 3
	s.file(other, systemd, model.FileRead, "/etc/shadow", 0)
	s.file(cat, shell, model.FileRead, "/etc/passwd", 0)
	s.file(cat, shell, model.FileRead, "/etc/shadow", 0).File.Error = 13
	s.file(nginx, systemd, model.FileWrite, "/etc/shadow", oRdWr)
	s.file(nginx, systemd, model.FileRename, "/tmp/x", 0).File.NewPath = "/etc/shadow"
	s.file(nginx, systemd, model.FileRead, "pipe:[1]", 0)
	s.socket(model.TypeListen, nginx, systemd, "0.0.0.0:80", "", "")
	s.socket(model.TypeConnect, cat, shell, "", "192.0.2.1:443", "www.example.org")
	s.socket(model.TypeConnect, cat, shell, "", "127.0.0.1:80", "")
	s.socket(model.TypeConnect, cat, shell, "", "192.0.2.1:80", "")
	s.add(&model.Event{Type: model.TypeCapability, Process: nginx, Parent: systemd, Capability: &model.Capability{Cap: 21, Granted: true}})
	s.add(&model.Event{Type: model.TypeMount, Process: nginx, Parent: systemd, Mount: &model.Mount{Op: "mount", Target: "/mnt"}})
	s.add(&model.Event{Type: model.TypeLoss, Loss: &model.Loss{}})

	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"what a unit may execute: the exec of nginx was by systemd in the unit", "  selector: {unit: nginx.service}\n  processes: {allow: [/bin/sh, /bin/cat]}\n",
			[]string{"processes.allow exec /usr/sbin/nginx /usr/lib/systemd/systemd +"}},
		{"a binary and what it starts, not its own exec", "  selector: {binary: /usr/sbin/nginx}\n  processes: {allow: []}\n",
			[]string{"processes.allow exec /bin/cat /bin/sh +", "processes.allow exec /bin/sh /usr/sbin/nginx +"}},
		{"by and parent of an exec", "  selector: {}\n  processes: {deny: [{path: /bin/cat, by: /bin/sh, parent: /usr/sbin/nginx}, {path: /bin/cat, by: /bin/sh, parent: /bin/sh}]}\n",
			[]string{"processes.deny[1] exec /bin/cat /bin/sh +"}}, // the shell's child, still a shell, calls exec
		{"files", "  selector: {unit: nginx.service}\n  files: {deny: [{path: /etc/shadow, by: [/bin/cat, /usr/sbin/nginx]}]}\n",
			[]string{"files.deny[0] read /etc/shadow /bin/cat +++", "files.deny[0] modify /etc/shadow /usr/sbin/nginx +",
				"files.deny[0] read /etc/shadow /usr/sbin/nginx +", "files.deny[0] write /etc/shadow /usr/sbin/nginx +"}},
		{"the parent of one who reads", "  selector: {}\n  files: {deny: [{path: /etc/**, parent: /bin/sh, access: read}]}\n",
			[]string{"files.deny[0] read /etc/shadow /bin/cat +++", "files.deny[0] read /etc/passwd /bin/cat +"}},
		{"names and workloads", "  selector: {unit: nginx.service}\n  network: {egress: {allow: [{to: {fqdn: \"*.example.org\"}}, {to: {workload: {unit: nginx.service}}}]}}\n",
			[]string{"network.egress.allow connect 192.0.2.1:80/tcp /bin/cat +"}},
		{"listen", "  selector: {unit: nginx.service}\n  network: {listen: {allow: [{ports: 443/tcp}]}}\n",
			[]string{"network.listen.allow listen 0.0.0.0:80/tcp /usr/sbin/nginx +"}},
		{"privileges", "  selector: {unit: nginx.service}\n  capabilities: {allow: [CAP_CHOWN]}\n  operations: {deny: [mount, bpf]}\n",
			[]string{"capabilities.allow capability CAP_SYS_ADMIN /usr/sbin/nginx +", "operations.deny[0] mount /mnt /usr/sbin/nginx +"}},
	} {
		table := mustCompile(t, header+c.spec)
		got := Simulate([]*Table{table}, slices.Values(s.events), nil)
		if g := lines(got); !slices.Equal(g, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, g, c.want)
		}
		if got.Judged == 0 || len(got.Denials) > 0 && got.Denials[0].Example == nil {
			t.Errorf("%s: judged %d, %+v", c.name, got.Judged, got.Denials)
		}
	}
}

func TestSimulationSaysItsLimits(t *testing.T) {
	var s story
	p := s.process(nil, "/bin/a", nil)
	s.add(&model.Event{Type: model.TypeExec, Process: p, Exec: &model.Exec{Previous: "boot-99-1-0"}})
	table := mustCompile(t, header+"  selector: {}\n  processes: {deny: [{path: /bin/a, by: /bin/b}]}\n  network: {egress: {deny: [{ports: 1/tcp}]}}\n  capabilities: {deny: [CAP_CHOWN]}\n")
	got := Simulate([]*Table{table}, slices.Values(s.events), nil)
	text := strings.Join(got.Limits, "\n")
	for _, want := range []string{"of 1 execs it is not known", "raw and packet sockets", "no use of a capability"} {
		if !strings.Contains(text, want) {
			t.Errorf("the limits do not say %q: %s", want, text)
		}
	}
	known := func(id string) *model.Process { return &model.Process{ExecID: id, Binary: "/bin/b"} }
	if got := lines(Simulate([]*Table{table}, slices.Values(s.events), known)); !slices.Equal(got, []string{"processes.deny[0] exec /bin/a /bin/b +"}) {
		t.Error(got)
	}
}

func TestExplain(t *testing.T) {
	var s story
	unit := webUnit()
	systemd := s.process(nil, "/usr/lib/systemd/systemd", nil)
	nginx := s.exec(systemd, "/usr/sbin/nginx", unit)
	images := map[string]*model.Process{systemd.ExecID: systemd, nginx.ExecID: nginx}
	find := func(id string) *model.Process { return images[id] }
	tables := []*Table{
		mustCompile(t, header+"  selector: {unit: nginx.service}\n  mode: enforce\n  onDenied: kill\n  files: {deny: [{path: /etc/shadow, access: write}], allow: [/etc/*]}\n"),
		mustCompile(t, header+"  selector: {unit: db.service}\n  files: {allow: []}\n"),
		mustCompile(t, header+"  selector: {}\n  files: {deny: [/x]}\n  network: {egress: {deny: [{ports: 1/tcp}]}}\n"),
	}
	for _, c := range []struct {
		event *model.Event
		want  []string
	}{
		{s.file(nginx, systemd, model.FileWrite, "/etc/shadow", oRdWr), []string{"files.deny[0] killed", " allowed"}},
		{s.file(nginx, systemd, model.FileRead, "/etc/shadow", 0), []string{"files.allow[0] allowed", " allowed"}},
		{s.file(nginx, systemd, model.FileRead, "/x", 0), []string{"files.allow killed", "files.deny[0] audited"}},
		{s.socket(model.TypeConnect, nginx, systemd, "", "192.0.2.1:1", ""), []string{" allowed", "network.egress.deny[0] audited"}},
		{s.add(&model.Event{Type: model.TypeVerdict, Process: nginx, Verdict: &model.Verdict{Operation: model.OpSocket, Subject: "raw"}}), []string{" allowed", "network.egress.deny audited"}},
		{s.add(&model.Event{Type: model.TypeVerdict, Process: systemd, Verdict: &model.Verdict{Policy: "web", Operation: model.OpRead, Path: "/x"}}),
			[]string{"files.allow killed", "files.allow audited", "files.deny[0] audited"}}, // all are named web
		{s.add(&model.Event{Type: model.TypeExit, Process: nginx, Exit: &model.Exit{}}), nil},
	} {
		var got []string
		for _, x := range Explain(tables, c.event, find) {
			got = append(got, x.Rule+" "+x.Action)
			if x.Reason == "" || x.Policy != "web" || (x.Rule != "") != (x.Text != "") {
				t.Errorf("%+v says too little", x)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.event.Type, got, c.want)
		}
	}
}
