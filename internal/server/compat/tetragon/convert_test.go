// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"encoding/base64"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

func TestExecHasTetragonsFields(t *testing.T) {
	shell, script, curl := family()
	c := newConverter(newBackend(shell, script, curl))
	m := c.event(execOf(curl, script), true).GetProcessExec()
	p := m.GetProcess()
	id, err := base64.StdEncoding.DecodeString(p.GetExecId())
	if err != nil || string(id) != "node1:3004:300" {
		t.Errorf("exec_id is %q, %v", id, err)
	}
	if p.GetParentExecId() != m.GetParent().GetExecId() || m.GetParent().GetParentExecId() != m.GetAncestors()[0].GetExecId() {
		t.Error("the exec_ids do not lead from a process to its parent")
	}
	if len(m.GetAncestors()) != 1 || m.GetAncestors()[0].GetPid().GetValue() != 100 {
		t.Errorf("ancestors %v: the parent is no ancestor", m.GetAncestors())
	}
	if p.GetPid().GetValue() != 300 || p.GetTid().GetValue() != 300 || p.GetUid().GetValue() != 0 || p.GetAuid().GetValue() != 1000 {
		t.Errorf("pid, tid, effective uid, login uid: %v", p)
	}
	if p.GetCwd() != "/" || p.GetBinary() != "/usr/bin/curl" || p.GetArguments() != "-s https://example.org" || p.GetFlags() != "execve rootcwd clone" {
		t.Errorf("cwd %q, binary %q, arguments %q, flags %q", p.GetCwd(), p.GetBinary(), p.GetArguments(), p.GetFlags())
	}
	if !slices.Equal(p.GetCap().GetEffective(), []tg.CapabilitiesType{tg.CapabilitiesType_CAP_SETUID, tg.CapabilitiesType_CAP_SYS_ADMIN}) {
		t.Errorf("effective capabilities %v", p.GetCap().GetEffective())
	}
	if !p.GetNs().GetUts().GetIsHost() || p.GetNs().GetNet().GetIsHost() || p.GetNs().GetMnt() != nil {
		t.Errorf("namespaces %v", p.GetNs())
	}
	if p.GetProcessCredentials().GetUid().GetValue() != 1000 || !p.GetStartTime().AsTime().Equal(curl.StartTime) || p.GetBinaryProperties() != nil {
		t.Errorf("credentials, start or properties: %v", p)
	}
	// A script is what it is called, as the kernel was asked for it.
	parent := m.GetParent()
	if parent.GetBinary() != "/srv/fetch" || parent.GetArguments() != `./fetch "all of it" now` {
		t.Errorf("script: binary %q, arguments %q", parent.GetBinary(), parent.GetArguments())
	}
	if f := m.GetAncestors()[0].GetFlags(); f != "procFS" {
		t.Errorf("what ran before the agent has flags %q", f)
	}
}

// The image that an exec replaces and the one that follows have different ids, the same in every event.
func TestExecIDsNameImages(t *testing.T) {
	c := newConverter(newBackend())
	key := model.ProcessKey{PID: 7, Start: 99, Exec: 5}
	next, forked := key, key
	next.Exec++
	forked.PID++
	ids := []string{c.execID(key), c.execID(next), c.execID(forked)}
	if slices.Sort(ids); len(slices.Compact(ids)) != 3 {
		t.Errorf("ids are not distinct: %v", ids)
	}
	if again := newConverter(newBackend()).execID(key); !slices.Contains(ids, again) {
		t.Errorf("another agent on this host gives %s", again)
	}
}

func TestArgumentsAreJoinedAsTetragonDoes(t *testing.T) {
	for want, argv := range map[string][]string{
		"":             {"a"},
		"b":            {"a", "b"},
		`b "c d" e`:    {"a", "b", "c d", "e"},
		` "b c"`:       {"a", "b c"},
		`b  "c d"`:     {"a", "b", "", "c d"},
		"b c\td \"e\"": {"a", "b", "c\td", `"e"`},
	} {
		if got := arguments(argv); got != want {
			t.Errorf("%q: got %q, want %q", argv, got, want)
		}
	}
	if arguments(nil) != "" {
		t.Error("no argv at all")
	}
}

