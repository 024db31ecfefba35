// SPDX-License-Identifier: Apache-2.0

// Package l7test plays conversations to the parsers. In: what two sides said. Out: the requests that were made of it. Only tests
// import it.
package l7test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/model"
)

// Said is what one side says before the other does. The client's turns are sent, the server's received.
type Said struct {
	By   l7.Side
	Text []byte
}

// C and S are turns of the client and of the server.
func C(text string) Said { return Said{l7.Client, []byte(text)} }

// S is a turn of the server.
func S(text string) Said { return Said{l7.Server, []byte(text)} }

// Player plays one conversation. The zero value of its fields but Protocols is useful.
type Player struct {
	Protocols []l7.Protocol
	Counts    l7.Counts
	Joined    bool // the connection was there before
	Prefix    int  // bytes of each turn that are captured; 0: all
	conn      *l7.Conn
	pos       [2]uint32
	begun     [2]bool
	got       []*model.Request
	now       uint64
}

// Step is the time between two turns.
const Step = 1000

func (p *Player) start() {
	if p.conn == nil {
		p.conn = l7.NewConn(p.Protocols, &p.Counts, func(r *model.Request, _ uint64) { p.got = append(p.got, r) })
		p.pos = [2]uint32{0xfffffff0, 7} // a place of no meaning, which wraps
	}
}

// Say plays a turn in pieces, each ending at one of the places in cuts.
func (p *Player) Say(s Said, cuts ...int) {
	p.start()
	p.now += Step
	captured := len(s.Text)
	if p.Prefix > 0 {
		captured = min(captured, p.Prefix)
	}
	from := 0
	for _, to := range append(slices.Clone(cuts), len(s.Text)) {
		if to <= from || to > len(s.Text) {
			continue
		}
		data := s.Text[min(from, captured):min(to, captured)]
		if len(data) > 0 {
			p.conn.Feed(l7.Chunk{Time: p.now, Sent: s.By == l7.Client, Pos: p.pos[s.By] + uint32(from), Data: bytes.Clone(data), Size: to - from,
				Begins: !p.begun[s.By] && !p.Joined})
			p.begun[s.By] = true
		}
		from = to
	}
	p.pos[s.By] += uint32(len(s.Text))
	p.conn.Passed(s.By == l7.Client, p.pos[s.By], p.now)
}

// Skip says that n bytes of a side went by unseen.
func (p *Player) Skip(by l7.Side, n int) {
	p.pos[by] += uint32(n)
	p.begun[by] = p.begun[by] || n > 0
}

// End closes the connection and returns the requests.
func (p *Player) End() []*model.Request {
	p.start()
	p.now += Step
	p.conn.Close(p.now)
	return p.got
}

// Conn is the connection; nil before anything was said.
func (p *Player) Conn() *l7.Conn { return p.conn }

// Play plays turns to one protocol and returns its requests, one a line.
func Play(p l7.Protocol, turns ...Said) string {
	player := Player{Protocols: []l7.Protocol{p}}
	for _, t := range turns {
		player.Say(t)
	}
	return Text(player.End())
}

// Text is requests as text, with all that they say.
func Text(rs []*model.Request) string {
	var out strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&out, "%s %s", r.Protocol, r.Method)
		for _, f := range []struct{ name, value string }{{"version", r.Version}, {"path", r.Path}, {"host", r.Host}, {"resource", r.Resource}, {"text", r.StatusText}, {"trace", r.TraceID}, {"parent", r.ParentSpanID}} {
			if f.value != "" {
				fmt.Fprintf(&out, " %s=%s", f.name, f.value)
			}
		}
		for _, f := range []struct {
			name  string
			value uint64
		}{{"status", uint64(r.Status)}, {"latency", uint64(r.Latency)}, {"duration", uint64(r.Duration)}, {"asked", r.RequestBytes}, {"answered", r.ResponseBytes}} {
			if f.value != 0 {
				fmt.Fprintf(&out, " %s=%d", f.name, f.value)
			}
		}
		for name, set := range map[string]bool{"failed": r.Failed} {
			if set {
				out.WriteString(" " + name)
			}
		}
		if r.NoAnswer {
			out.WriteString(" no-answer")
		}
		if r.Sampled {
			out.WriteString(" sampled")
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// Splits checks that a conversation means the same however its turns are cut: in one piece, byte by byte, in two pieces at
// each place, and at random.
func Splits(t *testing.T, p l7.Protocol, want string, turns ...Said) {
	t.Helper()
	play := func(cuts func(turn int, s Said) []int) string {
		player := Player{Protocols: []l7.Protocol{p}}
		for i, s := range turns {
			player.Say(s, cuts(i, s)...)
		}
		return Text(player.End())
	}
	check := func(how, got string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n%swant:\n%s", how, got, want)
		}
	}
	check("in one piece", play(func(int, Said) []int { return nil }))
	check("byte by byte", play(func(_ int, s Said) []int {
		all := make([]int, len(s.Text))
		for i := range all {
			all[i] = i
		}
		return all
	}))
	for i, s := range turns {
		for at := 1; at < min(len(s.Text), 3000) && !t.Failed(); at++ {
			check(fmt.Sprintf("turn %d cut at %d", i, at), play(func(turn int, _ Said) []int {
				if turn == i {
					return []int{at}
				}
				return nil
			}))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		check("cut at random", play(func(_ int, s Said) []int {
			var cuts []int
			for at := random.IntN(9); at < len(s.Text); at += 1 + random.IntN(40) {
				cuts = append(cuts, at)
			}
			return cuts
		}))
	}
}

// Memory checks that no connection holds more than l7.MaxConnMemory, whatever feed does with it.
func Memory(t *testing.T, p l7.Protocol, feed func(*Player)) {
	t.Helper()
	const n = 64
	players := make([]*Player, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range players {
		players[i] = &Player{Protocols: []l7.Protocol{p}}
		feed(players[i])
		players[i].got = nil
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; each > l7.MaxConnMemory {
		t.Errorf("a connection holds %d bytes, more than %d", each, l7.MaxConnMemory)
	}
	runtime.KeepAlive(players)
}

// Fuzz feeds a parser what a fuzzer makes: turns of two sides, in which bytes are missing. Nothing but a crash or a request that
// cannot be is an error.
func Fuzz(f *testing.F, p l7.Protocol, check func(*testing.T, *model.Request), seeds ...[]Said) {
	f.Helper()
	for _, turns := range seeds {
		var client, server []byte
		for _, s := range turns {
			if s.By == l7.Client {
				client = append(client, s.Text...)
			} else {
				server = append(server, s.Text...)
			}
		}
		f.Add(client, server, uint16(0), uint16(0), uint16(17))
		f.Add(client, server, uint16(40), uint16(9), uint16(3))
	}
	f.Fuzz(func(t *testing.T, client, server []byte, prefix, skip, cut uint16) {
		player := Player{Protocols: []l7.Protocol{p}, Prefix: int(prefix)}
		for len(client)+len(server) > 0 {
			n := min(len(client), int(cut)+1)
			player.Say(Said{l7.Client, client[:n]}, n/2)
			client = client[n:]
			m := min(len(server), int(cut)+1)
			player.Say(Said{l7.Server, server[:m]}, m/3)
			server = server[m:]
			player.Skip(l7.Server, int(skip))
		}
		for _, r := range player.End() {
			if len(r.Path) > 1024 || len(r.Host) > 1024 || len(r.Method) > 64 || len(r.Resource) > 512 || len(r.StatusText) > 128 {
				t.Errorf("too long: %+v", r)
			}
			check(t, r)
		}
	})
}
