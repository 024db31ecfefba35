// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// Everything that was done is reported, exactly, with nothing lost in the kernel.
func TestTwentyThousandConnectionsAreAllReported(t *testing.T) {
	const workers, each = 4, 5000
	w := newWorld(t)
	started := time.Now()
	var all sync.WaitGroup
	failed := make(chan error, workers)
	for i := range workers {
		l := w.listener(unix.AF_INET, fmt.Sprintf("127.0.0.%d:80", i+1))
		to := l.address(l.local().String())
		all.Go(func() { failed <- w.ns.Run(func() error { return storm(l.fd, to, each) }) })
	}
	all.Wait()
	took := time.Since(started)
	for range workers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	tcp := func(direction string) func(*model.Socket) bool {
		return func(s *model.Socket) bool { return s.Protocol == "tcp" && s.Direction == direction }
	}
	const want = workers * each
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end) && w.count(model.TypeClose, tcp("inbound")) < want; {
		time.Sleep(20 * time.Millisecond)
	}
	w.settle()
	for _, c := range []struct {
		typ       model.Type
		direction string
	}{{model.TypeConnect, "outbound"}, {model.TypeAccept, "inbound"}, {model.TypeClose, "outbound"}, {model.TypeClose, "inbound"}} {
		if n := w.count(c.typ, tcp(c.direction)); n != want {
			t.Errorf("%d events %s %s, want %d", n, c.typ, c.direction, want)
		}
	}
	w.noLosses()
	t.Logf("%d connections in %v", want, took)
}

// noLosses fails the test when the kernel had to drop anything.
func (w *world) noLosses() {
	w.t.Helper()
	if err := w.Host.ReadLosses(); err != nil {
		w.t.Fatal(err)
	}
	for _, l := range w.Losses.Snapshot() {
		if l.Count > 0 {
			w.t.Errorf("lost %d: %s, %s", l.Count, l.Stage, l.Reason)
		}
	}
}

// storm makes n connections to a listener, one after another, and closes both ends: some 2,500 a second, because with the
// race detector the test reads much slower than a fast machine connects. `make bench` has the rate that an agent bears.
func storm(listener int, to unix.Sockaddr, n int) error {
	const batch = 50
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for i := range n {
		if i%batch == 0 {
			<-pace.C
		}
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(client, to); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		server, _, err := unix.Accept(listener)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		// With a reset no port is kept in TIME_WAIT: there are not enough of them.
		if err := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
		unix.Close(client)
		unix.Close(server)
	}
	return nil
}
