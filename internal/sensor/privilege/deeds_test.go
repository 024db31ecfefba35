// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
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
