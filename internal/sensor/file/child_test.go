// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const childEnv = "VIGIE_FILE_TEST_CHILD"

// startChild runs this test binary again to do something (see child), and returns when that is done. The child lives
// on until the returned function, or the end of the test, lets it go.
func startChild(t *testing.T, args ...string) (pid uint32, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child %q: %v", args, err)
		}
	})
	t.Cleanup(end)
	if _, err := io.ReadFull(out, make([]byte, len(childDone))); err != nil {
		t.Fatalf("child %q did not come to its end: %v", args, err)
	}
	return uint32(cmd.Process.Pid), end
}

const childDone = "done"

// child does what its arguments say, tells that it is done, and waits until it is let go.
func child() int {
	if err := childWork(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	fmt.Print(childDone)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func childWork(what string, args []string) error {
	switch what {
	case "open": // N THREADS FILE…: every file N times, by each of the threads
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		threads, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		errs := make(chan error, threads)
		for range threads {
			go func() { errs <- openAll(args[2:], n) }()
		}
		for range threads {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	case "open-exec": // FILE: opens it, and again as a new image
		if err := openAll(args, 3); err != nil {
			return err
		}
		return unix.Exec("/proc/self/exe", []string{"again", "open", "3", "1", args[0]}, os.Environ())
	case "chroot": // DIR FILE
		if err := unix.Chroot(args[0]); err != nil {
			return err
		}
		return openAll(args[1:], 1)
	case "deep": // DIR N NAME: N directories of that name below each other, and a file in the last
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if err := os.Chdir(args[0]); err != nil {
			return err
		}
		for range n {
			if err := unix.Mkdir(args[2], 0o700); err != nil {
				return err
			}
			if err := unix.Chdir(args[2]); err != nil {
				return err
			}
		}
		fd, err := unix.Open("leaf", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
		return unix.Unlink("leaf")
	case "denied": // FILE, as nobody
		if err := unix.Setresuid(65534, 65534, 65534); err != nil {
			return err
		}
		if err := os.Chdir(filepath.Dir(args[0])); err != nil {
			return err
		}
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY | unix.O_CREAT} {
			if fd, err := unix.Open(filepath.Base(args[0]), flags, 0o600); !errors.Is(err, unix.EACCES) {
				return fmt.Errorf("open returned %d, %w, want EACCES", fd, err)
			}
		}
		if _, err := unix.Open("not there", unix.O_RDONLY, 0); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("open returned %w, want ENOENT", err)
		}
		return nil
	}
	return fmt.Errorf("what is %q", strings.Join(append([]string{what}, args...), " "))
}

func openAll(files []string, n int) error {
	for range n {
		for _, f := range files {
			fd, err := unix.Open(f, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", f, err)
			}
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
	}
	return nil
}
