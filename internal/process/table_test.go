// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

const boot = "0123abcd"

type cgroups map[uint64]*model.Workload

func (c cgroups) Lookup(_ uint32, id uint64) *model.Workload { return c[id] }

func (cgroups) FromProcessTree(ancestors []*model.Process) *model.Workload {
	return &model.Workload{Kind: model.WorkloadProcess, Name: ancestors[len(ancestors)-1].Binary}
}

type fixture struct {
	*Table
	losses *pipeline.Losses
}

func newFixture(o Options) fixture {
	losses := new(pipeline.Losses)
	o.Boot, o.Losses = boot, losses
	o.Wall = func(b uint64) time.Time { return time.Unix(0, int64(b)) }
	return fixture{New(o), losses}
}

func key(pid uint32, start uint64, exec uint32) model.ProcessKey {
	return model.ProcessKey{PID: pid, Start: start, Exec: exec}
}

func (f fixture) exec(k, parent model.ProcessKey, binary string, change ...func(*model.Process)) *model.Event {
	p := &model.Process{Key: k, ParentKey: parent, Binary: binary}
	for _, c := range change {
		c(p)
	}
	ev := &model.Event{Type: model.TypeExec, Key: k, Process: p, Exec: &model.Exec{}}
	f.Enrich(ev)
	return ev
}

func (f fixture) fork(k, parent model.ProcessKey) *model.Event {
	ev := &model.Event{Type: model.TypeFork, Key: k, Process: &model.Process{Key: k, ParentKey: parent, Forked: true}}
	f.Enrich(ev)
	return ev
}

func (f fixture) exit(k model.ProcessKey) *model.Event {
	ev := &model.Event{Type: model.TypeExit, Key: k, Exit: &model.Exit{}}
	f.Enrich(ev)
	return ev
}

func (f fixture) file(k model.ProcessKey) *model.Event {
	ev := &model.Event{Type: model.TypeFile, Key: k, File: &model.File{}}
	f.Enrich(ev)
	return ev
}