func TestParents(t *testing.T) {
	_, script, curl := family()
	c := newConverter(newBackend())
	forgotten := c.event(execOf(curl, nil), false).GetProcessExec().GetParent()
	if forgotten.GetPid().GetValue() != 200 || forgotten.GetFlags() != "unknown" || forgotten.GetExecId() != c.execID(script.Key) {
		t.Errorf("a forgotten parent: %v", forgotten)
	}
	first := &model.Process{Key: model.ProcessKey{PID: 1, Start: 1}, Binary: "/sbin/init"}
	kernel := c.event(execOf(first, nil), false).GetProcessExec()
	if kernel.GetParent().GetBinary() != "<kernel>" || kernel.GetProcess().GetParentExecId() != kernel.GetParent().GetExecId() {
		t.Errorf("the first process: %v", kernel)
	}
	unknown := c.event(exitOf(&model.Process{Key: model.ProcessKey{PID: 5, Start: 5}}, nil), false).GetProcessExit().GetProcess()
	if unknown.GetFlags() != "unknown" || unknown.GetPid().GetValue() != 5 {
		t.Errorf("a process that was never announced: %v", unknown)
	}
}

func TestExit(t *testing.T) {
	shell, script, _ := family()
	c := newConverter(newBackend(shell, script))
	e := exitOf(script, shell)
	m := c.event(e, false).GetProcessExit()
	if m.GetStatus() != 3 || m.GetSignal() != "" || !m.GetTime().AsTime().Equal(e.Time) || len(m.GetAncestors()) != 0 {
		t.Errorf("exit 3: %v", m)
	}
	for signal, want := range map[uint32]string{9: "SIGKILL", 40: "SIG40"} {
		e.Exit = &model.Exit{Signal: signal}
		if m := c.event(e, false).GetProcessExit(); m.GetSignal() != want || m.GetStatus() != 0 {
			t.Errorf("signal %d: %v", signal, m)
		}
	}
	fork := *script
	fork.Forked = true
	if f := c.event(exitOf(&fork, shell), false).GetProcessExit().GetProcess().GetFlags(); f != "clone" {
		t.Errorf("a fork without exec has flags %q", f)
	}
	again := *script
	again.Key.Exec++
	if f := c.process(&again).GetFlags(); f != "execve" {
		t.Errorf("an exec without a fork has flags %q", f)
	}
}

func TestBinaryProperties(t *testing.T) {
	shell, _, curl := family()
	for _, c := range []struct {
		file model.ExecFile
		want *tg.BinaryProperties
	}{
		{model.ExecFile{Mode: 0o104755, SetuidGained: true, CapsGained: 1}, &tg.BinaryProperties{Setuid: credentials(&model.Creds{}).GetUid(),
			PrivilegesChanged: []tg.ProcessPrivilegesChanged{tg.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_SETUID}}},
		{model.ExecFile{Mode: 0o102755, SetuidGained: true}, &tg.BinaryProperties{Setgid: credentials(&model.Creds{}).GetGid(),
			PrivilegesChanged: []tg.ProcessPrivilegesChanged{tg.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_SETGID}}},
		{model.ExecFile{CapsGained: 1}, &tg.BinaryProperties{
			PrivilegesChanged: []tg.ProcessPrivilegesChanged{tg.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_CAP}}},
		{model.ExecFile{Inode: 12, Memfd: true}, &tg.BinaryProperties{File: &tg.FileProperties{Inode: &tg.InodeProperties{Number: 12,
			Links: credentials(&model.Creds{}).GetGid()}}}},
		{model.ExecFile{Inode: 12, Mode: 0o104755}, nil}, // root runs a setuid program: nothing changes
	} {
		p := *curl
		p.File = c.file
		got := newConverter(newBackend()).event(execOf(&p, shell), false).GetProcessExec().GetProcess().GetBinaryProperties()
		if !proto.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.file, got, c.want)
		}
	}
}

