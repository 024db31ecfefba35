// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// loadPort is where a pod's process serves loads: one byte each way, and the connection ends when the client's byte is 'q'.
const loadPort = 9001

// serveLoads serves one connection after the other, by one thread and plain system calls.
func serveLoads() error {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(l, &unix.SockaddrInet4{Port: loadPort}), unix.Listen(l, 1024))
	}
	if err != nil {
		return fmt.Errorf("listen for loads: %w", err)
	}
	go func() { // until the process ends
		runtime.LockOSThread()
		for {
			fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
			if err != nil {
				continue
			}
			b := make([]byte, 64)
			for {
				n, err := unix.Read(fd, b)
				if err != nil || n == 0 {
					break
				}
				if _, err := unix.Write(fd, b[:n]); err != nil || b[0] == 'q' {
					break
				}
			}
			unix.Close(fd)
		}
	}()
	return nil
}

// runLoad makes n connections with a request each, or n requests on one.
func runLoad(what string, to netip.Addr, n int) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if what == "crr" {
			for ; n > 0 && err == nil; n-- {
				err = requests(to, 0)
			}
			return
		}
		err = requests(to, n)
	}()
	<-done
	return err
}

// requests sends n requests on a connection, and the last one after which the other end closes.
func requests(to netip.Addr, n int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: loadPort, Addr: to.As4()}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	b := make([]byte, 64)
	for ; n >= 0; n-- {
		if n == 0 {
			b[0] = 'q'
		}
		if _, err := unix.Write(fd, b); err != nil {
			return err
		}
		if got, err := unix.Read(fd, b); err != nil || got != len(b) {
			return fmt.Errorf("read a response: %d bytes, %w", got, err)
		}
	}
	if got, err := unix.Read(fd, b); err != nil || got != 0 {
		return fmt.Errorf("await the end: %d bytes, %w", got, err)
	}
	return nil
}

// load has a pod run a load.
func (x *podProcess) load(t testing.TB, what string, to netip.Addr, n int) {
	t.Helper()
	if _, err := fmt.Fprintf(x.in, "%s %s %d\n", what, to, n); err != nil {
		t.Fatal(err)
	}
	if line, err := x.out.ReadString('\n'); err != nil || line != "ok\n" {
		t.Fatalf("%s: %q, %v", what, line, err)
	}
}

// BenchmarkLoads is a request and its response between two pods, and a connection with one, by the run time of each program that they
// meet; times hold what it costs to take them, some 40 ns a run. Without policies about these pods, and with.
func BenchmarkLoads(b *testing.B) {
	const rule = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: these, namespace: x}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}]}], egress: [{to: [{namespaceSelector: {}}]}]}
`
	for name, text := range map[string]string{"none": "", "these": rule} {
		for _, what := range []string{"rr", "crr"} {
			b.Run(name+"/"+what, func(b *testing.B) {
				w := newWorld(b)
				w.apply(text)
				stop, err := measure.TimePrograms()
				if err != nil {
					b.Fatal(err)
				}
				defer stop.Close()
				before, err := measure.ProgramsOf(os.Getpid())
				if err != nil {
					b.Fatal(err)
				}
				b.ResetTimer()
				w.pods[1].load(b, what, netpoltest.Address(0, false), b.N)
				b.StopTimer()
				after, err := measure.ProgramsOf(os.Getpid())
				if err != nil {
					b.Fatal(err)
				}
				sum := time.Duration(0)
				for _, p := range measure.RanBetween(before, after) {
					sum += p.Time
					if each := p.Time / time.Duration(b.N); each > 10*time.Nanosecond {
						b.ReportMetric(float64(each), p.Name+"-ns/op")
						b.ReportMetric(float64(p.Runs)/float64(b.N), p.Name+"-runs/op")
					}
				}
				b.ReportMetric(float64(sum)/float64(b.N), "all-ns/op")
			})
		}
	}
}
