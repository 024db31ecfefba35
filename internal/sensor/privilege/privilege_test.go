// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	processes "github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/testkit"
)

const helperEnv = "VIGIE_TEST_DO"

// The test binary, started with VIGIE_TEST_DO, is the process that does the things: a real child, which can
// give up its rights for good.
func TestMain(m *testing.M) {
	if what := os.Getenv(helperEnv); what != "" {
		runtime.LockOSThread() // credentials and namespaces are the thread's
		if err := deeds()[what](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, what+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func deeds() map[string]func(args []string) error {
	return map[string]func([]string) error{
		"setuid-denied": func([]string) error {
			if err := raw(unix.SYS_SETUID, 0); err != unix.EPERM {
				return fmt.Errorf("setuid: %w", err)
			}
			return nil
		},
		"setresuid": func([]string) error { return errOf(raw(unix.SYS_SETRESUID, 10, 20, 30)) },
		"setfsuid": func([]string) error {
			raw(unix.SYS_SETFSUID, ^uintptr(0)) // a question
			raw(unix.SYS_SETFSUID, 77)
			raw(unix.SYS_SETFSUID, 77) // no change
			return nil
		},
		"capset": func([]string) error {
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			caps := [2]unix.CapUserData{{Effective: 1 << unix.CAP_KILL, Permitted: 1<<unix.CAP_KILL | 1<<unix.CAP_CHOWN}}
			return unix.Capset(&hdr, &caps[0])
		},
		"unshare": func([]string) error { return unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWPID) },
		"unshare-denied": func([]string) error {
			if err := unix.Unshare(unix.CLONE_NEWUTS); err != unix.EPERM {
				return fmt.Errorf("unshare: %w", err)
			}
			return nil
		},
		"setns": func(args []string) error {
			f, err := os.Open("/proc/" + args[0] + "/ns/" + args[1])
			if err != nil {
				return err
			}
			return unix.Setns(int(f.Fd()), 0)
		},
		"clone-denied": func([]string) error {
			_, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWNET|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			if errno != unix.EPERM {
				return fmt.Errorf("clone: %w", errno)
			}
			var args [11]uint64
			args[0] = unix.CLONE_NEWIPC
			_, _, errno = unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args[0])), 88, 0)
			if errno != unix.EPERM {
				return fmt.Errorf("clone3: %w", errno)
			}
			return nil
		},
		"ptrace": func(args []string) error {
			pid, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			if err := unix.PtraceSeize(pid); err != nil {
				return err
			}
			return nil
		},
		"ptrace-own-child": func([]string) error {
			child := exec.Command("/bin/sleep", "1000.25")
			if err := child.Start(); err != nil {
				return err
			}
			defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
			return unix.PtraceSeize(child.Process.Pid)
		},
		"process-vm": func(args []string) error {
			pid, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			buf := make([]byte, 8)
			local := []unix.Iovec{{Base: &buf[0], Len: 8}}
			for range 10 {
				// The address is nobody's: the call is allowed and fails late, with EFAULT.
				if _, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 8, Len: 8}}, 0); err != unix.EFAULT {
					return fmt.Errorf("process_vm_readv: %w", err)
				}
				if _, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&buf[0])), Len: 8}}, 0); err != nil {
					return err
				}
			}
			return nil
		},
		"bpf": func([]string) error {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "vigie_test_xdp", Type: ebpf.XDP, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
			if err != nil {
				return err
			}
			return p.Close()
		},
		"bpf-denied": func([]string) error {
			_, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "denied", Type: ebpf.SchedCLS, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
			if err == nil {
				return fmt.Errorf("loaded")
			}
			return nil
		},
		"module": func(args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			if err := unix.FinitModule(int(f.Fd()), "", 0); err == nil {
				return fmt.Errorf("loaded %s", args[0])
			}
			if err := unix.DeleteModule("vigie_no_module", 0); err == nil {
				return fmt.Errorf("unloaded")
			}
			return nil
		},
		"mount": func(args []string) error { return mounts(args[0]) },
		"bind": func(args []string) error {
			port, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			for range 5 {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
				if (err != nil) != (len(args) > 1) {
					return fmt.Errorf("bind: %w", err)
				}
				if err := unix.Close(fd); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func mounts(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount("vigie-tmp", "a", "tmpfs", unix.MS_NOSUID, "size=64k"); err != nil {
		return err
	}
	if err := unix.Mount("a", dir+"/b", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Unmount("b", unix.MNT_DETACH); err != nil {
		return err
	}
	fs, err := unix.Fsopen("tmpfs", 0)
	if err != nil {
		return err
	}
	if err := unix.FsconfigSetString(fs, "source", "vigie-new"); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mnt, err := unix.Fsmount(fs, 0, 0)
	if err != nil {
		return err
	}
	at, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	if err := unix.MoveMount(mnt, "", at, "b", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Mount("x", dir+"/missing", "tmpfs", 0, ""); err != unix.ENOENT {
		return fmt.Errorf("mount on nothing: %w", err)
	}
	if err := unix.MountSetattr(at, "b", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	if err := os.Chdir(dir + "/a"); err != nil {
		return err
	}
	if err := os.Mkdir("old", 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "old"); err != nil && err != unix.EINVAL { // an initramfs is no root to leave
		return err
	}
	return nil
}

// raw makes a system call in this thread only.
func raw(nr uintptr, args ...uintptr) syscall.Errno {
	args = append(args, 0, 0, 0)
	_, _, errno := unix.RawSyscall(nr, args[0], args[1], args[2])
	return errno
}

func errOf(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// nobody are the attributes of a child without rights.
func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
}

// do has a child do what is named, and returns its pid.
func do(t *testing.T, attr *syscall.SysProcAttr, what string, args ...string) uint32 {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if attr != nil && attr.Credential != nil { // it must be able to run the binary
		exe = forNobody(t, exe)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env, cmd.SysProcAttr, cmd.Dir = append(os.Environ(), helperEnv+"="+what), attr, "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the child failed: %v: %s", err, out)
	}
	return uint32(cmd.Process.Pid)
}

// forNobody copies the test binary to where another user can run it.
func forNobody(t *testing.T, exe string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vigie-privilege-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "test")
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

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
