// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

// act does what the lines of in say, one after the other, and says how each went.
func act(in io.Reader, out io.Writer) int {
	a := &deeds{last: -1}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		said, err := a.do(words[0], words[1:])
		var errno syscall.Errno
		switch {
		case errors.As(err, &errno):
			said = unix.ErrnoName(errno)
		case err != nil:
			said = err.Error()
		case said == "":
			said = "ok"
		}
		fmt.Fprintln(out, said)
	}
	return 0
}

// deeds are what an actor can do. Most are about the socket that it made last.
type deeds struct {
	last    int
	network string
}

func (d *deeds) do(what string, args []string) (string, error) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch what {
	case "nothing":
		return "", nil
	case "open": // NETWORK
		return "", d.open(arg(0))
	case "connect": // NETWORK ADDR: a new socket
		if err := d.open(arg(0)); err != nil {
			return "", err
		}
		return "", d.connect(arg(1))
	case "reconnect": // ADDR, or none for AF_UNSPEC
		return "", d.connect(arg(0))
	case "send": // NETWORK ADDR: a datagram from a new socket
		if err := d.open(arg(0)); err != nil {
			return "", err
		}
		return "", unix.Sendto(d.last, []byte("x"), 0, sockaddr(d.network, arg(1)))
	case "sendto": // ADDR: another one
		return "", unix.Sendto(d.last, []byte("x"), 0, sockaddr(d.network, arg(0)))
	case "ping": // ADDR
		if err := d.open("icmp4"); err != nil {
			return "", err
		}
		return "", unix.Sendto(d.last, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, sockaddr("icmp4", arg(0)))
	case "raw": // ADDR: an echo request by the last socket, a raw one
		return "", unix.Sendto(d.last, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, sockaddr("icmp4", arg(0)))
	case "fastopen": // NETWORK ADDR
		if err := d.open(arg(0)); err != nil {
			return "", err
		}
		return "", unix.Sendto(d.last, []byte("x"), unix.MSG_FASTOPEN, sockaddr(d.network, arg(1)))
	case "fastconnect": // NETWORK ADDR: a connect that waits for the first byte
		if err := d.open(arg(0)); err != nil {
			return "", err
		}
		if err := unix.SetsockoptInt(d.last, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
			return "", err
		}
		return "", d.connect(arg(1))
	case "sendmmsg": // ADDR: one message, of IPv4
		if err := d.open("udp4"); err != nil {
			return "", err
		}
		return "", sendmmsg(d.last, arg(0))
	case "ring": // NETWORK ADDR: connect by io_uring
		if err := d.open(arg(0)); err != nil {
			return "", err
		}
		return "", connectByRing(d.last, sockaddr(d.network, arg(1)))
	case "bind": // NETWORK ADDR
		if err := d.open(arg(0)); err != nil {
			return "", err
		}
		return "", unix.Bind(d.last, sockaddr(d.network, arg(1)))
	case "listen": // on the last socket: the port
		if err := unix.Listen(d.last, 16); err != nil {
			return "", err
		}
		return d.local()
	case "local":
		return d.local()
	case "accept": // and go on with what came
		return "", d.accept()
	case "echo": // a byte to and fro over the last socket
		return "", d.echo()
	case "receive": // a datagram: who sent it
		return d.receive(testkit.Deadline)
	case "hear": // whether a datagram is there, or comes soon
		return d.receive(300 * time.Millisecond)
	case "socket": // FAMILY TYPE PROTOCOL
		fd, err := unix.Socket(number(arg(0)), number(arg(1))|unix.SOCK_CLOEXEC, number(arg(2)))
		if err != nil {
			return "", err
		}
		d.keep(fd)
		return "", nil
	case "take": // FD: a descriptor that comes over it
		return "", d.take(number(arg(0)))
	case "resolve": // SERVER NAME ADDR N: ask, and connect to the answer at once, N times
		return d.resolve(arg(0), arg(1), arg(2), number(arg(3)))
	case "ask": // SERVER NAME: ask and wait for the answer
		return d.ask(arg(0), arg(1))
	case "measure": // N NETWORK ADDR: how long a connect takes
		return measure(number(arg(0)), arg(1), arg(2))
	case "only6":
		return "", unix.SetsockoptInt(d.last, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	case "rebind": // ADDR
		return "", unix.Bind(d.last, sockaddr(d.network, arg(0)))
	case "refused": // N NETWORK ADDR: the same, which must fail each time
		for range number(arg(0)) {
			if said, err := d.times(1, arg(1), arg(2)); !errors.Is(err, unix.EPERM) {
				return said, fmt.Errorf("not refused: %w", err)
			}
		}
		return "", nil
	case "scan": // N HOST: so many ports from 2000 on, all of which must be refused
		for i := range number(arg(0)) {
			if said, err := d.times(1, "udp4", fmt.Sprintf("%s:%d", arg(1), 2000+i)); !errors.Is(err, unix.EPERM) {
				return said, fmt.Errorf("not refused: %w", err)
			}
		}
		return "", nil
	case "times": // N NETWORK ADDR: connect and close
		return d.times(number(arg(0)), arg(1), arg(2))
	}
	return "", fmt.Errorf("cannot %q", what)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func (d *deeds) keep(fd int) {
	if d.last >= 0 {
		unix.Close(d.last)
	}
	d.last = fd
}

func (d *deeds) open(network string) error {
	fd, err := open(network)
	if err != nil {
		return err
	}
	d.keep(fd)
	d.network = network
	return nil
}

// open makes a socket that gives up soon: what is dropped is not answered.
func open(network string) (int, error) {
	family, typ, protocol := unix.AF_INET, unix.SOCK_STREAM, 0
	if strings.HasSuffix(network, "6") {
		family = unix.AF_INET6
	}
	switch network[:len(network)-1] {
	case "tcp":
	case "udp":
		typ = unix.SOCK_DGRAM
	case "mptcp":
		protocol = unix.IPPROTO_MPTCP
	case "sctp":
		protocol = unix.IPPROTO_SCTP
	case "sctp-many": // associations with many through one socket
		typ, protocol = unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP
	case "icmp":
		typ, protocol = unix.SOCK_DGRAM, unix.IPPROTO_ICMP
	default:
		return -1, fmt.Errorf("no network %q", network)
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol)
	if err == nil && protocol == unix.IPPROTO_SCTP { // two threads of the kernel's take part, and it would try for minutes
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2})
	}
	return fd, err
}

