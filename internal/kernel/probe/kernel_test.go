// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// These tests hold the probe's answers against reality: for each, an independent program, loaded by
// the library and not by the probe's loader, has to have its effect on a real process exactly when
// the probe says that it works. They pass on any kernel, whatever it can do.

// childEnv makes the test binary a process that the tests watch; its value says what it does.
const childEnv = "VIGIE_PROBE_CHILD"

func TestMain(m *testing.M) {
	switch mode, argument, _ := strings.Cut(os.Getenv(childEnv), "="); mode {
	case "":
		os.Exit(m.Run())
	case "mark": // leaves a file behind: it ran
		if err := os.WriteFile(argument, nil, 0o600); err != nil {
			os.Exit(1)
		}
	case "connect":
		conn, err := net.Dial("tcp4", argument)
		if errors.Is(err, unix.EPERM) {
			os.Exit(13)
		}
		if err != nil {
			os.Exit(1)
		}
		conn.Close()
	case "mounts": // the probe changes none
		before := readFile("/proc/self/mountinfo")
		if _, err := Run(context.Background(), Options{}); err != nil || before == "" || readFile("/proc/self/mountinfo") != before {
			os.Exit(1)
		}
	case "report":
		report, err := Run(context.Background(), Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if json.NewEncoder(os.Stdout).Encode(report) != nil {
			os.Exit(1)
		}
	}
	os.Exit(0)
}

func child(t *testing.T, mode string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(ownProgram)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

// sharedReport probes once for all tests.
var sharedReport = sync.OnceValues(func() (*Report, error) { return Run(context.Background(), Options{}) })

func probed(t *testing.T) *Report {
	t.Helper()
	f := readFacts()
	if lacks := append(slices.Clone(f.Capabilities.Missing), f.Capabilities.Useful...); len(lacks) > 0 {
		t.Skipf("needs root: this process lacks %s", strings.Join(lacks, ", "))
	}
	report, err := sharedReport()
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (r *Report) result(t *testing.T, name Feature) Result {
	t.Helper()
	i := slices.IndexFunc(r.Results, func(x Result) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("no result for %s", name)
	}
	return r.Results[i]
}

// agrees requires that the probe's answer is what the test saw.
func agrees(t *testing.T, r Result, effect bool, err error) {
	t.Helper()
	if r.Works != effect {
		t.Errorf("the probe says works=%v (%s); a real program had its effect: %v (%v)", r.Works, r.Cause, effect, err)
	}
}

// inCgroup makes cmd start in a cgroup of its own, whose path it returns.
func inCgroup(t *testing.T, report *Report, cmd *exec.Cmd) string {
	t.Helper()
	if report.Facts.Cgroup.V2Path == "" {
		t.Skip("needs a mounted cgroup v2")
	}
	dir, err := os.MkdirTemp(report.Facts.Cgroup.V2Path, "vigie-test-")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		eventually(t, "the cgroup is empty and can be removed", func() bool { return os.Remove(dir) == nil })
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	return dir
}

// eventually polls for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Errorf("not within 30 s: %s", what)
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// libraryLoads loads spec with the library and attaches it.
func libraryLoads(t *testing.T, spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (io.Closer, error)) error {
	t.Helper()
	spec.License = license
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return err
	}
	t.Cleanup(func() { prog.Close() })
	l, err := attach(prog)
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	return nil
}

// seesExec attaches a program that raises a flag, executes a program, and says whether it was seen.
func seesExec(t *testing.T, spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (io.Closer, error)) (bool, error) {
	t.Helper()
	flag, err := newFlag()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flag.close)
	spec.Instructions = flag.raise()
	if err := libraryLoads(t, spec, attach); err != nil {
		return false, err
	}
	if err := child(t, "mark="+filepath.Join(t.TempDir(), "ran")).Run(); err != nil {
		t.Fatal(err)
	}
	err = flag.raised()
	return err == nil, err
}

func TestTypedTracepointSeesExec(t *testing.T) {
	r := probed(t).result(t, TPBTF)
	seen, err := seesExec(t, &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sched_process_exec"}, attachTracing)
	agrees(t, r, seen, err)
}

func TestRawTracepointSeesExec(t *testing.T) {
	r := probed(t).result(t, RawTP)
	seen, err := seesExec(t, &ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, func(prog *ebpf.Program) (io.Closer, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_process_exec", Program: prog})
	})
	agrees(t, r, seen, err)
}

func TestFentrySeesExec(t *testing.T) {
	r := probed(t).result(t, Fentry)
	seen, err := seesExec(t, &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: "security_bprm_check"}, attachTracing)
	agrees(t, r, seen, err)
}

func TestKprobeSeesExec(t *testing.T) {
	report := probed(t)
	seen, err := seesExec(t, &ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(prog *ebpf.Program) (io.Closer, error) {
		return link.Kprobe("security_bprm_check", prog, nil)
	})
	agrees(t, report.result(t, "kprobe"), seen, err)
}

// denying is a program that answers -EPERM to calls of this process and 0 to all others.
func denying() asm.Instructions {
	return asm.Instructions{
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Mov.Imm(asm.R0, 0),
		asm.JNE.Imm(asm.R1, int32(os.Getpid()), "out"),
		asm.Mov.Imm(asm.R0, -int32(unix.EPERM)),
		asm.Return().WithSymbol("out"),
	}
}

// denies attaches a program that denies task_getpgid to this process, and says whether it did.
func denies(t *testing.T, spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (io.Closer, error)) (bool, error) {
	t.Helper()
	spec.Instructions = denying()
	if err := libraryLoads(t, spec, attach); err != nil {
		return false, err
	}
	_, err := unix.Getpgid(os.Getpid())
	return errors.Is(err, unix.EPERM), err
}

func TestLSMProgramDenies(t *testing.T) {
	r := probed(t).result(t, LSM)
	denied, err := denies(t, &ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: touchedHook}, attachLSM)
	agrees(t, r, denied, err)
	if !r.Works && probed(t).result(t, HookFileOpen).Works {
		t.Error("an lsm hook works although no lsm program is called")
	}
}

