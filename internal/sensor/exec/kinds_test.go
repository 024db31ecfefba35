// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// execOf returns a match for the first exec whose pid and base name are these.
func execOf(pid int, base string) func(*model.Event) bool {
	return func(e *model.Event) bool {
		return e.Type == model.TypeExec && e.Key.PID == uint32(pid) && filepath.Base(e.Process.Binary) == base
	}
}

func start(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// copyOf copies a program, so that a test can do to it what it likes.
func copyOf(t *testing.T, program, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(testkit.RealPath(t, program))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPeculiarExecutables(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	dir := t.TempDir()

	t.Run("memfd", func(t *testing.T) {
		b, err := os.ReadFile(testkit.RealPath(t, "/bin/sleep"))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.MemfdCreate("payload", 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "payload")
		defer f.Close()
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		pid := start(t, &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{"sleep", "60"}, ExtraFiles: []*os.File{f}})
		e := k.Await(t, "the exec of the memfd", func(e *model.Event) bool {
			return e.Type == model.TypeExec && e.Key.PID == uint32(pid) && e.Process.File.Memfd
		})
		if !strings.Contains(e.Process.Binary, "memfd:payload") {
			t.Errorf("binary is %q", e.Process.Binary)
		}
	})

	t.Run("deleted", func(t *testing.T) {
		path := copyOf(t, "/bin/sleep", dir, "gone")
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pid := start(t, &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{"gone", "60"}, ExtraFiles: []*os.File{f}})
		e := k.Await(t, "the exec of the deleted file", execOf(pid, "gone"))
		if !e.Process.File.Deleted || e.Process.File.Memfd {
			t.Errorf("file is %+v", e.Process.File)
		}
	})

	t.Run("script", func(t *testing.T) {
		script := filepath.Join(dir, "script.sh")
		if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		pid, _ := testkit.Run(t, nil, script, "one")
		e := k.Await(t, "the exec of the script", execOf(pid, filepath.Base(testkit.RealPath(t, "/bin/sh"))))
		if f := e.Process.File; f.Script != script || f.Interpreter != "/bin/sh" {
			t.Errorf("script %q, interpreter %q", f.Script, f.Interpreter)
		}
		if want := []string{"/bin/sh", script, "one"}; !slices.Equal(e.Process.Args, want) {
			t.Errorf("args %q, want %q", e.Process.Args, want)
		}
	})

	t.Run("setuid", func(t *testing.T) {
		path := copyOf(t, "/bin/sleep", dir, "rooted")
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, os.ModeSetuid|0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		e := k.Await(t, "the exec of the setuid file", execOf(start(t, cmd), "rooted"))
		if c := e.Process.Creds; c.UID != 65534 || c.EUID != 0 || e.Process.File.Mode&0o4000 == 0 || !e.Process.File.SecureExec {
			t.Errorf("credentials %+v of a file with mode %o", c, e.Process.File.Mode)
		}
	})
}