func TestForkInheritsTheImageAndExecReplacesIt(t *testing.T) {
	f := newFixture(Options{})
	shell := key(10, 100, 1)
	f.exec(shell, model.ProcessKey{}, "/bin/sh")
	child := f.fork(key(11, 200, 1), shell)
	if p := child.Process; p.Binary != "/bin/sh" || !p.Forked || p.ParentExecID != shell.ExecID(boot) || child.Parent.Key != shell {
		t.Errorf("fork gives %+v, parent %+v", p, child.Parent)
	}
	ev := f.exec(key(11, 200, 2), shell, "/bin/ls")
	if ev.Process.Forked || ev.Exec.Previous != child.Process.ExecID || ev.Process.ParentExecID != shell.ExecID(boot) {
		t.Errorf("exec gives %+v after %q", ev.Process, ev.Exec.Previous)
	}
	if s := f.Stats(); s.Live != 2 || s.Exited != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestLateRecordsFindTheImageTheyMean(t *testing.T) {
	f := newFixture(Options{})
	for n := range uint32(3) {
		f.exec(key(10, 100, n+1), model.ProcessKey{}, string(rune('a'+n)))
	}
	f.exit(key(10, 100, 3))
	for n, want := range []string{"a", "b", "c"} {
		if got := f.file(key(10, 100, uint32(n)+1)).Process.Binary; got != want {
			t.Errorf("image %d is %q, want %q", n+1, got, want)
		}
	}
	if lost := f.losses.Counter("enrich", "process unknown").Load(); lost != 0 {
		t.Errorf("%d events counted as without process", lost)
	}
}

func TestAnUnknownProcessIsNamedByItsKeyAndCounted(t *testing.T) {
	f := newFixture(Options{})
	k := key(77, 700, 3)
	if p := f.file(k).Process; p.ExecID != k.ExecID(boot) {
		t.Errorf("placeholder is %+v", p)
	}
	if lost := f.losses.Counter("enrich", "process unknown").Load(); lost != 1 {
		t.Errorf("counted %d, want 1", lost)
	}
}

func TestPIDReuseIsAnotherProcess(t *testing.T) {
	f := newFixture(Options{})
	f.exec(key(10, 100, 1), model.ProcessKey{}, "first")
	f.exit(key(10, 100, 1))
	f.exec(key(10, 900, 1), model.ProcessKey{}, "second")
	if got := f.file(key(10, 100, 1)).Process.Binary; got != "first" {
		t.Errorf("late record of the first process went to %q", got)
	}
	if got := f.ByPID(10).Binary; got != "second" {
		t.Errorf("pid 10 is %q", got)
	}
}

func TestExitedAreBoundedAndEvictionsCounted(t *testing.T) {
	f := newFixture(Options{Exited: 10})
	f.exec(key(1, 1, 0), model.ProcessKey{}, "init")
	for n := range uint32(100) {
		k := key(100+n, uint64(n)+1000, 1)
		f.exec(k, key(1, 1, 0), "x")
		f.exit(k)
	}
	if s := f.Stats(); s != (Stats{Live: 1, Exited: 10, Evictions: 90}) {
		t.Errorf("stats %+v", s)
	}
	if f.ByPID(1) == nil {
		t.Error("a live process was evicted")
	}
	if f.ByPID(100) != nil || f.ByPID(199) == nil {
		t.Error("the oldest exit must go first")
	}
}

func TestInventoryIsNoNewsWhenTheProcessIsKnown(t *testing.T) {
	f := newFixture(Options{})
	f.exec(key(10, 100, 2), model.ProcessKey{}, "live")
	ev := &model.Event{Type: model.TypeExec, Key: key(10, 100, 2), PreExisting: true,
		Process: &model.Process{Key: key(10, 100, 2), Binary: "inventory"}, Exec: &model.Exec{}}
	if f.Enrich(ev) {
		t.Error("the inventory replaced what was seen live")
	}
	if got := f.ByPID(10).Binary; got != "live" {
		t.Errorf("binary is %q", got)
	}
}

func TestGainsComeFromTheImageBefore(t *testing.T) {
	f := newFixture(Options{})
	f.exec(key(10, 100, 1), model.ProcessKey{}, "sh", func(p *model.Process) { p.Creds.EUID = 1000 })
	ev := f.exec(key(10, 100, 2), model.ProcessKey{}, "sudo", func(p *model.Process) { p.Creds.CapPermitted = 3 })
	if file := ev.Process.File; !file.SetuidGained || file.CapsGained != 3 {
		t.Errorf("gains %+v", file)
	}
}

func TestCredentialsChangeACopyOnly(t *testing.T) {
	f := newFixture(Options{})
	k := key(10, 100, 1)
	before := f.exec(k, model.ProcessKey{}, "sh").Process
	ev := &model.Event{Type: model.TypeCredential, Key: k, Credential: &model.Credential{Call: "setuid", New: model.Creds{UID: 5}}}
	f.Enrich(ev)
	if before.Creds.UID != 0 || ev.Process.Creds.UID != 5 || ev.Credential.Old.UID != 0 || f.ByPID(10).Creds.UID != 5 {
		t.Errorf("before %+v, event %+v", before.Creds, ev.Process.Creds)
	}
}

func TestTreeLookups(t *testing.T) {
	f := newFixture(Options{})
	a, b, c := key(1, 1, 1), key(2, 2, 1), key(3, 3, 1)
	f.exec(a, model.ProcessKey{}, "a")
	f.exec(b, a, "b")
	p := f.exec(c, b, "c").Process
	if up := f.Ancestors(p); len(up) != 2 || up[0].Binary != "b" || up[1].Binary != "a" {
		t.Errorf("ancestors %v", up)
	}
	if !f.Descends(p, 1) || !f.Descends(p, 3) || f.Descends(p, 9) {
		t.Error("descent is wrong")
	}
	if down := f.Children(f.ByPID(1)); len(down) != 1 || down[0].Binary != "b" {
		t.Errorf("children %v", down)
	}
	if got := f.ByExecID(c.ExecID(boot)); got != p {
		t.Errorf("by exec_id: %v", got)
	}
	if f.ByExecID("nonsense") != nil || f.ByExecID("ffffffff-3-3-1") != nil {
		t.Error("an exec_id of nothing or of another boot was found")
	}
}

func TestWorkloadFromCgroupElseFromTheTreeAndReplaceable(t *testing.T) {
	nginx := &model.Workload{Name: "nginx.service"}
	f := newFixture(Options{Workloads: cgroups{7: nginx}})
	f.exec(key(1, 1, 0), model.ProcessKey{}, "init")
	p := f.exec(key(2, 2, 1), key(1, 1, 0), "nginx", func(p *model.Process) { p.CgroupID = 7 }).Process
	q := f.exec(key(3, 3, 1), key(1, 1, 0), "cron").Process
	if p.Workload != nginx || q.Workload.Kind != model.WorkloadProcess || q.Workload.Name != "init" {
		t.Errorf("workloads %+v and %+v", p.Workload, q.Workload)
	}
	named := &model.Workload{Name: "web"}
	f.ReplaceWorkload(nginx, named)
	if p.Workload != nginx || f.ByPID(2).Workload != named {
		t.Error("a published process was changed, or the table was not")
	}
}

func TestBeforeTheInventoryIsCompleteNothingIsLost(t *testing.T) {
	f := newFixture(Options{})
	f.Settle(1000)
	for at, want := range map[uint64]uint64{999: 0, 1000: 1} {
		ev := &model.Event{Type: model.TypeExit, Key: key(uint32(at), 5, 1), BootTime: at, Exit: &model.Exit{}}
		before := f.losses.Counter("enrich", "process unknown").Load()
		f.Enrich(ev)
		if got := f.losses.Counter("enrich", "process unknown").Load() - before; got != want || ev.Process.PreExisting == (want == 1) {
			t.Errorf("at %d: counted %d, want %d; %+v", at, got, want, ev.Process)
		}
	}
}

func TestRestoreBuildsTheTableFromACapture(t *testing.T) {
	f := newFixture(Options{})
	k := key(10, 100, 1)
	f.Restore(&model.Event{Type: model.TypeExec, Key: k, Process: &model.Process{Key: k, Binary: "sh"}})
	next := key(10, 100, 2)
	f.Restore(&model.Event{Type: model.TypeFile, Key: next, Process: &model.Process{Key: next, Binary: "ls"}})
	f.Restore(&model.Event{Type: model.TypeLoss})
	if p := f.ByPID(10); p == nil || p.Binary != "ls" {
		t.Errorf("pid 10 is %+v", p)
	}
	f.Restore(&model.Event{Type: model.TypeExit, Key: next, Process: &model.Process{Key: next, Binary: "ls"}})
	if s := f.Stats(); s.Live != 0 || s.Exited != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestEarlierImagesAreForgottenAfterAWhile(t *testing.T) {
	f := newFixture(Options{})
	k := key(10, 100, 1)
	f.exec(k, model.ProcessKey{}, "first")
	replace := func(pid uint32, exec uint32, at uint64) {
		key := key(pid, 100, exec)
		f.Enrich(&model.Event{Type: model.TypeExec, Key: key, BootTime: at, Exec: &model.Exec{},
			Process: &model.Process{Key: key, Binary: "later"}})
	}
	replace(10, 2, 1000)
	if got := f.file(k).Process.Binary; got != "first" {
		t.Errorf("right after the exec a late record goes to %q", got)
	}
	f.exec(key(11, 100, 1), model.ProcessKey{}, "other")
	replace(11, 2, 1000+uint64(oldImageAge)+1) // time passes
	if e := f.entries[id{10, 100}]; e.old != nil {
		t.Errorf("%d images are remembered", len(e.old))
	}
	if e := f.entries[id{11, 100}]; len(e.old) != 1 {
		t.Errorf("%d images of the process that just called exec", len(e.old))
	}
}
