// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// distribution is how long single calls took.
type distribution struct {
	N      int           `json:"n"`
	Least  time.Duration `json:"least_ns"`
	Median time.Duration `json:"median_ns"`
	P90    time.Duration `json:"p90_ns"`
	P99    time.Duration `json:"p99_ns"`
	P999   time.Duration `json:"p999_ns"`
	Most   time.Duration `json:"most_ns"`
	// Clock is what the measuring itself takes: two looks at the clock with nothing between.
	Clock time.Duration `json:"clock_ns"`
}

// calls collects the times of single calls. What does not fit any more is left out: by then the distribution stands.
type calls struct{ times []time.Duration }

const maxCalls = 1 << 20

func newCalls() *calls { return &calls{make([]time.Duration, 0, maxCalls)} }

func (c *calls) add(t time.Duration) {
	if len(c.times) < cap(c.times) {
		c.times = append(c.times, t)
	}
}

// distribution sums up; nil when there were no calls.
func (c *calls) distribution() *distribution {
	if c == nil || len(c.times) == 0 {
		return nil
	}
	slices.Sort(c.times)
	at := func(q float64) time.Duration { return c.times[int(q*float64(len(c.times)-1))] }
	d := &distribution{N: len(c.times), Least: c.times[0], Median: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Most: at(1)}
	clock := newCalls()
	for range 1001 {
		start := time.Now()
		clock.add(time.Since(start))
	}
	slices.Sort(clock.times)
	d.Clock = clock.times[len(clock.times)/2]
	return d
}

// timedOpenStep opens one file and closes it; the open alone is timed. want is what it is to end with.
func (j *job) timedOpenStep(want syscall.Errno) (func() error, func(), error) {
	path, err := unix.BytePtrFromString(j.target)
	if err != nil {
		return nil, nil, err
	}
	j.calls = newCalls()
	return func() error {
		start := time.Now()
		fd, errno := openRaw(path)
		j.calls.add(time.Since(start))
		if errno != want {
			return fmt.Errorf("open %s: %w, and not: %w", j.target, errno, want)
		}
		if errno != 0 {
			return nil
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0); errno != 0 {
			return fmt.Errorf("close: %w", errno)
		}
		return nil
	}, func() {}, nil
}

func openRaw(path *byte) (fd uintptr, errno syscall.Errno) {
	atCWD := unix.AT_FDCWD
	fd, _, errno = syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(atCWD), uintptr(unsafe.Pointer(path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	return fd, errno
}

// address is a socket address of IPv4 as the kernel takes it.
func address(host string, port int) *unix.RawSockaddrInet4 {
	a := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: netip.MustParseAddr(host).As4()}
	p := (*[2]byte)(unsafe.Pointer(&a.Port))
	p[0], p[1] = byte(port>>8), byte(port)
	return a
}

func connectRaw(fd int, to *unix.RawSockaddrInet4) syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
	return errno
}

// timedConnectStep is connectStep with the connect alone timed: the handshake on loopback and what looks at it.
func (j *job) timedConnectStep() (func() error, func(), error) {
	l, addr, err := listen()
	if err != nil {
		return nil, nil, err
	}
	to := address("127.0.0.1", addr.Port)
	j.calls = newCalls()
	return func() error {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make a socket: %w", err)
		}
		start := time.Now()
		errno := connectRaw(client, to)
		j.calls.add(time.Since(start))
		if errno != 0 {
			return fmt.Errorf("connect: %w", errno)
		}
		server, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		unix.Close(server)
		if err := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return fmt.Errorf("set SO_LINGER: %w", err)
		}
		return unix.Close(client)
	}, func() { unix.Close(l) }, nil
}

// timedDatagramStep connects one UDP socket again and again. No packet is sent: it is the cheapest connect there is, so
// that what is added to it shows most.
func (j *job) timedDatagramStep() (func() error, func(), error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket: %w", err)
	}
	to := address("127.0.0.1", anyPort)
	j.calls = newCalls()
	return func() error {
		start := time.Now()
		errno := connectRaw(fd, to)
		j.calls.add(time.Since(start))
		if errno != 0 {
			return fmt.Errorf("connect: %w", errno)
		}
		return nil
	}, func() { unix.Close(fd) }, nil
}

// timedWakeStep sends a byte to another thread and takes its answer: two wake-ups, the least that asking somebody takes.
func (j *job) timedWakeStep() (func() error, func(), error) {
	var there, back [2]int
	if err := errors.Join(unix.Pipe2(there[:], unix.O_CLOEXEC), unix.Pipe2(back[:], unix.O_CLOEXEC)); err != nil {
		return nil, nil, fmt.Errorf("make pipes: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		var b [1]byte
		for n, err := unix.Read(there[0], b[:]); n == 1 && err == nil; n, err = unix.Read(there[0], b[:]) {
			if _, err := unix.Write(back[1], b[:]); err != nil {
				return
			}
		}
	}()
	var b [1]byte
	j.calls = newCalls()
	return func() error {
			start := time.Now()
			_, err := unix.Write(there[1], b[:])
			if err == nil {
				_, err = unix.Read(back[0], b[:])
			}
			j.calls.add(time.Since(start))
			if err != nil {
				return fmt.Errorf("wake another thread: %w", err)
			}
			return nil
		}, func() {
			unix.Close(there[1])
			<-ended
			for _, fd := range []int{there[0], back[0], back[1]} {
				unix.Close(fd)
			}
		}, nil
}

// anyPort is a port to which nothing is sent.
const anyPort = 9