func TestFmodRetProgramDenies(t *testing.T) {
	r := probed(t).result(t, FmodRet)
	denied, err := denies(t, &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: touched}, attachTracing)
	agrees(t, r, denied, err)
}

// The probe may say that trampolines are refused only when the kernel answers EPERM to a load by
// another loader too, and must have its errno.
func TestTrampolineErrno(t *testing.T) {
	report := probed(t)
	for name, spec := range map[Feature]*ebpf.ProgramSpec{
		Fentry:  {Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: touched},
		Fexit:   {Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: touched},
		FmodRet: {Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: touched},
		LSM:     {Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: touchedHook},
	} {
		spec.License, spec.Instructions = license, returning(0)
		prog, err := ebpf.NewProgram(spec)
		if err == nil {
			prog.Close()
		}
		r := report.result(t, name)
		if refused := errors.Is(err, unix.EPERM); refused != (r.Errno == "EPERM") {
			t.Errorf("%s: the library's load says %v, the probe %q", name, err, r.Errno)
		} else if !refused && strings.Contains(r.Cause, "every program that attaches through a trampoline") {
			t.Errorf("%s: %s, but the load gave %v", name, r.Cause, err)
		}
	}
}

func TestConnectIsDenied(t *testing.T) {
	report := probed(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cmd := child(t, "connect="+listener.Addr().String())
	dir := inCgroup(t, report, cmd)
	err = libraryLoads(t, &ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, Instructions: returning(0)},
		func(prog *ebpf.Program) (io.Closer, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: ebpf.AttachCGroupInet4Connect, Program: prog})
		})
	if err == nil {
		err = cmd.Run()
	}
	agrees(t, report.result(t, Connect4), cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 13, err)
}

// The ladder promises that SIGKILL at sched_process_exec comes before the first instruction.
func TestKillAtExecIsInTime(t *testing.T) {
	report := probed(t)
	marker := filepath.Join(t.TempDir(), "ran")
	cmd := child(t, "mark="+marker)
	dir := inCgroup(t, report, cmd)
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := st.Sys().(*syscall.Stat_t).Ino // the cgroup's id
	err = libraryLoads(t, &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sched_process_exec",
		Instructions: asm.Instructions{
			asm.FnGetCurrentCgroupId.Call(),
			asm.LoadImm(asm.R1, int64(id), asm.DWord),
			asm.JNE.Reg(asm.R0, asm.R1, "out"),
			asm.Mov.Imm(asm.R1, int32(unix.SIGKILL)),
			asm.FnSendSignal.Call(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		}}, attachTracing)
	if err == nil {
		err = cmd.Run()
	}
	_, statErr := os.Stat(marker)
	killed := false
	if cmd.ProcessState != nil {
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		killed = ws.Signaled() && ws.Signal() == unix.SIGKILL
	}
	works := report.result(t, SendSignal).Works && report.result(t, TPExec).Works && report.result(t, TPBTF).Works
	if inTime := killed && errors.Is(statErr, os.ErrNotExist); inTime != works {
		t.Errorf("the probe says %v; killed %v, its file: %v (%v)", works, killed, statErr, err)
	}
}

