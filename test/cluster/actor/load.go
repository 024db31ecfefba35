// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Where a pod that `actor load` runs in listens.
const (
	loadOrders    = 9000 // one order a line, one answer a line: see obey
	loadEcho      = 9001 // messages are sent back, while the connection lasts
	loadOnce      = 9002 // one message is sent back, and the connection is closed
	loadSink      = 9003 // everything is read, and counted in the end
	loadDatagrams = 9004 // UDP: sent back
)

// messageBytes is the length of a request, and of a response. A packet holds it whole.
const messageBytes = 64

// load serves everything that loads talk to, and runs the loads that it is told to. One thread and plain system calls serve each port,
// and run each load: Go's scheduler and poller have no share in what is measured.
func load() error {
	for port, serve := range map[int]func(fd int) error{loadEcho: echoAll, loadOnce: echoOnce, loadSink: sink} {
		l, err := listenAt(port)
		if err != nil {
			return err
		}
		go acceptEach(l, serve)
	}
	packets, err := net.ListenPacket("udp", fmt.Sprint(":", loadDatagrams))
	if err != nil {
		return err
	}
	go func() { // ends with the program
		buf := make([]byte, 2048)
		for {
			if n, from, err := packets.ReadFrom(buf); err == nil {
				_, _ = packets.WriteTo(buf[:n], from) // who asked will ask again
			}
		}
	}()
	orders, err := net.Listen("tcp", fmt.Sprint(":", loadOrders))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := orders.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				answer := obey(conn, strings.Fields(lines.Text()))
				if json.NewEncoder(conn).Encode(answer) != nil {
					return // whoever asked is gone
				}
			}
		}()
	}
}

// answer is what an order came to.
type answer struct {
	Count   int           `json:"count"` // messages, connections, or bytes
	Elapsed time.Duration `json:"elapsed_ns"`
	Error   string        `json:"error,omitempty"`
}

// obey carries out one order:
//
//	rr ADDRESS DURATION      request and response, again and again on one connection
//	crr ADDRESS DURATION     a connection for each request and response
//	stream ADDRESS DURATION  as much as goes through one connection
//	reach ADDRESS DURATION   one connection: no error when it comes about in that time
//	beat ADDRESS PACE        datagrams to the other pod's echo until the connection of the order ends: for each that came back a line
//	                         with the wall clock at which it was sent, in nanoseconds
//
// ADDRESS is a pod's; the port follows from the order, but for reach.
func obey(out net.Conn, words []string) answer {
	if len(words) != 3 {
		return answer{Error: fmt.Sprintf("%q is no order", words)}
	}
	d, err := time.ParseDuration(words[2])
	if err != nil {
		return answer{Error: err.Error()}
	}
	if words[0] == "reach" {
		conn, err := net.DialTimeout("tcp", words[1], d)
		if err != nil {
			return answer{Error: err.Error()}
		}
		conn.Close()
		return answer{Count: 1}
	}
	to, err := netip.ParseAddr(words[1])
	if err != nil {
		return answer{Error: err.Error()}
	}
	runs := map[string]func(netip.Addr, time.Duration) (int, time.Duration, error){"rr": requests, "crr": connections, "stream": stream}
	switch run := runs[words[0]]; {
	case run != nil:
		var a answer
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			a.Count, a.Elapsed, err = run(to, d)
		}()
		if <-done; err != nil {
			a.Error = err.Error()
		}
		return a
	case words[0] == "beat":
		return answer{Error: beat(out, netip.AddrPortFrom(to, loadDatagrams), d).Error()}
	}
	return answer{Error: fmt.Sprintf("%q is no order", words)}
}

func listenAt(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port})
	}
	if err == nil {
		err = syscall.Listen(fd, 1024)
	}
	if err != nil {
		return 0, fmt.Errorf("listen at port %d: %w", port, err)
	}
	return fd, nil
}

// acceptEach serves one connection after the other.
func acceptEach(l int, serve func(fd int) error) {
	runtime.LockOSThread()
	for {
		fd, _, err := syscall.Accept4(l, syscall.SOCK_CLOEXEC)
		if err != nil {
			continue // the connection is gone already, or a signal came
		}
		_ = serve(fd) // its end is the client's
		syscall.Close(fd)
	}
}

