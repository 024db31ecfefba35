// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	processes "github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/testkit"
)

func of(pid uint32, typ model.Type) func(*model.Event) bool {
	return func(e *model.Event) bool { return e.Type == typ && e.Key.PID == pid }
}

func credential(pid uint32, call string) func(*model.Event) bool {
	return func(e *model.Event) bool { return of(pid, model.TypeCredential)(e) && e.Credential.Call == call }
}

func TestCredentialChangesAreSeenWithWhatTheyLeft(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	pid := do(t, nil, "setresuid")
	c := k.Await(t, "setresuid", credential(pid, "setresuid")).Credential
	if c.New.UID != 10 || c.New.EUID != 20 || c.New.SUID != 30 || c.New.FSUID != 20 || c.Error != 0 || c.New.CapEffective != 0 {
		t.Errorf("setresuid left %+v", c)
	}
	pid = do(t, nil, "capset")
	c = k.Await(t, "capset", credential(pid, "capset")).Credential
	if c.New.CapEffective != 1<<unix.CAP_KILL || c.New.CapPermitted != 1<<unix.CAP_KILL|1<<unix.CAP_CHOWN || c.Error != 0 {
		t.Errorf("capset left %+v", c)
	}
	pid = do(t, nil, "setfsuid")
	c = k.Await(t, "setfsuid", credential(pid, "setfsuid")).Credential
	if c.New.FSUID != 77 || c.New.UID != 0 || c.Error != 0 {
		t.Errorf("setfsuid left %+v", c)
	}
	pid = do(t, nobody(), "setuid-denied")
	denied := func(e *model.Event) bool { return credential(pid, "setuid")(e) && e.Credential.Error != 0 }
	c = k.Await(t, "the refused setuid", denied).Credential
	if c.Error != model.Errno(unix.EPERM) || c.New.UID != 65534 {
		t.Errorf("refused setuid left %+v", c)
	}
	// The child before its exec, as os/exec made it.
	if c := k.Await(t, "setuid before the exec", func(e *model.Event) bool {
		return credential(pid, "setuid")(e) && e.Credential.Error == 0
	}).Credential; c.New.UID != 65534 {
		t.Errorf("setuid before the exec left %+v", c)
	}
	if n := len(k.Events(credential(pid, "setuid"))); n != 2 {
		t.Errorf("%d setuid events of the child, want 2", n)
	}
}

func TestNamespaceChangesNameTheNamespacesThatChanged(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	self := ownNamespaces(t)

	pid := do(t, nil, "unshare")
	ev := k.Await(t, "unshare", of(pid, model.TypeNamespace)).Namespace
	if ev.Call != "unshare" || !slices.Equal(ev.Flags, []string{"net", "pid", "uts"}) || ev.Error != 0 {
		t.Errorf("unshare is %+v", ev)
	}
	if ev.New.Net == self.Net || ev.New.UTS == self.UTS || ev.New.Mnt != self.Mnt || ev.New.PID != self.PID {
		t.Errorf("unshare left %+v, of the test %+v", ev.New, self)
	}
	pid = do(t, nobody(), "unshare-denied")
	if ev := k.Await(t, "refused unshare", of(pid, model.TypeNamespace)).Namespace; ev.Error != model.Errno(unix.EPERM) ||
		!slices.Equal(ev.Flags, []string{"uts"}) {
		t.Errorf("refused unshare is %+v", ev)
	}

	// A child in namespaces of its own, then one that joins them.
	sleeper := exec.Command("/bin/sleep", "1000")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	ev = k.Await(t, "clone", of(uint32(os.Getpid()), model.TypeNamespace)).Namespace
	if ev.Call != "clone" || !slices.Equal(ev.Flags, []string{"uts", "ipc"}) || ev.New.UTS == self.UTS || ev.New.Net != self.Net {
		t.Errorf("clone is %+v", ev)
	}
	pid = do(t, nil, "setns", strconv.Itoa(sleeper.Process.Pid), "uts")
	joined := k.Await(t, "setns", of(pid, model.TypeNamespace)).Namespace
	if joined.Call != "setns" || !slices.Equal(joined.Flags, []string{"uts"}) || joined.New.UTS != ev.New.UTS || joined.Error != 0 {
		t.Errorf("setns is %+v, the other's are %+v", joined, ev.New)
	}
	pid = do(t, nobody(), "clone-denied")
	for _, want := range []string{"net", "ipc"} {
		ev := k.Await(t, "refused clone", func(e *model.Event) bool {
			return of(pid, model.TypeNamespace)(e) && slices.Equal(e.Namespace.Flags, []string{want})
		}).Namespace
		if ev.Call != "clone" || ev.Error != model.Errno(unix.EPERM) {
			t.Errorf("refused clone is %+v", ev)
		}
	}
}

