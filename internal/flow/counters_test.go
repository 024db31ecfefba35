// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// says tells what the kernel side counts of a socket without connection.
func (s *sock) says(first uint64, sent, received uint64, closed bool) bool {
	return s.w.table.Talk(s.w.now, &Talk{Owner: s.process, Protocol: s.protocol, Local: s.local, Remote: s.remote, Inbound: s.direction == "inbound",
		Cookie: s.cookie, NetNS: s.netns, First: first, Last: s.w.now, Closed: closed,
		Counters: model.FlowCounters{BytesSent: sent, BytesReceived: received, PacketsSent: 1, PacketsReceived: 1}})
}

func TestDatagramsOfBothEndsAreOneFlow(t *testing.T) {
	for name, order := range map[string]func(w *world, c, s *sock){
		"a connected client": func(w *world, c, s *sock) {
			c.begin()
			c.close(5, 7)
			w.now += uint64(time.Second)
			if !s.says(begin, 7, 5, false) {
				w.t.Error("the client is gone, and the kernel side must remember")
			}
		},
		"no connection": func(w *world, c, s *sock) {
			c.says(begin, 5, 7, false)
			s.says(begin, 7, 5, false)
			if !c.says(begin, 5, 7, true) || !s.says(begin, 7, 5, false) {
				w.t.Error("the client is gone, and the kernel side must remember")
			}
		},
		"the server is seen first": func(w *world, c, s *sock) {
			s.says(begin, 7, 5, false)
			c.says(begin, 5, 7, true)
			s.says(begin, 7, 5, false)
		},
		"the close is told by its event": func(w *world, c, s *sock) {
			c.says(begin, 5, 7, false)
			s.says(begin, 7, 5, false)
			c.close(5, 7)
			c.says(begin, 5, 7, false)
			s.says(begin, 7, 5, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Options{})
			order(w, w.out(1, 11, client, server).udp(), w.in(2, 12, server, client).udp())
			f := w.only()
			if f.Direction != model.FlowLocal || pid(f.Source) != 1 || pid(f.Destination) != 2 || f.Total.BytesSent != 5 || f.Total.BytesReceived != 7 {
				t.Errorf("flow is %+v", f)
			}
			if f.Close != model.CloseSocket || f.Protocol != "udp" {
				t.Errorf("it ended by %s", f.Close)
			}
		})
	}
}

func TestSilenceEndsADatagramConversation(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.out(1, 11, client, "192.0.2.1:53").udp()
	talk := &Talk{Owner: c.process, Protocol: "udp", Local: c.local, Remote: c.remote, Cookie: 11, NetNS: 1, First: w.now, Last: w.now, Name: "dns.example",
		Counters: model.FlowCounters{BytesSent: 30, PacketsSent: 1}}
	if w.table.Talk(w.now, talk) {
		t.Fatal("it is forgotten at once")
	}
	w.pass(59 * time.Second)
	if w.table.Talk(w.now, talk) {
		t.Fatal("it is forgotten too soon")
	}
	w.pass(2 * time.Second)
	if !w.table.Talk(w.now, talk) {
		t.Fatal("it is not forgotten")
	}
	w.pass(3 * time.Second)
	last := w.got[len(w.got)-1].Flow
	if last.State != model.FlowClosed || last.Close != model.CloseIdle || last.Destination.Name != "dns.example" || last.End.Sub(last.Start) != 0 || w.table.open != 0 {
		t.Errorf("the last report is %+v", last)
	}
}

func TestEchoOfTheKernelHasNoProcess(t *testing.T) {
	w := newWorld(t, Options{})
	kernel := &model.Workload{Kind: model.WorkloadKernel, Name: "kernel", ID: "kernel"}
	talk := &Talk{Workload: kernel, Protocol: "icmp", Local: netip.MustParseAddrPort("10.0.0.2:0"), Remote: netip.MustParseAddrPort("192.0.2.7:0"), Inbound: true,
		NetNS: 1, First: w.now, Last: w.now, ICMPType: 8, Counters: model.FlowCounters{BytesSent: 56, BytesReceived: 56}}
	w.table.Talk(w.now, talk)
	w.pass(11 * time.Second)
	if !w.table.Talk(w.now, talk) {
		t.Fatal("an echo is not forgotten after ten seconds")
	}
	w.pass(3 * time.Second)
	ev := w.got[len(w.got)-1]
	f := ev.Flow
	if ev.Process != nil || f.Destination.Workload != kernel || f.Direction != model.FlowInbound || f.ICMPType != 8 || f.Source.Address.Addr().String() != "192.0.2.7" {
		t.Errorf("flow is %+v", f)
	}
}

