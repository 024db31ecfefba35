// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func TestWhoHeldAnAddress(t *testing.T) {
	web, api := &model.Workload{Name: "web", ID: "w"}, &model.Workload{Name: "api", ID: "a"}
	h := newHolders()
	at := func(s int) time.Time { return began().Add(time.Duration(s) * time.Second) }
	tell := func(s int, typ model.Type, w *model.Workload, netns uint32, local, direction string) {
		h.see(&model.Event{Type: typ, Time: at(s), Process: &model.Process{Workload: w},
			Socket: &model.Socket{Protocol: "tcp", Local: netip.MustParseAddrPort(local), NetNS: netns, Direction: direction}})
	}
	tell(10, model.TypeAccept, web, 1, "127.0.0.1:80", "")
	tell(12, model.TypeAccept, web, 1, "127.0.0.1:80", "")
	tell(13, model.TypeClose, web, 1, "127.0.0.1:80", "inbound")
	tell(10, model.TypeAccept, api, 2, "127.0.0.1:80", "")
	tell(10, model.TypeConnect, web, 1, "127.0.0.1:50000", "")
	tell(20, model.TypeClose, web, 1, "127.0.0.1:50000", "outbound")
	tell(30, model.TypeConnect, api, 1, "127.0.0.1:50000", "")
	tell(10, model.TypeListen, web, 1, "10.0.0.5:443", "")
	tell(10, model.TypeListen, web, 1, "[::ffff:10.0.0.6]:443", "")
	tell(12, model.TypeListen, api, 2, "10.0.0.6:443", "")
	tell(10, model.TypeListen, web, 1, "0.0.0.0:99", "")
	h.see(&model.Event{Type: model.TypeListen, Time: at(50), PreExisting: true, Process: &model.Process{Workload: api},
		Socket: &model.Socket{Protocol: "tcp", Local: netip.MustParseAddrPort("10.0.0.7:1")}})
	h.see(&model.Event{Type: model.TypeConnect, Time: at(1), Process: &model.Process{Workload: api},
		Socket: &model.Socket{Protocol: "tcp", Error: 111, Local: netip.MustParseAddrPort("10.0.0.8:1")}})
	h.see(&model.Event{Type: model.TypeFlow, Time: at(60), Flow: &model.Flow{Protocol: "udp", Direction: model.FlowLocal, Start: at(15), NetNS: 1,
		Destination: model.Endpoint{Address: netip.MustParseAddrPort("127.0.0.53:53"), Process: &model.Process{}, Workload: api}}})
	for _, c := range []struct {
		what, protocol string
		netns          uint32
		addr           string
		at             int
		want           *model.Workload
	}{
		{"a server", "tcp", 1, "127.0.0.1:80", 11, web},
		{"a server whose connection ended", "tcp", 1, "127.0.0.1:80", 99, web},
		{"before it was there", "tcp", 1, "127.0.0.1:80", 9, nil},
		{"the same address elsewhere", "tcp", 2, "127.0.0.1:80", 11, api},
		{"in a namespace of which nothing is known", "tcp", 3, "127.0.0.1:80", 11, nil},
		{"another protocol", "udp", 1, "127.0.0.1:80", 11, nil},
		{"a port that somebody else has now", "tcp", 1, "127.0.0.1:50000", 15, nil},
		{"and who that is", "tcp", 1, "127.0.0.1:50000", 31, api},
		{"from another namespace", "tcp", 7, "10.0.0.5:443", 11, web},
		{"an address that two have", "tcp", 7, "10.0.0.6:443", 13, nil},
		{"every address", "tcp", 1, "0.0.0.0:99", 11, nil},
		{"what was there before the agent", "tcp", 1, "10.0.0.7:1", 0, api},
		{"a connection that failed", "tcp", 0, "10.0.0.8:1", 2, nil},
		{"a server of UDP", "udp", 1, "127.0.0.53:53", 16, api},
	} {
		if got := h.at(c.protocol, c.netns, netip.MustParseAddrPort(c.addr), at(c.at)); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	tell(40, model.TypeClose, api, 1, "127.0.0.1:50000", "outbound")
	if h.at("tcp", 1, netip.MustParseAddrPort("127.0.0.1:50000"), at(41)) != nil || h.at("tcp", 1, netip.MustParseAddrPort("127.0.0.1:50000"), at(35)) != api {
		t.Error("an address is held after its end, or was not before it")
	}
}

func TestHoldersAreBounded(t *testing.T) {
	h := newHolders()
	w := &model.Workload{ID: "w"}
	for i := range 3 * maxHolders {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80)
		h.learn(heldBy("tcp", 0, addr), holder{workload: w})
	}
	if n := len(h.young) + len(h.old); n > 2*maxHolders {
		t.Errorf("%d addresses are remembered", n)
	}
}

// A request between two workloads of this host has both of them, whichever end saw it.
func TestBothEndsOfARequest(t *testing.T) {
	_, events := scene()
	c := newConverter(newBackend())
	e := events["post"] // api asks 10.0.0.6:8080
	web := &model.Workload{Kind: model.WorkloadPod, Name: "web-0", Namespace: "default", ID: "c2"}
	c.holders.see(&model.Event{Type: model.TypeListen, Time: began(), Process: &model.Process{Workload: web},
		Socket: &model.Socket{Protocol: "tcp", Local: e.Request.Remote, NetNS: 5}})
	pair := c.flows(e)
	if pair[0].GetSource().GetPodName() != "api-7d4b9" || pair[0].GetDestination().GetPodName() != "web-0" || pair[1].GetSource().GetPodName() != "web-0" {
		t.Errorf("got %v", pair)
	}
}