func echoAll(fd int) error {
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	var b [messageBytes]byte
	for {
		if err := whole(syscall.Read, fd, b[:]); err != nil {
			return err
		}
		if err := whole(syscall.Write, fd, b[:]); err != nil {
			return err
		}
	}
}

func echoOnce(fd int) error {
	var b [messageBytes]byte
	if err := whole(syscall.Read, fd, b[:]); err != nil {
		return err
	}
	return whole(syscall.Write, fd, b[:])
}

func sink(fd int) error {
	b := make([]byte, 1<<18)
	total := uint64(0)
	for {
		n, err := syscall.Read(fd, b)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		total += uint64(n)
	}
	return whole(syscall.Write, fd, binary.BigEndian.AppendUint64(nil, total))
}

var errShort = errors.New("the connection ended within a message")

// whole reads or writes all of b.
func whole(call func(fd int, b []byte) (int, error), fd int, b []byte) error {
	for len(b) > 0 {
		n, err := call(fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errShort
		}
		b = b[max(n, 0):]
	}
	return nil
}

func dial(to netip.Addr, port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: to.As4(), Port: port}); err != nil {
		syscall.Close(fd)
		return 0, fmt.Errorf("connect to %s:%d: %w", to, port, err)
	}
	return fd, nil
}

func requests(to netip.Addr, d time.Duration) (count int, elapsed time.Duration, err error) {
	fd, err := dial(to, loadEcho)
	if err != nil {
		return 0, 0, err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return 0, 0, err
	}
	return repeat(d, func() error { return exchange(fd) })
}

func connections(to netip.Addr, d time.Duration) (count int, elapsed time.Duration, err error) {
	return repeat(d, func() error {
		fd, err := dial(to, loadOnce)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if err := exchange(fd); err != nil {
			return err
		}
		// The server closes first: TIME_WAIT is at its end, and this end's ports are free again.
		var b [1]byte
		if err := whole(syscall.Read, fd, b[:]); !errors.Is(err, errShort) {
			return fmt.Errorf("await the end of the connection: %w", err)
		}
		return nil
	})
}

func exchange(fd int) error {
	var b [messageBytes]byte
	if err := whole(syscall.Write, fd, b[:]); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	if err := whole(syscall.Read, fd, b[:]); err != nil {
		return fmt.Errorf("await a response: %w", err)
	}
	return nil
}

// repeat does one step after the other for a time.
func repeat(d time.Duration, step func() error) (count int, elapsed time.Duration, err error) {
	for start := time.Now(); elapsed < d; elapsed = time.Since(start) {
		if err := step(); err != nil {
			return count, elapsed, err
		}
		count++
	}
	return count, elapsed, nil
}

// stream counts what came in at the other end.
func stream(to netip.Addr, d time.Duration) (count int, elapsed time.Duration, err error) {
	fd, err := dial(to, loadSink)
	if err != nil {
		return 0, 0, err
	}
	defer syscall.Close(fd)
	b := make([]byte, 1<<17)
	start := time.Now()
	if _, _, err := repeat(d, func() error { return whole(syscall.Write, fd, b) }); err != nil {
		return 0, 0, fmt.Errorf("send: %w", err)
	}
	if err := syscall.Shutdown(fd, syscall.SHUT_WR); err != nil {
		return 0, 0, err
	}
	var total [8]byte
	if err := whole(syscall.Read, fd, total[:]); err != nil {
		return 0, 0, fmt.Errorf("await the sum: %w", err)
	}
	return int(binary.BigEndian.Uint64(total[:])), time.Since(start), nil
}

// beat sends datagrams until out is closed at its other end, and tells of those that come back.
func beat(out net.Conn, to netip.AddrPort, pace time.Duration) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() { // ends with the connection of the order
		_, _ = out.Read(make([]byte, 1))
		conn.Close()
	}()
	ended := make(chan error, 1)
	go func() {
		var b [8]byte
		for {
			n, err := conn.Read(b[:])
			if errors.Is(err, net.ErrClosed) {
				ended <- err
				return
			}
			if err != nil || n != len(b) {
				continue // an ICMP error of an earlier datagram
			}
			if _, err := fmt.Fprintln(out, binary.BigEndian.Uint64(b[:])); err != nil {
				ended <- err
				return
			}
		}
	}()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case now := <-tick.C:
			_, _ = conn.Write(binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))) // denied, it is not sent
		}
	}
}