func TestPtraceIsSeenWithItsTarget(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{FoldInterval: time.Millisecond}))
	sleeper := exec.Command("/bin/sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	target := uint32(sleeper.Process.Pid)

	pid := do(t, nil, "ptrace", strconv.Itoa(int(target)))
	if p := k.Await(t, "seize", of(pid, model.TypePtrace)).Ptrace; p.Request != "seize" || p.TargetPID != target || p.Error != 0 {
		t.Errorf("seize is %+v", p)
	}
	// process_vm_readv is folded: the counts add up to the ten calls, and those on itself are none.
	pid = do(t, nil, "process-vm", strconv.Itoa(int(target)))
	awaitCount(t, k, of(pid, model.TypePtrace), 10)
	for _, e := range k.Events(of(pid, model.TypePtrace)) {
		if p := e.Ptrace; p.Request != "process_vm_readv" || p.TargetPID != target || p.Error != model.Errno(unix.EFAULT) {
			t.Errorf("process_vm_readv is %+v", p)
		}
	}

	child, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		t.Fatal(err)
	}
	_ = child.Kill()
	_, _ = child.Wait()
	if p := k.Await(t, "traceme", of(uint32(child.Pid), model.TypePtrace)).Ptrace; p.Request != "traceme" ||
		p.TargetPID != uint32(child.Pid) || p.Error != 0 {
		t.Errorf("traceme is %+v", p)
	}
}

func TestPtraceInAPIDNamespaceNamesTheTargetByItsRootPID(t *testing.T) {
	k := testkit.StartSensor(t, processes.New(processes.Options{}), New(Options{}))
	pid := do(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}, "ptrace-own-child")
	target := k.Await(t, "the child of the child", func(e *model.Event) bool {
		return e.Type == model.TypeExec && e.Process.ParentKey.PID == pid && slices.Contains(e.Process.Args, "1000.25")
	})
	p := k.Await(t, "seize", of(pid, model.TypePtrace)).Ptrace
	if p.TargetPID != target.Key.PID && p.TargetPID != 0 { // before 6.14 the number can't be translated
		t.Errorf("seize is %+v, the target is pid %d", p, target.Key.PID)
	}
	if spec, err := btf.LoadKernelSpec(); err != nil {
		t.Fatal(err)
	} else if _, err := spec.AnyTypeByName("bpf_task_from_vpid"); err == nil && p.TargetPID == 0 {
		t.Error("the target was not translated, though this kernel can")
	}
}

func TestBPFProgramLoadsAreSeenButOurOwn(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	pid := do(t, nil, "bpf")
	ev := k.Await(t, "the load", func(e *model.Event) bool {
		return of(pid, model.TypeBPF)(e) && e.BPF.ProgName == "vigie_test_xdp"
	}).BPF
	if ev.Op != "prog_load" || ev.ProgType != "xdp" || ev.ProgID == 0 || ev.Insns != 2 || ev.Error != 0 {
		t.Errorf("load is %+v", ev)
	}
	pid = do(t, nobody(), "bpf-denied")
	ev = k.Await(t, "the refused load", func(e *model.Event) bool {
		return of(pid, model.TypeBPF)(e) && e.BPF.ProgType == "sched_cls"
	}).BPF
	if ev.Error != model.Errno(unix.EPERM) || ev.ProgID != 0 {
		t.Errorf("refused load is %+v", ev)
	}
	if own := k.Events(of(uint32(os.Getpid()), model.TypeBPF)); len(own) != 0 {
		t.Errorf("%d loads of the agent's own were reported", len(own))
	}
}

