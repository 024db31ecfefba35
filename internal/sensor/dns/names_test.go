// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

const second = uint64(time.Second)

func answered(pid uint32, netns uint32, at uint64, name string, answers ...model.DNSAnswer) *model.Event {
	return &model.Event{Type: model.TypeDNS, BootTime: at, Key: model.ProcessKey{PID: pid, Start: 1, Exec: 7},
		Process: &model.Process{Namespaces: model.Namespaces{Net: netns}},
		DNS:     &model.DNS{Name: name, QType: "A", RCode: "NOERROR", Answers: answers}}
}

func a(addr string, ttl time.Duration) model.DNSAnswer {
	return model.DNSAnswer{Type: "A", Data: addr, TTL: ttl}
}

func cname(to string, ttl time.Duration) model.DNSAnswer {
	return model.DNSAnswer{Type: "CNAME", Data: to, TTL: ttl}
}

func TestNamesAreThoseThatTheProcessAskedFor(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	n := NewNames(NamesOptions{MinTTL: time.Second})
	n.Learn(answered(10, 5, 0, "www.example.org", cname("cdn.example.net", 100*time.Second), a("192.0.2.1", 30*time.Second)))
	n.Learn(answered(11, 5, 0, "other.example.org", a("192.0.2.1", 60*time.Second)))
	n.Learn(answered(11, 5, 0, "two.example.org", cname("x.example.net", 2*time.Second), a("192.0.2.2", 60*time.Second)))
	for _, c := range []struct {
		what  string
		pid   uint32
		netns uint32
		addr  netip.Addr
		at    uint64
		want  string
	}{
		{"its own name, not the alias", 10, 5, one, 0, "www.example.org"},
		{"another process's own name", 11, 5, one, 0, "other.example.org"},
		{"a third process: two names, so none", 12, 5, one, 0, ""},
		{"a third process: the only name", 12, 5, two, 0, "two.example.org"},
		{"another network namespace", 12, 6, two, 0, ""},
		{"an unknown namespace", 12, 0, two, 0, ""},
		{"IPv4 in IPv6", 10, 5, netip.MustParseAddr("::ffff:192.0.2.1"), 0, "www.example.org"},
		{"still valid", 10, 5, one, 29 * second, "www.example.org"},
		{"expired", 10, 0, one, 31 * second, ""},
		{"expired with its alias", 11, 5, two, 3 * second, ""},
	} {
		got, ok := n.Lookup(model.ProcessKey{PID: c.pid, Start: 1, Exec: 8}, c.netns, c.addr, c.at)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", c.what, got, ok, c.want)
		}
	}
}

func TestNamesOfAReusedPIDAreForgotten(t *testing.T) {
	n := NewNames(NamesOptions{})
	n.Learn(answered(10, 0, 0, "www.example.org", a("192.0.2.1", time.Minute)))
	if got, ok := n.Lookup(model.ProcessKey{PID: 10, Start: 2}, 0, netip.MustParseAddr("192.0.2.1"), 0); ok {
		t.Errorf("another process of that pid is told %q", got)
	}
}

func TestNamesAreBoundedAndCountWhatTheyForget(t *testing.T) {
	n := NewNames(NamesOptions{Max: 100})
	for i := range 1000 {
		n.Learn(answered(uint32(i+1), 0, 0, "name", a(fmt.Sprintf("192.0.2.%d", i%250), time.Hour)))
	}
	if size := len(n.young) + len(n.old); size > 100 {
		t.Errorf("%d names are remembered, at most 100 were asked for", size)
	}
	if kept := uint64(len(n.young) + len(n.old)); n.Evicted() != 1000-kept {
		t.Errorf("%d evictions counted, %d of 1000 names are left", n.Evicted(), kept)
	}
	if _, ok := n.Lookup(model.ProcessKey{PID: 1000, Start: 1}, 0, netip.MustParseAddr("192.0.2.249"), 0); !ok {
		t.Error("the newest name is gone")
	}
}

func TestRefusedAnswersTeachNothing(t *testing.T) {
	n := NewNames(NamesOptions{})
	ev := answered(10, 5, 0, "www.example.org", a("192.0.2.1", time.Minute))
	ev.DNS.RCode = "SERVFAIL"
	n.Learn(ev)
	n.Learn(&model.Event{Type: model.TypeExit})
	if got, ok := n.Lookup(ev.Key, 5, netip.MustParseAddr("192.0.2.1"), 0); ok {
		t.Errorf("learned %q from a refused answer", got)
	}
}
