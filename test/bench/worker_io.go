// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// All of it is raw system calls on a locked thread: what is measured is the kernel, not Go's scheduler.

// openStep opens the files of a folder for reading, one after the other, and closes each.
func openStep(dir string) (func() error, func(), error) {
	names, err := filesIn(dir)
	if err != nil {
		return nil, nil, err
	}
	paths := make([]*byte, len(names))
	for i, name := range names {
		if paths[i], err = unix.BytePtrFromString(name); err != nil {
			return nil, nil, err
		}
	}
	next, atCWD := 0, unix.AT_FDCWD
	return func() error {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(atCWD), uintptr(unsafe.Pointer(paths[next])), unix.O_RDONLY, 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("open %s: %w", names[next], errno)
		}
		if next++; next == len(paths) {
			next = 0
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0); errno != 0 {
			return fmt.Errorf("close: %w", errno)
		}
		return nil
	}, func() {}, nil
}

// messageBytes is the length of a request, and of a response.
const messageBytes = 64

// roundTripStep sends a request over a TCP connection on loopback to another thread and takes its response.
func roundTripStep() (func() error, func(), error) {
	l, addr, err := listen()
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(l)
	client, server, err := connectPair(l, addr)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range []int{client, server} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return nil, nil, fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		var b [messageBytes]byte
		for exchange(unix.SYS_READ, server, &b) == nil && exchange(unix.SYS_WRITE, server, &b) == nil {
		}
	}()
	var b [messageBytes]byte
	step := func() error {
		if err := exchange(unix.SYS_WRITE, client, &b); err != nil {
			return err
		}
		return exchange(unix.SYS_READ, client, &b)
	}
	return step, func() {
		_ = unix.Shutdown(client, unix.SHUT_RDWR)
		<-ended
		unix.Close(client)
		unix.Close(server)
	}, nil
}

// exchange reads or writes a whole message. Loopback delivers these few bytes whole or not at all.
func exchange(call uintptr, fd int, b *[messageBytes]byte) error {
	for {
		n, _, errno := syscall.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(b)), messageBytes)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return fmt.Errorf("exchange a message: %w", errno)
		case n != messageBytes:
			return fmt.Errorf("exchange a message: %d of %d bytes", n, messageBytes)
		}
		return nil
	}
}

// connectStep connects to a listener of its own, accepts, and closes both ends. The client's end is reset in the
// end, so that no connection stays in TIME_WAIT and the ports last.
func connectStep() (func() error, func(), error) {
	l, addr, err := listen()
	if err != nil {
		return nil, nil, err
	}
	return func() error {
		client, server, err := connectPair(l, addr)
		if err != nil {
			return err
		}
		unix.Close(server)
		if err := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return fmt.Errorf("set SO_LINGER: %w", err)
		}
		return unix.Close(client)
	}, func() { unix.Close(l) }, nil
}

func listen() (fd int, addr *unix.SockaddrInet4, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make a socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = unix.Listen(fd, 128)
	}
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return fd, bound.(*unix.SockaddrInet4), nil
}

// connectPair makes a connection to listener l. On loopback it is complete when connect returns.
func connectPair(l int, addr *unix.SockaddrInet4) (client, server int, err error) {
	client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Connect(client, addr); err != nil {
		unix.Close(client)
		return -1, -1, fmt.Errorf("connect: %w", err)
	}
	server, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		unix.Close(client)
		return -1, -1, fmt.Errorf("accept: %w", err)
	}
	return client, server, nil
}