func TestModuleCallsAreSeen(t *testing.T) {
	s := New(Options{})
	k := testkit.StartSensor(t, s)
	_, err := os.Stat("/proc/modules")
	if hasModules := err == nil; hasModules != strings.Contains(s.Rung(), "modules: tp_btf") {
		t.Errorf("rung is %q, the kernel has modules: %v", s.Rung(), hasModules)
	}
	file := filepath.Join(t.TempDir(), "no-module.ko")
	if err := os.WriteFile(file, []byte("not ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := do(t, nil, "module", file)
	for op, name := range map[string]string{"load": "no-module.ko", "unload": "vigie_no_module"} {
		m := k.Await(t, op, func(e *model.Event) bool { return of(pid, model.TypeModule)(e) && e.Module.Op == op }).Module
		if m.Name != name || m.Error == 0 {
			t.Errorf("%s is %+v", op, m)
		}
	}
}

func TestMountsAreSeenWithAbsolutePaths(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	dir := testkit.RealPath(t, t.TempDir())
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	pid := do(t, nil, "mount", dir)
	want := []model.Mount{
		{Op: "mount", Source: "none", Target: "/", Flags: unix.MS_REC | unix.MS_PRIVATE},
		{Op: "mount", Source: "vigie-tmp", Target: dir + "/a", FSType: "tmpfs", Flags: unix.MS_NOSUID},
		{Op: "mount", Source: dir + "/a", Target: dir + "/b", Flags: unix.MS_BIND},
		{Op: "umount", Target: dir + "/b", Flags: unix.MNT_DETACH},
		{Op: "move_mount", Source: "vigie-new", Target: dir + "/b", FSType: "tmpfs", Flags: unix.MOVE_MOUNT_F_EMPTY_PATH},
		{Op: "mount", Source: "x", Target: dir + "/missing", FSType: "tmpfs", Error: model.Errno(unix.ENOENT)},
		{Op: "mount_setattr", Target: dir + "/b"},
		{Op: "pivot_root", Source: "/", Target: "/old"},
	}
	k.Await(t, "pivot_root", func(e *model.Event) bool { return of(pid, model.TypeMount)(e) && e.Mount.Op == "pivot_root" })
	var got []model.Mount
	for _, e := range k.Events(of(pid, model.TypeMount)) {
		got = append(got, *e.Mount)
	}
	if last := len(want) - 1; len(got) == len(want) && got[last].Error == model.Errno(unix.EINVAL) {
		want[last] = model.Mount{Op: "pivot_root", Source: dir + "/a", Target: dir + "/a/old", Error: model.Errno(unix.EINVAL)}
	}
	if !slices.Equal(got, want) {
		t.Errorf("mounts are\n%+v\nwant\n%+v", got, want)
	}
}

func TestCapabilityUseIsFoldedAndAddsUp(t *testing.T) {
	s := New(Options{FoldInterval: time.Millisecond})
	k := testkit.StartSensor(t, s)
	if strings.Contains(s.Rung(), "capability use: not seen") {
		t.Skip("needs Linux 6.13 (tracepoint cap_capable) or trampoline programs: " + s.Rung())
	}
	use := func(pid uint32, granted bool) func(*model.Event) bool {
		return func(e *model.Event) bool {
			return of(pid, model.TypeCapability)(e) && e.Capability.Cap == unix.CAP_NET_BIND_SERVICE && e.Capability.Granted == granted
		}
	}
	awaitCount(t, k, use(do(t, nil, "bind", "779"), true), 5)
	denied := do(t, nobody(), "bind", "779", "denied")
	awaitCount(t, k, use(denied, false), 5)
	// Memory accounting asks for CAP_SYS_ADMIN with every mapping: no use of it.
	if n := k.Events(func(e *model.Event) bool {
		return of(denied, model.TypeCapability)(e) && e.Capability.Cap == unix.CAP_SYS_ADMIN
	}); len(n) != 0 {
		t.Errorf("a process that mapped memory only has %d uses of CAP_SYS_ADMIN", len(n))
	}
	for _, l := range k.Losses.Snapshot() {
		if l.Count != 0 {
			t.Errorf("lost %+v", l)
		}
	}
}

func TestWhatIsOffIsNotSeen(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{Without: []model.Type{model.TypeCredential, model.TypeCapability}}))
	credentials := do(t, nil, "setresuid")
	last := do(t, nil, "unshare")
	k.Await(t, "a later event", of(last, model.TypeNamespace))
	if got := k.Events(func(e *model.Event) bool { return e.Type == model.TypeCredential || e.Type == model.TypeCapability }); len(got) != 0 {
		t.Errorf("%d events of types that are off, pid %d", len(got), credentials)
	}
}

// awaitCount waits until the counts of the events add up to n, and checks that they do not go beyond.
func awaitCount(t *testing.T, k *testkit.Kernel, match func(*model.Event) bool, n uint32) {
	t.Helper()
	var sum uint32
	k.Await(t, fmt.Sprintf("the last of %d", n), func(e *model.Event) bool {
		if !match(e) {
			return false
		}
		sum = 0
		return true
	})
	for end := time.Now().Add(testkit.Deadline); sum < n && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		sum = 0
		for _, e := range k.Events(match) {
			sum += e.Count
		}
	}
	if sum != n {
		t.Errorf("counts add up to %d, want %d", sum, n)
	}
}

func ownNamespaces(t *testing.T) model.Namespaces {
	t.Helper()
	inode := func(name string) uint32 {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+name, &st); err != nil {
			return 0
		}
		return uint32(st.Ino)
	}
	return model.Namespaces{UTS: inode("uts"), IPC: inode("ipc"), Mnt: inode("mnt"), PID: inode("pid"), Net: inode("net"),
		Cgroup: inode("cgroup"), User: inode("user"), Time: inode("time")}
}
