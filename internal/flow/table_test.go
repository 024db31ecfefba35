// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// begin is when a test's host was up long enough.
const begin = uint64(time.Hour)

// world feeds a table as the river does, and keeps what it reports.
type world struct {
	t      *testing.T
	table  *Table
	losses *pipeline.Losses
	now    uint64
	got    []*model.Event
	nats   map[uint64]Translation
}

func newWorld(t *testing.T, o Options) *world {
	w := &world{t: t, losses: new(pipeline.Losses), now: begin, nats: make(map[uint64]Translation)}
	o.Losses, o.Wall = w.losses, func(boot uint64) time.Time { return time.Unix(0, int64(boot)).UTC() }
	o.Translated = func(cookie uint64, _ string, _, _ netip.AddrPort) (Translation, bool) {
		n, ok := w.nats[cookie]
		delete(w.nats, cookie)
		return n, ok
	}
	w.table = New(o)
	return w
}

func process(pid uint32) *model.Process {
	return &model.Process{Key: model.ProcessKey{PID: pid, Start: uint64(pid), Exec: 1}, Binary: "/bin/p", Workload: &model.Workload{ID: "w", Name: "w"}}
}

// sock is a socket of a test: whose, in which network namespace.
type sock struct {
	w             *world
	process       *model.Process
	cookie        uint64
	netns         uint32
	protocol      string
	direction     string
	local, remote netip.AddrPort
}

func (w *world) out(pid uint32, cookie uint64, local, remote string) *sock {
	return &sock{w, process(pid), cookie, 1, "tcp", "outbound", netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)}
}

func (w *world) in(pid uint32, cookie uint64, local, remote string) *sock {
	s := w.out(pid, cookie, local, remote)
	s.direction = "inbound"
	return s
}

func (s *sock) at(netns uint32) *sock { s.netns = netns; return s }
func (s *sock) udp() *sock            { s.protocol = "udp"; return s }

func (s *sock) event(typ model.Type) *model.Event {
	return &model.Event{Type: typ, BootTime: s.w.now, Key: s.process.Key, Process: s.process, Count: 1, Socket: &model.Socket{
		Protocol: s.protocol, Direction: s.direction, Local: s.local, Remote: s.remote, Cookie: s.cookie, NetNS: s.netns}}
}

func (s *sock) begin() *sock {
	typ := model.TypeConnect
	if s.direction == "inbound" {
		typ = model.TypeAccept
	}
	s.w.table.See(s.event(typ))
	return s
}

func (s *sock) fail(e string) {
	ev := s.event(model.TypeConnect)
	ev.Socket.Error = model.ParseErrno(e)
	s.w.table.See(ev)
}

func (s *sock) close(sent, received uint64) { s.closeWith("", sent, received) }

func (s *sock) closeWith(e string, sent, received uint64) {
	ev := s.event(model.TypeClose)
	ev.Socket.BytesSent, ev.Socket.BytesReceived, ev.Socket.Error = sent, received, model.ParseErrno(e)
	ev.Socket.Retransmits, ev.Socket.SRTT = 1, time.Millisecond
	s.w.table.See(ev)
}

func (s *sock) count(sent, received uint64) {
	ev := s.event(model.TypeClose)
	ev.Socket.BytesSent, ev.Socket.BytesReceived = sent, received
	s.w.table.Count(ev.Socket)
}

// judge has a policy decide about the socket.
func (s *sock) judge(action model.VerdictAction, op model.Operation, hook string) {
	ev := s.event(model.TypeVerdict)
	ev.Verdict = &model.Verdict{Action: action, Operation: op, Policy: "web", Rule: "egress.deny[0]", Hook: hook, Protocol: s.protocol,
		Local: s.local, Remote: s.remote}
	ev.Socket = nil
	s.w.table.See(ev)
}

// pass lets time go by and takes the reports that are due.
func (w *world) pass(d time.Duration) []*model.Event {
	w.now += uint64(d)
	return w.flush(false)
}

func (w *world) flush(final bool) []*model.Event {
	n := len(w.got)
	w.table.Flush(w.now, true, final, func(ev *model.Event) { w.got = append(w.got, ev) })
	return w.got[n:]
}

// only is the one report that has come by now, a last one.
func (w *world) only() *model.Flow {
	w.t.Helper()
	w.pass(11 * time.Second)
	if len(w.got) != 1 || w.got[0].Flow.State != model.FlowClosed || w.table.open != 0 || len(w.table.index) != 0 {
		for _, ev := range w.got {
			w.t.Logf("%+v", ev.Flow)
		}
		w.t.Fatalf("%d reports, %d open: want one, of what has ended", len(w.got), w.table.open)
	}
	return w.got[0].Flow
}

func pid(e model.Endpoint) uint32 {
	if e.Process == nil {
		return 0
	}
	return e.Process.Key.PID
}

const client, server = "10.0.0.1:4000", "10.0.0.2:80"

