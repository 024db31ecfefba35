// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// The programs and policy.Table.Net say the same of conversations of every kind, under policies of every kind.
func testKernelAgreesWithTable(t *testing.T, w *world) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := &generator{Rand: rand.New(rand.NewPCG(seed, 3))}
			w.t = t
			tables := w.compile(g.policy())
			w.backend.mu.Lock()
			clear(w.backend.asked) // names of the policy before, which has the same name
			w.backend.mu.Unlock()
			if err := w.enforcer.Apply(t.Context(), tables); err != nil {
				t.Fatal(err)
			}
			table := tables[0]
			actors := map[string]*actor{"actor": w.start("actor", w.ns), "other": w.start("other", w.ns)}
			k := w.teachAll(g, table, actors)
			want := w.enforcer.Status()["p0"].Hits // of earlier tables with a rule alike
			denied := 0
			for range 1500 {
				q := g.query()
				subject := table.Subject(w.dir+"/"+q.binary, "")
				d := table.Net(q.direction, q.protocol, q.addr, q.port, subject, k.names[q.addr], k.at(q.addr, q.port))
				if d.Action() > policy.ActAllow {
					want[d.Rule()]++
				}
				got := actors[q.binary].do("%s", q.deed())
				if (got == "EPERM") != (d.Action() >= policy.ActDeny) {
					t.Errorf("%s of %s: %s, but the table says %v", q.deed(), q.binary, got, table.Judgement(d))
				}
				if got == "EPERM" {
					denied++
				}
			}
			if hits := w.enforcer.Status()["p0"].Hits; !slices.Equal(hits, want) {
				t.Errorf("hits by rule are %v, want %v", hits, want)
			}
			if denied == 0 || denied == 1500 {
				t.Errorf("%d of 1500 were denied: the policy tells nothing apart", denied)
			}
		})
	}
}

// known is what the programs were told of addresses.
type known struct {
	names map[netip.Addr][]uint16
	peers map[netip.AddrPort][]uint16
}

func (k *known) at(addr netip.Addr, port uint16) []uint16 {
	return append(slices.Clone(k.peers[netip.AddrPortFrom(addr, port)]), k.peers[netip.AddrPortFrom(addr, 0)]...)
}

// teachAll gives some addresses names and workloads.
func (w *world) teachAll(g *generator, table *policy.Table, actors map[string]*actor) *known {
	k := &known{names: map[netip.Addr][]uint16{}, peers: map[netip.AddrPort][]uint16{}}
	now, err := kernel.BootTime()
	if err != nil {
		w.t.Fatal(err)
	}
	for range 12 {
		addr, name := g.addr(), g.name()
		ev := &model.Event{Key: actors["actor"].key(w), BootTime: now,
			DNS: &model.DNS{Name: name, Answers: []model.DNSAnswer{{Type: "A", Data: addr.String(), TTL: time.Hour}}}}
		if addr.Is6() {
			ev.DNS.Answers[0].Type = "AAAA"
		}
		class := table.Names.Class(name)
		if class == 0 || (!slices.Contains(k.names[addr], class) && len(k.names[addr]) == 4) {
			continue
		}
		if !slices.Contains(k.names[addr], class) {
			k.names[addr] = append(k.names[addr], class)
		}
		if err := w.backend.Learn(ev); err != nil {
			w.t.Fatal(err)
		}
	}
	var number uint16
	for number = range w.backend.tables {
	}
	for i := range table.Peers {
		var where []netip.AddrPort
		for range 4 {
			at := netip.AddrPortFrom(g.addr(), []uint16{0, g.port()}[g.IntN(2)])
			if !slices.Contains(where, at) {
				where = append(where, at)
				k.peers[at] = append(k.peers[at], uint16(i+1))
			}
		}
		if err := w.backend.SetPeers(number, uint16(i+1), []netip.AddrPort{where[0]}); err != nil { // what is said anew counts
			w.t.Fatal(err)
		}
		if err := w.backend.SetPeers(number, uint16(i+1), where); err != nil {
			w.t.Fatal(err)
		}
	}
	return k
}

