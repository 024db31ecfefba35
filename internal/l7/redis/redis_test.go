// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/model"
)

func cmd(args ...string) string {
	out := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		out += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	return out
}

func conversations() map[string]struct {
	turns []l7test.Said
	want  string
} {
	type c = struct {
		turns []l7test.Said
		want  string
	}
	return map[string]c{
		"commands": {[]l7test.Said{l7test.C(cmd("AUTH", "anna", "secret")), l7test.S("+OK\r\n"), l7test.C(cmd("set", "user:4711:cart", strings.Repeat("secret", 200))), l7test.S("+OK\r\n"),
			l7test.C(cmd("GET", "user:4711:cart")), l7test.S("$6\r\nsecret\r\n"), l7test.C(cmd("LPUSH", "user:1", "x")), l7test.S("-WRONGTYPE Operation against a secret\r\n"), l7test.C("PING\r\n"), l7test.S("+PONG\r\n")},
			"redis AUTH latency=1000 duration=1000\nredis SET resource=user:{id}:cart latency=1000 duration=1000\nredis GET resource=user:{id}:cart latency=1000 duration=1000\n" +
				"redis LPUSH resource=user:{id} text=WRONGTYPE latency=1000 duration=1000 failed\nredis PING latency=1000 duration=1000\n"},
		"pipelined": {[]l7test.Said{l7test.C(cmd("MULTI") + cmd("INCR", "n") + cmd("HGETALL", "h") + cmd("EXEC") + cmd("NOSUCH", "secret")),
			l7test.S("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n%2\r\n$1\r\na\r\n*-1\r\n$-1\r\n_\r\n"), l7test.S(">2\r\n+x\r\n+y\r\n-ERR unknown\r\n")},
			"redis MULTI latency=1000 duration=1000\nredis INCR resource=n latency=1000 duration=1000\nredis HGETALL resource=h latency=1000 duration=1000\n" +
				"redis EXEC latency=1000 duration=1000\nredis UNKNOWN text=ERR latency=2000 duration=2000 failed\n"},
		"subscription": {[]l7test.Said{l7test.C(cmd("SUBSCRIBE", "news")), l7test.S("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"), l7test.S("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n")},
			"redis SUBSCRIBE latency=1000 duration=1000\n"},
		"no answer": {[]l7test.Said{l7test.C(cmd("PING")), l7test.S("+PONG\r\n"), l7test.C(cmd("BLPOP", "queue", "0"))},
			"redis PING latency=1000 duration=1000\nredis BLPOP resource=queue duration=1000 no-answer\n"},
	}
}

func TestCommandsHoweverTheyAreCut(t *testing.T) {
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) { l7test.Splits(t, Protocol(), c.want, c.turns...) })
	}
}

func TestWhatIsNotCaptured(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}, Prefix: 100}
	p.Say(l7test.C(cmd("SET", "k", strings.Repeat("x", 5000))))
	p.Say(l7test.S("+OK\r\n"))
	p.Say(l7test.C(cmd("LRANGE", "l", "0", "-1")))
	p.Say(l7test.S("*100\r\n" + strings.Repeat("$1\r\nx\r\n", 100)))
	p.Say(l7test.C(cmd("GET", "k")))
	p.Say(l7test.S("$5000\r\n" + strings.Repeat("x", 5000) + "\r\n"))
	p.Say(l7test.C(strings.Repeat(cmd("GET", "k"), 20))) // how many there are is not seen
	want := "redis SET resource=k latency=1000 duration=1000\nredis LRANGE resource=l latency=1000\nredis GET resource=k latency=1000 duration=1000\n"
	if got := l7test.Text(p.End()); got != want || p.Counts.Gone != 1 {
		t.Errorf("got:\n%swant:\n%scounted %+v", got, want, p.Counts)
	}
}

func TestWhatIsNotRedis(t *testing.T) {
	for _, text := range []string{"\r\n", "$\r\n", "$-1\r\n", "*1\r\n", strings.Repeat("x", 600)} {
		p := l7test.Player{Protocols: []l7.Protocol{Protocol()}}
		p.Say(l7test.C(cmd("PING")))
		p.Say(l7test.S("+PONG\r\n"))
		p.Say(l7test.C("*2\r\n" + text))
		if got := l7test.Text(p.End()); got != "redis PING latency=1000 duration=1000\n" || p.Counts.Wrong != 1 {
			t.Errorf("%q: told %q, counted %+v", text, got, p.Counts)
		}
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		for range 60 {
			p.Say(l7test.C(cmd("GET", strings.Repeat("aB/", 42))))
		}
		p.Say(l7test.C("*1000000\r\n$1000000\r\n"))
		p.Say(l7test.S("*1000000000\r\n*1000000000\r\n"))
	})
}

func FuzzRedis(f *testing.F) {
	var seeds [][]l7test.Said
	for _, c := range conversations() {
		seeds = append(seeds, c.turns)
	}
	l7test.Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if !keyed[r.Method] && !other[r.Method] && r.Method != "UNKNOWN" || len(r.Resource) > 256 {
			t.Errorf("cannot be: %+v", r)
		}
	}, seeds...)
}