func TestBothEndsAreOneFlow(t *testing.T) {
	for name, order := range map[string]func(c, s *sock){
		"as it happens":                func(c, s *sock) { c.begin(); s.begin(); c.close(5, 7); s.close(7, 5) },
		"accepted before the connect":  func(c, s *sock) { s.begin(); c.begin(); c.close(5, 7); s.close(7, 5) },
		"accepted after the end":       func(c, s *sock) { c.begin(); c.close(5, 7); s.begin(); s.close(7, 5) },
		"the server closes first":      func(c, s *sock) { c.begin(); s.begin(); s.close(7, 5); c.close(5, 7) },
		"in another network namespace": func(c, s *sock) { s.at(2); c.begin(); s.begin(); c.close(5, 7); s.close(7, 5) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Options{})
			order(w.out(1, 11, client, server), w.in(2, 12, server, client))
			f := w.only()
			if f.Direction != model.FlowLocal || pid(f.Source) != 1 || pid(f.Destination) != 2 || f.Verdict != model.FlowAllowed || f.Close != model.CloseFin {
				t.Errorf("flow is %+v", f)
			}
			if f.Total.BytesSent != 5 || f.Total.BytesReceived != 7 || f.Interval != f.Total || f.Total.Retransmits != 2 || f.Cookie != 11 || f.SRTT != time.Millisecond {
				t.Errorf("it counts %+v, interval %+v", f.Total, f.Interval)
			}
			if f.Source.Address.String() != client || f.Destination.Address.String() != server || f.ID == 0 || f.Report != 1 || f.Family != "ipv4" {
				t.Errorf("flow is %+v", f)
			}
		})
	}
}

func TestOneEndIsAFlowOfItsOwn(t *testing.T) {
	w := newWorld(t, Options{})
	w.out(1, 11, "10.0.0.1:4000", "192.0.2.1:443").begin().close(5, 7)
	if f := w.only(); f.Direction != model.FlowOutbound || pid(f.Source) != 1 || f.Destination.Process != nil {
		t.Errorf("flow is %+v", f)
	}
	w = newWorld(t, Options{})
	w.in(2, 12, server, "192.0.2.9:999").begin().close(7, 5)
	if f := w.only(); f.Direction != model.FlowInbound || pid(f.Destination) != 2 || f.Total.BytesSent != 5 || f.Total.BytesReceived != 7 {
		t.Errorf("flow is %+v, %+v", f, f.Total)
	}
}

func TestNamespacesWithTheSameAddressesAreKeptApart(t *testing.T) {
	w := newWorld(t, Options{})
	w.out(1, 11, "127.0.0.1:4000", "127.0.0.1:80").begin().close(1, 1)
	w.in(2, 12, "127.0.0.1:80", "127.0.0.1:4000").at(2).begin().close(2, 2)
	w.pass(11 * time.Second)
	if len(w.got) != 2 || w.got[0].Flow.Direction == model.FlowLocal || w.got[1].Flow.Direction == model.FlowLocal {
		t.Errorf("a loopback address left its network namespace: %d reports", len(w.got))
	}
	w = newWorld(t, Options{})
	w.out(1, 11, client, server).begin()
	w.out(3, 13, client, server).at(3).begin()
	w.in(2, 12, server, client).at(2).begin() // whose is it?
	w.in(4, 14, server, client).at(3).begin() // no doubt
	w.flush(true)
	var local int
	for _, ev := range w.got {
		if f := ev.Flow; f.Direction == model.FlowLocal {
			local++
			if pid(f.Source) != 3 || pid(f.Destination) != 4 {
				t.Errorf("%d and %d were joined", pid(f.Source), pid(f.Destination))
			}
		}
	}
	if local != 1 || len(w.got) != 3 {
		t.Errorf("%d flows, %d with both ends", len(w.got), local)
	}
}

func TestSimultaneousOpenIsOneFlow(t *testing.T) {
	w := newWorld(t, Options{})
	a, b := w.out(1, 11, client, server).begin(), w.out(2, 12, server, client).begin()
	b.close(7, 5)
	a.close(5, 7)
	if f := w.only(); f.Direction != model.FlowLocal || pid(f.Source) != 1 || pid(f.Destination) != 2 || f.Total.BytesSent != 5 {
		t.Errorf("flow is %+v", f)
	}
	w = newWorld(t, Options{})
	w.out(1, 11, client, client).begin().close(3, 3) // to itself: one socket
	if f := w.only(); pid(f.Source) != 1 || f.Total.BytesSent != 3 {
		t.Errorf("flow is %+v", f)
	}
}

func TestPortsThatAreUsedAgainAreFlowsOfTheirOwn(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range uint64(3) {
		c, s := w.out(1, 100+i, client, server).begin(), w.in(2, 200+i, server, client).begin()
		c.close(i, 0)
		s.close(0, i)
		w.pass(time.Millisecond)
	}
	w.out(1, 104, client, server).begin() // its end is lost
	w.pass(100 * time.Millisecond)
	w.out(1, 105, client, server).begin().close(9, 9)
	w.pass(11 * time.Second)
	ids := make(map[uint64]bool)
	for _, ev := range w.got {
		ids[ev.Flow.ID] = true
	}
	if len(ids) != 5 || len(w.got) != 5 {
		t.Fatalf("%d reports of %d flows, want 5 of 5", len(w.got), len(ids))
	}
	if f := w.got[3].Flow; f.Close != model.CloseUnknown {
		t.Errorf("what was lost ended by %s", f.Close)
	}
}