func (d *deeds) connect(addr string) error {
	if addr == "" {
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(d.last), uintptr(unsafePointer(&unix.RawSockaddrInet4{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrInet4)
		if errno != 0 {
			return errno
		}
		return nil
	}
	if !strings.HasPrefix(d.network, "sctp") {
		_ = unix.SetsockoptTimeval(d.last, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 300_000})
	}
	return unix.Connect(d.last, sockaddr(d.network, addr))
}

func (d *deeds) local() (string, error) {
	sa, err := unix.Getsockname(d.last)
	return addrPort(sa).String(), err
}

func (d *deeds) accept() error {
	fd, _, err := unix.Accept4(d.last, unix.SOCK_CLOEXEC)
	if err == nil {
		d.keep(fd)
	}
	return err
}

func (d *deeds) echo() error {
	_ = unix.SetsockoptTimeval(d.last, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	if _, err := unix.Write(d.last, []byte("x")); err != nil {
		return err
	}
	n, err := unix.Read(d.last, make([]byte, 16))
	if err == nil && n == 0 {
		return unix.ECONNRESET
	}
	return err
}

func (d *deeds) receive(within time.Duration) (string, error) {
	timeout := unix.NsecToTimeval(within.Nanoseconds())
	_ = unix.SetsockoptTimeval(d.last, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	_, from, err := unix.Recvfrom(d.last, make([]byte, 512), 0)
	if err != nil {
		return "", err
	}
	return addrPort(from).String(), nil
}

func (d *deeds) take(fd int) error {
	oob := make([]byte, 128)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 8), oob, 0)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return fmt.Errorf("no descriptor came: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	d.keep(fds[0])
	return nil
}

func (d *deeds) times(n int, network, addr string) (string, error) {
	sa := sockaddr(network, addr)
	for range n {
		fd, err := open(network)
		if err != nil {
			return "", err
		}
		err = unix.Connect(fd, sa)
		unix.Close(fd)
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// measure is the median and the minimum of n connects, in ns.
func measure(n int, network, addr string) (string, error) {
	sa := sockaddr(network, addr)
	took := make([]time.Duration, n)
	for i := range took {
		fd, err := open(network)
		if err != nil {
			return "", err
		}
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
		begin := time.Now()
		err = unix.Connect(fd, sa)
		took[i] = time.Since(begin)
		unix.Close(fd)
		if err != nil && !errors.Is(err, unix.EPERM) {
			return "", err
		}
	}
	slices.Sort(took)
	return fmt.Sprintf("%d %d", took[n/2].Nanoseconds(), took[0].Nanoseconds()), nil
}

// sockaddr is an address for a network; IPv4 ones are mapped where the network is IPv6.
func sockaddr(network, addr string) unix.Sockaddr {
	a := netip.MustParseAddrPort(addr)
	if strings.HasSuffix(network, "6") {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
