// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

const byName = `
	network:
		egress:
			allow:
			- {to: {cidr: 127.0.0.53}, ports: [53/udp]}
			- {to: {fqdn: ["*.example.org", "**.deep.example.net"]}, ports: [443]}
`

const server = "127.0.0.53:53"

// The kernel has read the answer before the program does: no connect comes too early.
func testAnswerThenConnect(t *testing.T, w *world) {
	next := 0
	w.resolver(server).set(func(name string) []dnsmessage.Resource {
		next++
		return []dnsmessage.Resource{address(name, fmt.Sprintf("127.1.%d.%d", next/250, 1+next%250), 5)}
	})
	w.apply(byName)
	w.actor().expect("ok", "resolve %s deep.example.net 443 1000", server)
}

func testNames(t *testing.T, w *world) {
	w.resolver(server).set(func(name string) []dnsmessage.Resource {
		switch name {
		case "www.example.org.":
			return []dnsmessage.Resource{address(name, "127.2.0.1", 300), address(name, "127.2.0.2", 300)}
		case "WWW.Example.ORG.":
			return []dnsmessage.Resource{address(name, "127.2.0.3", 300)}
		case "alias.example.org.": // its addresses are those of the name that was asked for
			return []dnsmessage.Resource{alias(name, "one.example.com."), alias("one.example.com.", "two.example.com."), address("two.example.com.", "127.2.0.4", 5)}
		case "a.b.example.org.": // "*" is one label
			return []dnsmessage.Resource{address(name, "127.2.0.5", 300)}
		case "a.b.deep.example.net.":
			return []dnsmessage.Resource{address(name, "127.2.0.6", 300)}
		case "six.example.org.":
			return []dnsmessage.Resource{address(name, "2001:db8::7", 300), address(name, "127.2.0.8", 300)}
		case "www.example.com.":
			return []dnsmessage.Resource{address(name, "127.2.0.7", 300)}
		}
		return nil
	})
	w.apply(byName)
	a := w.actor()
	for _, c := range []struct{ name, addr, want string }{
		{"www.example.org", "127.2.0.1", "ok"}, {"WWW.Example.ORG", "127.2.0.3", "ok"}, {"alias.example.org", "127.2.0.4", "ok"},
		{"a.b.example.org", "127.2.0.5", "EPERM"}, {"a.b.deep.example.net", "127.2.0.6", "ok"}, {"www.example.com", "127.2.0.7", "EPERM"},
	} {
		a.expect("EPERM", "connect udp4 %s:443", c.addr)
		a.expect(c.addr, "ask %s %s", server, c.name)
		a.expect(c.want, "connect udp4 %s:443", c.addr)
		a.expect("EPERM", "connect udp4 %s:80", c.addr)
	}
	a.expect("EPERM", "connect udp6 [2001:db8::7]:443")
	a.expect("127.2.0.8", "ask %s six.example.org", server)
	if got := a.do("connect udp6 [2001:db8::7]:443"); got == "EPERM" { // there is no way there
		t.Errorf("an address of IPv6: %s", got)
	}
	a.expect("ok", "connect udp4 127.2.0.2:443") // the second of the answer
	a.expect("ok", "connect udp6 [::ffff:127.2.0.2]:443")
}

// A name counts for as long as its TTL says, at least a minute, and then no more.
func testExpiredName(t *testing.T, w *world) {
	w.resolver(server).set(func(name string) []dnsmessage.Resource {
		return []dnsmessage.Resource{address(name, "127.2.0.1", 1), address(name, "127.2.0.2", 600), address(name, "127.2.0.3", 600)}
	})
	w.apply(byName)
	a := w.actor()
	a.expect("127.2.0.1", "ask %s www.example.org", server)
	now := bootSeconds(t)
	for addr, ttl := range map[string]uint32{"127.2.0.1": 60, "127.2.0.2": 600} {
		if end := uint32(w.places(addr).Places[0]); end < now+ttl-10 || end > now+ttl+1 {
			t.Errorf("%s counts for %d seconds more, want %d", addr, int(end)-int(now), ttl)
		}
	}
	// As if it were later.
	for _, addr := range []string{"127.2.0.1", "127.2.0.2"} {
		p := w.places(addr)
		p.Places[0] = p.Places[0]>>32<<32 | uint64(now-1)
		if err := w.backend.objs.VgNetNames.Put(w.nameKey(addr), &p); err != nil {
			t.Fatal(err)
		}
		a.expect("EPERM", "connect udp4 %s:443", addr)
	}
	a.expect("ok", "connect udp4 127.2.0.3:443")
	a.expect("127.2.0.1", "ask %s www.example.org", server)
	a.expect("ok", "connect udp4 127.2.0.1:443")
}