func TestContainersAndPods(t *testing.T) {
	_, _, curl := family()
	id := "0123456789abcdef0123456789abcdef"
	curl.Workload = &model.Workload{Kind: model.WorkloadPod, Name: "web-0", Namespace: "prod", ID: id, Runtime: "containerd", Image: "nginx:1",
		Container: "nginx", PodUID: "u", Labels: map[string]string{"app": "web"}}
	c := newConverter(newBackend())
	p := c.process(curl)
	want := &tg.Pod{Namespace: "prod", Name: "web-0", Uid: "u", PodLabels: map[string]string{"app": "web"},
		Container: &tg.Container{Id: "containerd://" + id, Name: "nginx", Image: &tg.Image{Name: "nginx:1"}}}
	if p.GetDocker() != "0123456789abcde" || !proto.Equal(p.GetPod(), want) {
		t.Errorf("pod: docker %q, %v", p.GetDocker(), p.GetPod())
	}
	curl.Workload = &model.Workload{Kind: model.WorkloadContainer, ID: id}
	if p := c.process(curl); p.GetDocker() != "0123456789abcde" || p.GetPod() != nil {
		t.Errorf("container: docker %q, %v", p.GetDocker(), p.GetPod())
	}
	curl.Workload = &model.Workload{Kind: model.WorkloadUnit, ID: "nginx.service"}
	if p := c.process(curl); p.GetDocker() != "" || p.GetInInitTree().GetValue() {
		t.Errorf("unit: %v", p)
	}
}

// What runs in a container descends from its first process, unless it was put there from outside.
func TestInInitTree(t *testing.T) {
	shim, entry, worker := family()
	container := &model.Workload{Kind: model.WorkloadContainer, ID: "c"}
	entry.Workload, worker.Workload = container, container
	entry.Namespaces.PID, worker.Namespaces.PID = 77, 77
	injected := *worker
	injected.Key, injected.ParentKey = model.ProcessKey{PID: 400, Start: 4_000, Exec: 3}, shim.Key
	c := newConverter(newBackend(shim, entry, worker, &injected))
	for p, want := range map[*model.Process]bool{shim: false, entry: true, worker: true, &injected: false} {
		if got := c.process(p); got.GetInInitTree().GetValue() != want {
			t.Errorf("pid %d: %v, want %v", p.Key.PID, got.GetInInitTree(), want)
		}
	}
	if f := c.process(worker).GetFlags(); f != "execve rootcwd clone inInitTree" {
		t.Errorf("flags %q", f)
	}
}

// The kernel gives the number of a namespace that is gone to another one.
func TestInitTreeOfAReusedNamespace(t *testing.T) {
	shim, entry, worker := family()
	container := &model.Workload{Kind: model.WorkloadContainer, ID: "c"}
	entry.Workload, worker.Workload = container, container
	entry.Namespaces.PID, worker.Namespaces.PID = 77, 77
	b := newBackend(shim, entry)
	c := newConverter(b)
	if !c.process(entry).GetInInitTree().GetValue() {
		t.Fatal("the first container's process is not in its tree")
	}
	ended := *entry
	ended.EndTime = worker.StartTime.Add(-1)
	worker.ParentKey = shim.Key
	b.list = []*model.Process{shim, &ended, worker}
	if !c.process(worker).GetInInitTree().GetValue() {
		t.Error("the second container's first process is not in its tree")
	}
}

