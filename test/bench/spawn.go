// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vforkExec starts path as a child that shares this process's memory until its execve, which is as cheap as a start
// can be: os/exec would spend more on pipes and signal masks than the kernel on the process. It returns the child's
// pid, or a negative errno. The caller's thread must be locked.
//
//go:noescape
func vforkExec(path *byte, argv, envp **byte) (pid int64)

// spawner starts one program over and over.
type spawner struct {
	path *byte
	argv [2]*byte
	envp [1]*byte
}

func newSpawner(path string) (*spawner, error) {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("path of the program to start: %w", err)
	}
	return &spawner{path: p, argv: [2]*byte{p, nil}}, nil
}

// start returns the pid of a new process.
func (s *spawner) start() (int, error) {
	pid := vforkExec(s.path, &s.argv[0], &s.envp[0])
	if pid < 0 {
		return 0, fmt.Errorf("start a process: %w", syscall.Errno(-pid))
	}
	return int(pid), nil
}

// wait reaps pid and requires that it ended well.
func wait(pid int) error {
	var status int32
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&status)), 0, 0, 0, 0)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return fmt.Errorf("wait for process %d: %w", pid, errno)
		case status != 0:
			return fmt.Errorf("process %d ended with wait status %#x: its exec may have failed", pid, status)
		}
		return nil
	}
}