func TestFileCapabilities(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := copyOf(t, "/bin/sleep", dir, "capable")
	// struct vfs_cap_data, revision 2, effective, permitted = CAP_NET_RAW (include/uapi/linux/capability.h)
	data := make([]byte, 20)
	binary.LittleEndian.PutUint32(data, 0x02000001)
	binary.LittleEndian.PutUint32(data[4:], 1<<unix.CAP_NET_RAW)
	if err := unix.Setxattr(path, "security.capability", data, 0); err != nil {
		t.Skipf("needs a file system with capabilities and CAP_SETFCAP: %v", err)
	}
	cmd := exec.Command(path, "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	e := k.Await(t, "the exec of the capable file", execOf(start(t, cmd), "capable"))
	if c := e.Process.Creds; c.EUID != 65534 || c.CapPermitted != 1<<unix.CAP_NET_RAW || c.CapEffective != 1<<unix.CAP_NET_RAW {
		t.Errorf("credentials %+v", c)
	}
}

func TestOverlayTellsTheImageFromWhatWasWritten(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	dir := t.TempDir()
	// On a tmpfs of its own: overlay cannot lie on overlay, as the folder of a test in a container does.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("needs to mount tmpfs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyOf(t, "/bin/sleep", filepath.Join(dir, "lower"), "shipped")
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Skipf("needs overlayfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	copyOf(t, "/bin/sleep", merged, "dropped")
	for name, upper := range map[string]bool{"shipped": false, "dropped": true} {
		e := k.Await(t, "the exec of "+name, execOf(start(t, exec.Command(filepath.Join(merged, name), "60")), name))
		if e.Process.File.OverlayUpper != upper || e.Process.Binary != filepath.Join(merged, name) {
			t.Errorf("%s: binary %q, upper %v", name, e.Process.Binary, e.Process.File.OverlayUpper)
		}
	}
}

func TestHostileArguments(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	t.Run("cut at the limit and said so", func(t *testing.T) {
		pid, _ := testkit.Run(t, nil, "/bin/true", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000))
		p := k.Await(t, "the exec", execOf(pid, "true")).Process
		if got := len(strings.Join(p.Args, " ")); !p.ArgsTruncated || got < 4000 || got > 4096 {
			t.Errorf("kept %d bytes, truncated %v", got, p.ArgsTruncated)
		}
	})
	t.Run("a megabyte of small arguments", func(t *testing.T) {
		argv := []string{"/bin/true"}
		for range 100_000 {
			argv = append(argv, "123456789")
		}
		pid, _ := testkit.Run(t, nil, argv...)
		p := k.Await(t, "the exec", execOf(pid, "true")).Process
		if !p.ArgsTruncated || len(p.Args) < 400 || p.Args[1] != "123456789" {
			t.Errorf("kept %d arguments, truncated %v", len(p.Args), p.ArgsTruncated)
		}
	})
	t.Run("not UTF-8, newline, empty", func(t *testing.T) {
		pid, _ := testkit.Run(t, nil, "/bin/true", "a\xffb", "c\nd", "", "é")
		p := k.Await(t, "the exec", execOf(pid, "true")).Process
		if want := []string{"/bin/true", `a\xffb`, "c\nd", "", "é"}; !slices.Equal(p.Args, want) || p.ArgsTruncated {
			t.Errorf("args %q, want %q", p.Args, want)
		}
	})
	t.Run("no argv at all", func(t *testing.T) {
		pid := start(t, &exec.Cmd{Path: "/bin/true", Args: []string{""}})
		if p := k.Await(t, "the exec", execOf(pid, "true")).Process; len(p.Args) > 1 {
			t.Errorf("args %q", p.Args)
		}
	})
}

func TestDeepAndStrangePaths(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	for _, c := range []struct {
		name, component string
		depth           int
		want            func(dir string) string
	}{
		{"close to 4 KiB", strings.Repeat("d", 250), 14, func(dir string) string { return dir }},
		{"newline and bad UTF-8", "a\nb\xfe", 2, func(dir string) string { return strings.ReplaceAll(dir, "\xfe", `\xfe`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for range c.depth {
				dir = filepath.Join(dir, c.component)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			program := copyOf(t, "/bin/true", dir, "prog")
			cmd := exec.Command(program)
			cmd.Dir = dir
			_ = cmd.Run()
			p := k.Await(t, "the exec", execOf(cmd.Process.Pid, "prog")).Process
			if p.CWD != c.want(dir) || p.Binary != c.want(program) {
				t.Errorf("binary %q in %q", p.Binary, p.CWD)
			}
		})
	}
}

func TestExitTellsHow(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	exitOf := func(pid int) *model.Exit {
		return k.Await(t, "the exit", func(e *model.Event) bool {
			return e.Type == model.TypeExit && e.Key.PID == uint32(pid)
		}).Exit
	}
	pid, _ := testkit.Run(t, nil, "/bin/sh", "-c", "kill -9 $$")
	if x := exitOf(pid); x.Signal != 9 || x.Code != 0 {
		t.Errorf("killed: %+v", x)
	}
	pid, _ = testkit.Run(t, nil, "/bin/sh", "-c", "exit 255")
	if x := exitOf(pid); x.Signal != 0 || x.Code != 255 {
		t.Errorf("exited: %+v", x)
	}
}

func TestFailedExecIsReportedWithItsArguments(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	failed := func(path string) *model.Event {
		return k.Await(t, "the failed exec", func(e *model.Event) bool {
			return e.Type == model.TypeExecFailed && e.ExecFailed.Path == path
		})
	}
	_ = (&exec.Cmd{Path: "/nonexistent/program", Args: []string{"program", "-x", "y"}}).Run()
	e := failed("/nonexistent/program").ExecFailed
	if e.Error != model.Errno(syscall.ENOENT) || !slices.Equal(e.Args, []string{"program", "-x", "y"}) {
		t.Errorf("got %+v", e)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	_ = exec.Command(plain).Run()
	if e := failed(plain).ExecFailed; e.Error != model.Errno(syscall.ENOEXEC) {
		t.Errorf("got %+v", e)
	}
}

func TestExecByAThreadKeepsTheProcess(t *testing.T) {
	if os.Getenv("VIGIE_TEST_EXEC_FROM_THREAD") != "" {
		runtime.LockOSThread()
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			_ = unix.Exec("/bin/sleep", []string{"sleep", "60"}, nil)
			close(done)
		}()
		<-done
		os.Exit(1)
	}
	k := testkit.StartSensor(t, New(Options{}))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestExecByAThreadKeepsTheProcess$")
	cmd.Env = append(os.Environ(), "VIGIE_TEST_EXEC_FROM_THREAD=1")
	pid := start(t, cmd)
	e := k.Await(t, "the exec by a thread", execOf(pid, "sleep"))
	first := k.Await(t, "the first exec", func(e *model.Event) bool { return e.Type == model.TypeExec && e.Key.PID == uint32(pid) })
	if e.Key.Start != first.Key.Start || e.Key.Exec != first.Key.Exec+1 {
		t.Errorf("keys %+v and %+v are not of one process", first.Key, e.Key)
	}
}

func TestInventoryListsWhatRanBefore(t *testing.T) {
	testkit.RequireBPF(t)
	cmd := exec.Command("/bin/sleep", "60")
	cmd.Dir = "/usr"
	pid := start(t, cmd)
	s := New(Options{})
	k := testkit.StartSensor(t, s)
	k.Inventory(t, s)
	e := k.Await(t, "the process", execOf(pid, "sleep"))
	s.FillArgs(e.Process)
	if p := e.Process; !e.PreExisting || p.CWD != "/usr" || !slices.Equal(p.Args, []string{"/bin/sleep", "60"}) ||
		p.ParentKey.PID != uint32(testkit.PID()) {
		t.Errorf("inventory has %+v", p)
	}
	threads := k.Events(func(e *model.Event) bool { return e.PreExisting && e.Process.KernelThread })
	if len(threads) == 0 || !strings.HasPrefix(threads[0].Process.Binary, "[") {
		t.Errorf("%d kernel threads", len(threads))
	}
}

func TestCgroupsAreAnnounced(t *testing.T) {
	var made, removed CgroupChange
	done := make(chan struct{}, 2)
	name := "vigie-test-announced"
	k := testkit.StartSensor(t, New(Options{OnCgroup: func(c CgroupChange) {
		if filepath.Base(c.Path) != name {
			return
		}
		if c.Removed {
			removed = c
		} else {
			made = c
		}
		done <- struct{}{}
	}}))
	if k.Host.Cgroup2() == "" {
		t.Skip("needs a cgroup2 mount")
	}
	dir := filepath.Join(k.Host.Cgroup2(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Rmdir(dir); err != nil {
		t.Fatal(err)
	}
	<-done
	<-done
	if made.ID != st.Ino || removed.ID != st.Ino || made.Path != "/"+name || made.Hierarchy != 0 {
		t.Errorf("made %+v, removed %+v, inode %d", made, removed, st.Ino)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, 512))
	s := New(Options{OnCgroup: func(CgroupChange) {}})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Aligned as in the ring.
		rec := make([]byte, len(b)+8)[:len(b)]
		copy(rec, b)
		for _, decode := range s.Decoders() {
			_, _ = decode(rec, &model.Event{})
		}
	})
}