func TestHalfOpenStaysOpen(t *testing.T) {
	w := newWorld(t, Options{})
	c, s := w.out(1, 11, client, server).begin(), w.in(2, 12, server, client).begin()
	c.closeWith("ETIMEDOUT", 5, 0)
	if got := w.pass(time.Minute); len(got) != 1 || got[0].Flow.State != model.FlowOpen {
		t.Fatalf("%d reports", len(got))
	}
	s.close(0, 5)
	got := w.pass(time.Second)
	if len(got) != 1 || got[0].Flow.State != model.FlowClosed || got[0].Flow.Close != model.CloseTimeout || got[0].Flow.Report != 2 {
		t.Fatalf("the last report is %+v", got)
	}
}

func TestLongFlowsReportWhileTheyGoOn(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.out(1, 11, client, "192.0.2.1:443").begin()
	if got := w.pass(1900 * time.Millisecond); len(got) != 0 || w.table.Wants(w.now) {
		t.Fatalf("%d reports before two seconds", len(got))
	}
	w.now += uint64(200 * time.Millisecond)
	if !w.table.Wants(w.now) {
		t.Fatal("no counters are asked for")
	}
	c.count(100, 1000)
	first := w.flush(false)
	c.count(150, 3000)
	second := w.pass(30 * time.Second)
	c.close(150, 3001)
	last := w.pass(time.Second)
	if len(first) != 1 || len(second) != 1 || len(last) != 1 {
		t.Fatalf("%d, %d and %d reports", len(first), len(second), len(last))
	}
	for i, f := range []*model.Flow{first[0].Flow, second[0].Flow, last[0].Flow} {
		sent, received := []uint64{100, 50, 0}[i], []uint64{1000, 2000, 1}[i]
		if f.Report != uint32(i+1) || f.ID != first[0].Flow.ID || f.Interval.BytesSent != sent || f.Interval.BytesReceived != received {
			t.Errorf("report %d of %d has the interval %+v", f.Report, f.ID, f.Interval)
		}
	}
	if f := last[0].Flow; f.Total.BytesReceived != 3001 || f.End.IsZero() || first[0].Flow.End != (time.Time{}) || first[0].Flow.Close != "" {
		t.Errorf("the last is %+v", f)
	}
}

func TestWhatWasOpenBeforeCountsFromNow(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.out(1, 11, client, "192.0.2.1:443")
	ev := c.event(model.TypeConnect)
	ev.PreExisting = true
	w.table.See(ev)
	w.now += uint64(3 * time.Second)
	c.count(1000, 1000)
	got := w.flush(false)
	c.close(1001, 1002)
	got = append(got, w.pass(time.Second)...)
	if len(got) != 2 || !got[0].PreExisting || got[0].Flow.Interval.BytesSent != 0 || got[0].Flow.Total.BytesSent != 1000 {
		t.Fatalf("reports are %+v", got)
	}
	if i := got[1].Flow.Interval; i.BytesSent != 1 || i.BytesReceived != 2 {
		t.Errorf("since then %+v", i)
	}
}

func TestAFullTableCountsAndStillTellsTheEnd(t *testing.T) {
	w := newWorld(t, Options{MaxFlows: 1})
	w.out(1, 11, client, "192.0.2.1:443").begin()
	w.out(1, 12, "10.0.0.1:4001", "192.0.2.1:443").begin().close(3, 4)
	got := w.pass(time.Second)
	if len(got) != 1 || got[0].Flow.Total.BytesSent != 3 {
		t.Fatalf("reports are %+v", got)
	}
	if n := w.losses.Counter("flow", "table full").Load(); n != 1 {
		t.Errorf("%d were counted", n)
	}
}

func TestManyFlowsToOneListenerAreAllReported(t *testing.T) {
	w := newWorld(t, Options{})
	const n = 100_000
	for i := range uint64(n) {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 16), 1}), uint16(i)).String()
		c, s := w.out(1, 2*i+1, from, server).begin(), w.in(2, 2*i+2, server, from).begin()
		if i%2 == 0 {
			c.close(1, 0)
			s.close(0, 1)
		}
	}
	w.flush(true)
	var open, local int
	for _, ev := range w.got {
		if ev.Flow.State == model.FlowOpen {
			open++
		}
		if ev.Flow.Direction == model.FlowLocal {
			local++
		}
	}
	if len(w.got) != n || open != n/2 || local != n {
		t.Errorf("%d reports, %d open, %d with both ends; want %d, %d and all", len(w.got), open, local, n, n/2)
	}
}