// Every field that has a value in the model may come from a kernel of tomorrow: nothing may break on it.
func TestAnyEventConverts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := newConverter(newBackend())
	for range 3000 {
		e := modeltest.Event(rng, []float64{0.3, 0.7, 1}[rng.IntN(3)])
		parts := map[model.Type]bool{model.TypeExec: e.Exec != nil, model.TypeExit: e.Exit != nil, model.TypeProbe: e.Probe != nil, model.TypeVerdict: e.Verdict != nil}
		if !parts[e.Type] {
			continue // the part that the type names is always there
		}
		m := c.event(e, true)
		if _, err := proto.Marshal(m); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if m.GetEvent() == nil {
			t.Fatalf("%+v became nothing", e)
		}
	}
	for _, typ := range model.Types() {
		e := &model.Event{Type: typ, Probe: &model.Probe{}}
		sent := slices.Contains([]model.Type{model.TypeExec, model.TypeExit, model.TypeProbe, model.TypeVerdict}, typ)
		if (eventType(e) != tg.EventType_UNDEF) != sent {
			t.Errorf("%s has type %s", typ, eventType(e))
		}
	}
}

func TestFoldedEventsSayHowMany(t *testing.T) {
	shell, script, _ := family()
	c := newConverter(newBackend())
	e := probeOf(script, shell, model.Probe{Kind: "lsm", Hook: "file_open"})
	if m := c.event(e, false); m.GetAggregationInfo() != nil || m.GetProcessLsm().GetProcess().GetTid().GetValue() != 201 {
		t.Errorf("one event: %v", m)
	}
	e.Count = 12
	if m := c.event(e, false); m.GetAggregationInfo().GetCount() != 12 {
		t.Errorf("twelve in one: %v", m)
	}
}

func TestVerdictsAreSecurityHooks(t *testing.T) {
	shell, script, _ := family()
	c := newConverter(newBackend())
	for _, v := range []struct {
		verdict  model.Verdict
		function string
		action   tg.KprobeAction
		arg      func(*tg.ProcessLsm) bool
	}{
		{model.Verdict{Action: model.VerdictDenied, Hook: "lsm file_open", Operation: model.OpRead, Path: "/etc/shadow"}, "file_open",
			tg.KprobeAction_KPROBE_ACTION_OVERRIDE, func(l *tg.ProcessLsm) bool { return l.GetArgs()[0].GetFileArg().GetPath() == "/etc/shadow" }},
		{model.Verdict{Action: model.VerdictKilled, Hook: "sched_process_exec", Operation: model.OpExec, Path: "/bin/nc"}, "bprm_check_security",
			tg.KprobeAction_KPROBE_ACTION_SIGKILL, func(l *tg.ProcessLsm) bool { return l.GetArgs()[0].GetLinuxBinprmArg().GetPath() == "/bin/nc" }},
		{model.Verdict{Action: model.VerdictAudited, Hook: "cgroup connect4", Operation: model.OpConnect, Protocol: "tcp",
			Remote: netip.MustParseAddrPort("192.0.2.1:443")}, "socket_connect", tg.KprobeAction_KPROBE_ACTION_POST,
			func(l *tg.ProcessLsm) bool {
				s := l.GetArgs()[0].GetSockArg()
				return s.GetDaddr() == "192.0.2.1" && s.GetDport() == 443 && s.GetFamily() == "AF_INET" && s.GetProtocol() == "IPPROTO_TCP"
			}},
		{model.Verdict{Action: model.VerdictDenied, Hook: "lsm capable", Operation: model.OpCapability, Subject: "CAP_SYS_ADMIN"}, "capable",
			tg.KprobeAction_KPROBE_ACTION_OVERRIDE, func(l *tg.ProcessLsm) bool {
				return l.GetArgs()[0].GetCapabilityArg().GetValue().GetValue() == 21 && l.GetArgs()[0].GetCapabilityArg().GetName() == "CAP_SYS_ADMIN"
			}},
	} {
		v.verdict.Policy, v.verdict.Rule, v.verdict.Guarantee = "web", "files.deny[0]", model.DeniedBefore
		l := c.event(&model.Event{Type: model.TypeVerdict, Process: script, Parent: shell, Verdict: &v.verdict}, false).GetProcessLsm()
		if l.GetPolicyName() != "web" || l.GetFunctionName() != v.function || l.GetAction() != v.action || !v.arg(l) {
			t.Errorf("%+v: %v", v.verdict, l)
		}
	}
}