func TestTranslatedAddressesMeetTheirOtherEnd(t *testing.T) {
	const service, node = "10.96.0.1:443", "10.0.0.9:61000"
	w := newWorld(t, Options{})
	// The packets leave from another address, to another one: that is what the server sees.
	w.nats[11] = Translation{Source: netip.MustParseAddrPort(node), Destination: netip.MustParseAddrPort(server)}
	c, s := w.out(1, 11, client, service).begin(), w.in(2, 12, server, node).at(2).begin()
	w.now += uint64(3 * time.Second)
	c.count(3, 4)
	w.flush(false)
	c.close(5, 7)
	s.close(7, 5)
	w.pass(time.Second)
	if len(w.got) != 2 || w.table.open != 0 || len(w.table.translated) != 0 {
		t.Fatalf("%d reports, %d open", len(w.got), w.table.open)
	}
	f := w.got[1].Flow
	if f.Direction != model.FlowLocal || f.Source.Address.String() != client || f.Destination.Address.String() != server || f.Service.Address.String() != service {
		t.Errorf("flow is %+v with service %+v", f, f.Service)
	}
	if w.got[0].Flow.Total.BytesSent != 3 {
		t.Errorf("the first report counts %+v", w.got[0].Flow.Total)
	}

	w = newWorld(t, Options{})
	w.nats[11] = Translation{Asked: netip.MustParseAddrPort(service)} // a program put the other address into the socket
	w.out(1, 11, client, "192.0.2.1:80").begin().close(1, 1)
	if f := w.only(); f.Service == nil || f.Service.Address.String() != service || f.Destination.Address.String() != "192.0.2.1:80" {
		t.Errorf("flow is %+v", f)
	}
}

func TestTranslatedDatagramsMeetTheirOtherEnd(t *testing.T) {
	const service, node = "10.96.0.1:53", "10.0.0.9:61000"
	to := Translation{Source: netip.MustParseAddrPort(node), Destination: netip.MustParseAddrPort(server)}
	for name, order := range map[string]func(w *world, c, s *sock){
		"a connected client, which nobody knows the way of at first": func(w *world, c, s *sock) {
			c.begin()
			w.nats[11] = to
			c.close(5, 7)
			s.says(begin, 7, 5, false)
		},
		"the server of a connected client is seen first": func(w *world, c, s *sock) {
			c.begin()
			s.says(begin, 7, 5, false)
			w.nats[11] = to
			c.count(4, 6)
			c.close(5, 7)
			s.says(begin, 7, 5, false)
		},
		"no connection": func(w *world, c, s *sock) {
			w.nats[11] = to
			c.says(begin, 4, 7, false)
			s.says(begin, 7, 5, false)
			c.says(begin, 5, 7, true)
			s.says(begin, 7, 5, false)
		},
		"no connection, the server is seen first": func(w *world, c, s *sock) {
			s.says(begin, 7, 5, false)
			w.nats[11] = to
			c.says(begin, 5, 7, true)
			s.says(begin, 7, 5, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Options{})
			order(w, w.out(1, 11, client, service).udp(), w.in(2, 12, server, node).at(2).udp())
			f := w.only()
			if f.Direction != model.FlowLocal || pid(f.Source) != 1 || pid(f.Destination) != 2 || f.Total.BytesSent != 5 || f.Total.BytesReceived != 7 {
				t.Errorf("flow is %+v", f)
			}
			if f.Service == nil || f.Service.Address.String() != service || f.Source.Address.String() != client || f.Destination.Address.String() != server {
				t.Errorf("flow is from %v to %v, service %+v", f.Source.Address, f.Destination.Address, f.Service)
			}
			if len(w.table.translated) != 0 {
				t.Errorf("%d translations are kept", len(w.table.translated))
			}
		})
	}
}

func TestOpenFlowsAreListedBiggestFirst(t *testing.T) {
	w := newWorld(t, Options{})
	for i, n := range []uint64{10, 30, 20} {
		w.out(1, uint64(i+1), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+i)).String(), "192.0.2.1:80").begin().count(n, 0)
	}
	w.out(1, 9, "10.0.0.1:1009", "192.0.2.1:80").begin().close(1, 1)
	got, left, err := w.table.List(t.Context(), w.now, func(ev *model.Event) bool { return ev.Flow.Total.BytesSent != 20 }, 1)
	if err != nil || len(got) != 1 || left != 1 || got[0].Flow.Total.BytesSent != 30 || got[0].Flow.State != model.FlowOpen || got[0].Type != model.TypeFlow {
		t.Errorf("listed %+v, %d left out, error %v", got, left, err)
	}
	if got := w.pass(3 * time.Second); len(got) != 4 || got[0].Flow.Report != 1 && got[1].Flow.Report != 1 {
		t.Errorf("listing took away a report: %d", len(got))
	}
}