func TestFanotifyDeniesExec(t *testing.T) {
	report := probed(t)
	program := filepath.Join(t.TempDir(), "program")
	self, err := os.ReadFile(ownProgram)
	if err == nil {
		err = os.WriteFile(program, self, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), childEnv+"=nothing")
		return cmd.Run()
	}
	group, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == nil {
		defer unix.Close(group)
		err = unix.FanotifyMark(group, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, program)
	}
	denied := false
	if err == nil {
		result := make(chan error, 1)
		go func() { result <- run() }()
		if err := denyNext(group); err != nil {
			t.Fatal(err)
		}
		denied = errors.Is(<-result, unix.EPERM)
	}
	agrees(t, report.result(t, FanotifyExec), denied, err)
}

func TestTaskIteratorFindsThisProcess(t *testing.T) {
	report := probed(t)
	flag, err := newFlag()
	if err != nil {
		t.Fatal(err)
	}
	defer flag.close()
	var it io.ReadCloser
	err = libraryLoads(t, &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "task", Instructions: flag.raise()},
		func(prog *ebpf.Program) (io.Closer, error) {
			l, err := link.AttachIter(link.IterOptions{Program: prog})
			if err == nil {
				it, err = l.Open()
			}
			return l, err
		})
	if err == nil {
		if _, err = io.Copy(io.Discard, it); err == nil {
			err = flag.raised()
		}
		it.Close()
	}
	agrees(t, report.result(t, IterTask), err == nil, err)
}

func TestNothingIsLeftBehind(t *testing.T) {
	probed(t)
	fds := openFiles(t)
	report, err := Run(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "mounts")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // where nobody else mounts
	if err := cmd.Run(); err != nil {
		t.Errorf("mounts: %v", err)
	}
	if root := report.Facts.Cgroup.V2Path; root != "" {
		if left, err := filepath.Glob(root + "/vigie-probe-*"); err != nil || len(left) > 0 {
			t.Errorf("cgroups left: %q (%v)", left, err)
		}
	}
	eventually(t, "every descriptor is closed", func() bool { return openFiles(t) <= fds })
	// Other runs on the same host may have programs of that name, but not for long.
	eventually(t, "no program of the probe is loaded", func() bool {
		for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
			prog, err := ebpf.NewProgramFromID(id)
			if err != nil {
				continue // gone meanwhile
			}
			info, err := prog.Info()
			prog.Close()
			if err == nil && info.Name == progName {
				return false
			}
		}
		return true
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRunForTestsOnlyWhatWasAsked(t *testing.T) {
	probed(t)
	report, err := RunFor(t.Context(), Options{}, Ringbuf, TPBTF)
	if err != nil || len(report.Results) != 2 || report.Results[0].Name != Ringbuf || report.Results[1].Name != TPBTF {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := RunFor(t.Context(), Options{}, "nonsense"); err == nil {
		t.Error("an unknown feature was tested")
	}
}

func TestCancelledRunSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// As an ordinary user every answer is no, and none blames the kernel.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	cmd := child(t, "report")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	if report.Verdict != Unusable || !slices.Contains(report.Facts.Capabilities.Missing, "CAP_BPF") {
		t.Errorf("verdict %s, missing %q", report.Verdict, report.Facts.Capabilities.Missing)
	}
	for _, r := range report.Results {
		if r.Kind == KindProgram && r.Works {
			t.Errorf("%s works without any capability", r.Name)
		}
		if strings.Contains(r.Cause, "the test itself failed") || strings.Contains(r.Cause, "although no capability") {
			t.Errorf("%s: %s", r.Name, r.Cause)
		}
	}
	for _, row := range report.Ladder {
		if row.InUse != 0 || row.Guarantee != NotAvailable {
			t.Errorf("%s: rung %d, %q", row.Name, row.InUse, row.Guarantee)
		}
	}
}

// With every capability, each "no" has a cause that is not a mistake of the test.
func TestEveryFailureIsExplained(t *testing.T) {
	for _, r := range probed(t).Results {
		if r.Works {
			continue
		}
		t.Logf("%s: %s [%s] %q; needs %s", r.Name, r.Cause, r.Errno, r.Detail, r.Needs)
		if r.Cause == "" || strings.Contains(r.Cause, "the test itself failed") || strings.Contains(r.Cause, "could not be tried") {
			t.Errorf("%s: cause %q, detail %q", r.Name, r.Cause, r.Detail)
		}
	}
}
