// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

// peer is the other process of a conversation. Where it is given a socket, that is descriptor 3.
func peer(task string) error {
	f := os.NewFile(3, "socket")
	switch task {
	case "echo": // accepts from a listener, as a worker does whose parent listens
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	case "datagrams": // answers each with the same
		c, err := net.ListenPacket("udp4", ":5300")
		if err != nil {
			return err
		}
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return err
			}
			if _, err := c.WriteTo(buf[:n], from); err != nil {
				return err
			}
		}
	case "write": // to a connection that another process made
		_, err := f.WriteString("hello")
		return err
	}
	return fmt.Errorf("no such task %q", task)
}

// handle is a socket of Go's that can be passed on.
type handle interface {
	File() (*os.File, error)
	io.Closer
}

// startPeer runs a peer in a namespace, with a socket that is closed here, or none.
func startPeer(t *testing.T, ns *testkit.NetNS, task string, socket handle) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr = append(os.Environ(), "VIGIE_E2E_PEER="+task), os.Stderr
	if socket != nil {
		f, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_ = socket.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	ns.Do(t, cmd.Start)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// host is two network namespaces that a pair of devices joins, 10.70.0.1 and 10.70.0.2.
func host(t *testing.T) (near, far *testkit.NetNS) {
	near, far = testkit.NewNetNS(t), testkit.NewNetNS(t)
	testkit.Connect(t, near, far, "10.70.0.1/24", "10.70.0.2/24")
	return near, far
}

// flow waits for the last report of a flow to a port with as many bytes.
func (a *agent) flow(what, protocol string, port, sent float64) map[string]any {
	a.t.Helper()
	return a.awaitEvent(what, func(e map[string]any) bool {
		return e["type"] == "flow" && get(e, "flow.state") == "closed" && get(e, "flow.protocol") == protocol &&
			(port == 0 || get(e, "flow.destination.port") == port) && (sent == 0 || get(e, "flow.total.bytes_sent") == sent)
	})
}

// dial makes a TCP connection on this thread, in the namespace.
func dial(t *testing.T, ns *testkit.NetNS, addr string) (c *net.TCPConn) {
	t.Helper()
	ns.Do(t, func() error {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", addr)
		if err == nil {
			c = conn.(*net.TCPConn)
		}
		return err
	})
	return c
}

func listen(t *testing.T, ns *testkit.NetNS, addr string) (l *net.TCPListener) {
	t.Helper()
	ns.Do(t, func() error {
		got, err := net.Listen("tcp4", addr)
		if err == nil {
			l = got.(*net.TCPListener)
		}
		return err
	})
	return l
}

func exchange(t *testing.T, c io.ReadWriter, n int) {
	t.Helper()
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

func checkEnds(t *testing.T, e map[string]any, source, destination int) {
	t.Helper()
	if get(e, "flow.source.process.pid") != float64(source) || get(e, "flow.destination.process.pid") != float64(destination) || get(e, "flow.direction") != "local" {
		t.Errorf("the ends are %v and %v (%v), want pids %d and %d", get(e, "flow.source.process"), get(e, "flow.destination.process"),
			get(e, "flow.direction"), source, destination)
	}
}

func TestAFlowHasBothProcesses(t *testing.T) {
	// A connection from before the agent, too.
	near, far := host(t)
	worker := startPeer(t, far, "echo", listen(t, far, "10.70.0.2:8080"))
	early := dial(t, near, "10.70.0.2:8080")
	exchange(t, early, 4000)
	a := startAgent(t, "--export-types", "flow,listen")

	short := dial(t, near, "10.70.0.2:8080")
	exchange(t, short, 1000)
	_ = short.Close()
	f := a.flow("the short connection", "tcp", 8080, 1000)
	checkEnds(t, f, testkit.PID(), worker.Process.Pid) // who accepted, not who listened
	for path, want := range map[string]any{"flow.verdict": "allowed", "flow.close": "fin", "flow.total.bytes_received": 1000.0, "flow.report": 1.0,
		"flow.source.address": "10.70.0.1", "flow.destination.address": "10.70.0.2", "flow.interval.bytes_sent": 1000.0} {
		if get(f, path) != want {
			t.Errorf("%s is %v, want %v", path, get(f, path), want)
		}
	}

	long := dial(t, near, "10.70.0.2:8080")
	exchange(t, long, 2000)
	open := a.awaitEvent("the long connection's first report", func(e map[string]any) bool {
		return get(e, "flow.state") == "open" && get(e, "flow.total.bytes_sent") == 2000.0
	})
	checkEnds(t, open, testkit.PID(), worker.Process.Pid)
	exchange(t, long, 500)
	listed, stderr, code := run(t, nil, "flows", "--open", "--socket", a.socket, "--addr", "10.70.0.2:8080", "-o", "json")
	if code != 0 || !strings.Contains(listed, `"bytes_sent":2500`) {
		t.Errorf("flows --open ended with %d: %s%s", code, listed, stderr)
	}
	_ = long.Close()
	last := a.flow("the long connection's last report", "tcp", 8080, 2500)
	if get(last, "flow.id") != get(open, "flow.id") || get(last, "flow.interval.bytes_sent") != 500.0 || get(last, "flow.report") != 2.0 {
		t.Errorf("the last report is %v, the first was %v", last["flow"], open["flow"])
	}

	exchange(t, early, 10)
	_ = early.Close()
	before := a.flow("the connection from before the agent", "tcp", 8080, 4010)
	checkEnds(t, before, testkit.PID(), worker.Process.Pid)
	if before["pre_existing"] != true {
		t.Errorf("the connection from before is %v", before)
	}

	drawn, stderr, code := run(t, nil, "map", "--socket", a.socket, "--addr", "10.70.0.2:8080", "-o", "json")
	var m struct {
		Edges []struct {
			Port  int
			Flows string
		}
	}
	if err := json.Unmarshal([]byte(drawn), &m); code != 0 || err != nil || len(m.Edges) != 1 || m.Edges[0].Port != 8080 || m.Edges[0].Flows != "3" {
		t.Errorf("map ended with %d, %v: %s%s", code, err, drawn, stderr)
	}
	a.stop()
}

func TestAttemptsDatagramsAndEchoesAreFlows(t *testing.T) {
	a := startAgent(t, "--export-types", "flow,listen")
	near, far := host(t)
	near.Do(t, func() error {
		_, err := new(net.Dialer).DialContext(t.Context(), "tcp4", "10.70.0.2:81")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("a connection to nobody gave %w", err)
		}
		return nil
	})
	f := a.flow("the refused attempt", "tcp", 81, 0)
	if get(f, "flow.verdict") != "failed" || get(f, "flow.close") != "refused" || get(f, "flow.reason") != "ECONNREFUSED" {
		t.Errorf("the refused attempt is %v", f["flow"])
	}

	answers := startPeer(t, far, "datagrams", nil)
	a.awaitEvent("the server", func(e map[string]any) bool {
		return e["type"] == "listen" && get(e, "process.pid") == float64(answers.Process.Pid) && get(e, "socket.protocol") == "udp"
	})
	for _, connected := range []bool{true, false} {
		n := 30
		if !connected {
			n = 40
		}
		near.Do(t, func() error { return ask([4]byte{10, 70, 0, 2}, connected, n) })
		f := a.flow("the datagrams", "udp", 5300, float64(n))
		checkEnds(t, f, testkit.PID(), answers.Process.Pid)
		if get(f, "flow.total.bytes_received") != float64(n) || get(f, "flow.total.packets_sent") != 1.0 || get(f, "flow.close") != "socket" {
			t.Errorf("the datagrams are %v", f["flow"])
		}
	}
	near.Do(t, func() error { return echo([4]byte{10, 70, 0, 2}) })
	f = a.flow("the echo", "icmp", 0, 56)
	if get(f, "flow.source.process.pid") != float64(testkit.PID()) || get(f, "flow.destination.workload.kind") != "kernel" || get(f, "flow.icmp_type") != 8.0 ||
		get(f, "flow.total.bytes_received") != 56.0 {
		t.Errorf("the echo is %v", f["flow"])
	}
	a.stop()
}

// ask sends a datagram of n bytes to the server and reads its answer.
func ask(server [4]byte, connected bool, n int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Port: 5300, Addr: server}
	if connected {
		if err := unix.Connect(fd, to); err != nil {
			return err
		}
		if _, err := unix.Write(fd, make([]byte, n)); err != nil {
			return err
		}
	} else if err := unix.Sendto(fd, make([]byte, n), 0, to); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, n), 0)
	return err
}