func bootSeconds(t *testing.T) uint32 {
	now, err := kernel.BootTime()
	if err != nil {
		t.Fatal(err)
	}
	return uint32(time.Duration(now) / time.Second)
}

// nameKey is an address of the only table.
func (w *world) nameKey(addr string) *bpfVgNetNameKey {
	for n := range w.backend.tables {
		return &bpfVgNetNameKey{Table: uint32(n), Addr: mapped(netip.MustParseAddr(addr))}
	}
	w.t.Fatal("there is no table")
	return nil
}

func (w *world) places(addr string) (p bpfVgNetPlaces) {
	w.t.Helper()
	if err := w.backend.objs.VgNetNames.Lookup(w.nameKey(addr), &p); err != nil {
		w.t.Fatalf("%s was not learned: %v", addr, err)
	}
	return p
}

// What looks like an answer but answers no question teaches nothing.
func testUnaskedAnswer(t *testing.T, w *world) {
	w.resolver(server).set(func(name string) []dnsmessage.Resource { return []dnsmessage.Resource{address(name, "127.2.0.1", 300)} })
	w.apply(byName)
	a := w.actor()
	forged := (&resolver{answer: func(name string) []dnsmessage.Resource {
		return []dnsmessage.Resource{address(name, "127.6.6.6", 300)}
	}}).reply(must(query("www.example.org", dnsmessage.TypeA)))
	fd, _ := w.bound("udp4", "127.0.0.66:53")
	send := func(to string) {
		t.Helper()
		if err := unix.Sendto(fd, forged, 0, sockaddr("udp4", to)); err != nil {
			t.Fatal(err)
		}
	}
	a.expect("ok", "bind udp4 127.0.0.1:4000")
	send("127.0.0.1:4000")
	a.expect("127.0.0.66:53", "receive")
	a.expect("EPERM", "connect udp4 127.6.6.6:443")
	// Nor from another address than was asked.
	a.expect("ok", "bind udp4 127.0.0.1:4001")
	a.expect("ok", "sendto %s", server)
	send("127.0.0.1:4001")
	a.expect("127.0.0.66:53", "receive")
	a.expect("EPERM", "connect udp4 127.6.6.6:443")
	a.expect("127.2.0.1", "ask %s www.example.org", server)
	a.expect("ok", "connect udp4 127.2.0.1:443")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Messages of all kinds of brokenness are delivered, and counted when they should have taught something.
func testBrokenAnswers(t *testing.T, w *world) {
	if err := w.host.ReadLosses(); err != nil {
		t.Fatal(err)
	}
	unread := w.losses.Counter("kernel", "dns names full").Load()
	r := w.resolver(server)
	w.apply(byName)
	a := w.actor()
	good := (&resolver{answer: func(name string) []dnsmessage.Resource {
		return []dnsmessage.Resource{address(name, "127.7.0.1", 300), address(name, "127.7.0.2", 300)}
	}}).reply(must(query("www.example.org", dnsmessage.TypeA)))
	answer := func(b []byte) {
		t.Helper()
		r.setRaw(b)
		a.expect("ok", "send udp4 %s", server)
		a.expect(server, "receive")
	}
	for cut := range len(good) - 17 { // without the whole first record
		answer(good[:max(cut, 1)])
	}
	for at := 12; at < 12+len("3www7example3org"); at++ {
		if at > 12 && at < 16 {
			continue // any label does there
		}
		for _, c := range []byte{0, '.', 0x3f, 0x40, 0xc0, 0xff} {
			b := append([]byte(nil), good...)
			b[at] = c
			answer(b)
		}
	}
	a.expect("EPERM", "connect udp4 127.7.0.1:443")
	if err := w.host.ReadLosses(); err != nil {
		t.Fatal(err)
	}
	if w.losses.Counter("kernel", "dns names full").Load() == unread {
		t.Error("nothing was counted as unreadable")
	}
	answer(good[:len(good)-3]) // the first record is whole
	a.expect("ok", "connect udp4 127.7.0.1:443")
	a.expect("EPERM", "connect udp4 127.7.0.2:443")
}

// The agent teaches what came over TCP.
func testLearn(t *testing.T, w *world) {
	w.apply(byName)
	a := w.actor()
	a.expect("EPERM", "connect udp6 [2001:db8::5]:443")
	w.learn(a, "www.example.com", "2001:db8::5", "127.3.0.1")
	a.expect("EPERM", "connect udp4 127.3.0.1:443")
	a.expect("EPERM", "connect udp6 [2001:db8::5]:443")
	w.learn(a, "www.example.org", "2001:db8::5", "127.3.0.1")
	a.expect("ok", "connect udp4 127.3.0.1:443")
	if got := a.do("connect udp6 [2001:db8::5]:443"); got == "EPERM" { // there is no way there
		t.Errorf("an address of IPv6: %s", got)
	}
}

// learn hands the back-end the dns event of an actor.
func (w *world) learn(a *actor, name string, addrs ...string) {
	w.t.Helper()
	now, err := kernel.BootTime()
	if err != nil {
		w.t.Fatal(err)
	}
	ev := &model.Event{Key: a.key(w), BootTime: now, DNS: &model.DNS{Name: name, Protocol: "tcp", Answers: []model.DNSAnswer{{Type: "CNAME", Data: "x.example.com"}}}}
	for _, addr := range addrs {
		typ := "A"
		if netip.MustParseAddr(addr).Is6() {
			typ = "AAAA"
		}
		ev.DNS.Answers = append(ev.DNS.Answers, model.DNSAnswer{Type: typ, Data: addr, TTL: time.Second})
	}
	if err := w.backend.Learn(ev); err != nil {
		w.t.Fatal(err)
	}
}

// key is a process as events name it.
func (a *actor) key(w *world) model.ProcessKey {
	w.t.Helper()
	a.expect("ok", "nothing") // it has begun
	var entry subject.Entry
	if err := w.backend.kernel.Subjects.Lookup(a.pid(), &entry); err != nil {
		w.t.Fatal(err)
	}
	return model.ProcessKey{PID: a.pid(), Start: entry.Start, Exec: entry.Exec}
}

// What a process has asked for counts under the policy's next table too, and is forgotten of the one before.
func testNamesOutliveTheirTable(t *testing.T, w *world) {
	w.server("tcp4", "127.3.0.1:443")
	w.apply(byName)
	a := w.actor()
	w.learn(a, "www.example.org", "127.3.0.1")
	a.expect("ok", "connect tcp4 127.3.0.1:443")
	before := w.nameKey("127.3.0.1").Table
	w.apply(strings.Replace(byName, "ports: [443]", "ports: [443, 444]", 1))
	a.expect("ok", "echo") // it was not cut
	a.expect("ok", "connect udp4 127.3.0.1:444")
	var key bpfVgNetNameKey
	var places bpfVgNetPlaces
	for it := w.backend.objs.VgNetNames.Iterate(); it.Next(&key, &places); {
		if key.Table == before {
			t.Errorf("%v is still known to a table that is gone", netip.AddrFrom16(key.Addr))
		}
	}
	// Also what it asked for before there was a policy of that name.
	w.apply()
	table := w.compile("\tnetwork: {egress: {deny: [{ports: [9]}]}}", strings.Replace(byName, "example.org", "example.com", 1))
	if err := w.enforcer.Apply(t.Context(), table[:1]); err != nil {
		t.Fatal(err)
	}
	w.learn(a, "www.example.com", "127.3.0.2")
	if err := w.enforcer.Apply(t.Context(), table[1:]); err != nil {
		t.Fatal(err)
	}
	a.expect("ok", "connect udp4 127.3.0.2:443")
	a.expect("EPERM", "connect udp4 127.3.0.1:443")
}