// generator makes policies and conversations that meet often.
type generator struct{ *rand.Rand }

func (g *generator) addr() netip.Addr {
	if g.IntN(4) == 0 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", g.IntN(3), 1+g.IntN(3)))
	}
	return netip.AddrFrom4([4]byte{10, byte(g.IntN(3)), byte(g.IntN(3)), byte(1 + g.IntN(4))})
}

func (g *generator) port() uint16 { return uint16(1000 + g.IntN(24)) }

func (g *generator) name() string {
	return []string{"a", "b", "c"}[g.IntN(3)] + "." + []string{"x.example.org", "example.org", "example.com"}[g.IntN(3)]
}

func (g *generator) cidr() string {
	a := g.addr()
	bits := a.BitLen() - []int{0, 0, 2, 8, 16, a.BitLen()}[g.IntN(6)]
	p, err := a.Prefix(bits)
	if err != nil {
		panic(err)
	}
	return p.String()
}

func (g *generator) ports() string {
	protocol := []string{"", "/tcp", "/udp"}[g.IntN(3)]
	first := g.port()
	return []string{fmt.Sprintf("%d%s", first, protocol), fmt.Sprintf("%d-%d%s", first, int(first)+g.IntN(9), protocol), "*" + protocol}[g.IntN(3)]
}

func (g *generator) rule(end string) string {
	var parts []string
	switch n := g.IntN(8); {
	case n < 4:
		to := fmt.Sprintf("cidr: [%q, %q]", g.cidr(), g.cidr())
		parts = append(parts, end+": {"+to+"}")
	case n == 4 && end == "to":
		parts = append(parts, fmt.Sprintf("to: {fqdn: [%q]}", []string{"*.example.org", "**.example.org", "a.example.com"}[g.IntN(3)]))
	case n == 5 && end == "to":
		parts = append(parts, fmt.Sprintf("to: {workload: {unit: u%d.service}}", g.IntN(3)))
	}
	if g.IntN(3) > 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("ports: [%q, %q]", g.ports(), g.ports()))
	}
	if g.IntN(3) == 0 {
		parts = append(parts, `by: ["{dir}/other"]`)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (g *generator) policy() string {
	section := func(end string) string {
		rules := func(n int) string {
			var all []string
			for range n {
				all = append(all, g.rule(end))
			}
			return "[" + strings.Join(all, ", ") + "]"
		}
		out := "deny: " + rules(1+g.IntN(4))
		if g.IntN(3) > 0 {
			out += ", allow: " + rules(2+g.IntN(8))
		}
		return "{" + out + "}"
	}
	return "\tweaker: accept\n\tnetwork:\n\t\tegress: " + section("to") + "\n\t\tlisten: " + section("on") + "\n"
}

// attempt is a conversation to try.
type attempt struct {
	binary    string
	direction policy.Direction
	protocol  uint8
	network   string
	addr      netip.Addr
	port      uint16
}

func (g *generator) query() attempt {
	q := attempt{binary: []string{"actor", "other"}[g.IntN(2)], direction: []policy.Direction{policy.Egress, policy.Egress, policy.Listen}[g.IntN(3)],
		protocol: unix.IPPROTO_UDP, network: "udp", addr: g.addr(), port: g.port()}
	if g.IntN(2) == 0 {
		q.protocol, q.network = unix.IPPROTO_TCP, "tcp"
	}
	if q.addr.Is6() || g.IntN(3) == 0 {
		q.network += "6"
	} else {
		q.network += "4"
	}
	return q
}

// deed is how an actor tries it: nothing but loopback is there, so that what is allowed fails for another reason.
func (q attempt) deed() string {
	addr := q.addr
	if strings.HasSuffix(q.network, "6") {
		addr = netip.AddrFrom16(addr.As16())
	}
	return map[policy.Direction]string{policy.Egress: "connect", policy.Listen: "bind"}[q.direction] + " " + q.network + " " +
		netip.AddrPortFrom(addr, q.port).String()
}