// echo sends an echo request by a raw socket and reads an answer.
func echo(to [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	packet := append([]byte{8, 0, 0, 0, 0, 7, 0, 1}, make([]byte, 56)...)
	sum := ^uint16(8<<8 + 7 + 1)
	packet[2], packet[3] = byte(sum>>8), byte(sum)
	if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to}); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, 100), 0)
	return err
}

// A connection that is passed on stays that of the process which made it, as its socket's owner does.
func TestAConnectionThatIsPassedOnNamesWhoMadeIt(t *testing.T) {
	a := startAgent(t, "--export-types", "flow,listen")
	near, far := host(t)
	worker := startPeer(t, far, "echo", listen(t, far, "10.70.0.2:8080"))
	c := dial(t, near, "10.70.0.2:8080")
	if err := startPeer(t, near, "write", c).Wait(); err != nil {
		t.Fatal(err)
	}
	f := a.flow("the connection that was passed on", "tcp", 8080, 5)
	checkEnds(t, f, testkit.PID(), worker.Process.Pid)
	a.stop()
}

// 50,000 connections as fast as they go: each is one flow, with both of its ends, or its loss is told.
func TestShortConnectionsAreAllFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 50,000 connections")
	}
	a := startAgent(t, "--export-types", "flow,loss")
	ns := testkit.NewNetNS(t)
	const n = 50_000
	l := listen(t, ns, "127.0.0.1:9000")
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		for range n {
			c, err := l.Accept()
			if err != nil {
				accepted <- err
				return
			}
			_ = c.Close()
		}
		accepted <- nil
	}()
	ns.Do(t, func() error {
		for i := range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			// Addresses of 127/8 in turn: ports are not used up.
			err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(i >> 8 & 15), byte(i>>4&15 + 1)}}),
				unix.Connect(fd, &unix.SockaddrInet4{Port: 9000, Addr: [4]byte{127, 0, 0, 1}}))
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			_ = unix.Close(fd)
		}
		return nil
	})
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	a.stop() // which tells all that is known
	seen := make(map[any]bool, n)
	both, lost := 0, 0.0
	for _, e := range a.events() {
		if get(e, "loss.stage") == "kernel" {
			lost += get(e, "loss.count").(float64)
		}
		if get(e, "flow.destination.port") != 9000.0 || get(e, "flow.net_ns") != float64(ns.Inode) || seen[get(e, "flow.id")] {
			continue
		}
		seen[get(e, "flow.id")] = true
		if get(e, "flow.direction") == "local" {
			both++
		}
	}
	switch {
	case lost == 0 && (len(seen) != n || both != n):
		t.Errorf("%d flows, %d of them with both ends, want %d", len(seen), both, n)
	case float64(n-both) > lost: // each record is of one end
		t.Errorf("%d flows, %d of them with both ends, and %v records that were lost: not %d", len(seen), both, lost, n)
	}
}
