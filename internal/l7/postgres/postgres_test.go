// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/model"
)

func m(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))) + body
}

func start(code uint32, body string) string {
	return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(body)+8)), code)) + body
}

const z, bad = "Z\x00\x00\x00\x05I", "SERROR\x00VERROR\x00C23505\x00Mduplicate secret\x00\x00"

func login() []l7test.Said {
	return []l7test.Said{l7test.C(start(codeTLS, "")), l7test.S("N"), l7test.C(start(version3, "user\x00anna\x00database\x00shop\x00\x00")),
		l7test.S(m('R', "\x00\x00\x00\x05salt")), l7test.C(m('p', "md5secret\x00")), l7test.S(m('R', "\x00\x00\x00\x00") + m('S', "a\x00b\x00") + m('K', "12345678") + z)}
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
		"simple": {append(login(), l7test.C(m('Q', "select * from users where name='secret'\x00")), l7test.S(m('T', "x")+m('D', strings.Repeat("secret", 1000))+m('C', "SELECT 1\x00")+z),
			l7test.C(m('Q', "insert into t values (1); select 2\x00")), l7test.S(m('C', "INSERT 0 1\x00")+m('E', bad)+z)),
			"postgresql SELECT resource=users latency=1000 duration=1000\npostgresql INSERT resource=t text=23505 latency=1000 duration=1000 failed\n"},
		"extended": {append(login(), l7test.C(m('P', "s1\x00update accounts set x=$1\x00\x00\x00")+m('D', "Ss1\x00")+m('S', "")), l7test.S(m('1', "")+m('t', "\x00\x00")+m('n', "")+z),
			l7test.C(m('B', "\x00s1\x00\x00\x00secret")+m('E', "\x00\x00\x00\x00\x00")+m('B', "\x00s1\x00")+m('E', "\x00\x00\x00\x00\x00")+m('S', "")),
			l7test.S(m('2', "")+m('C', "UPDATE 1\x00")+m('E', bad)+z),
			l7test.C(m('B', "\x00s1\x00")+m('E', "\x00\x00\x00\x00\x00")+m('E', "p\x00\x00\x00\x00\x00")+m('S', "")), l7test.S(m('E', bad)+z)),
			"postgresql UPDATE resource=accounts latency=1000 duration=1000\npostgresql UPDATE resource=accounts text=23505 latency=1000 duration=1000 failed\n" +
				"postgresql UPDATE resource=accounts text=23505 latency=1000 duration=1000 failed\n"},
		"no answer": {append(login(), l7test.C(m('Q', "begin\x00")), l7test.S(m('C', "BEGIN\x00")+z), l7test.C(m('Q', "commit\x00"))),
			"postgresql BEGIN latency=1000 duration=1000\npostgresql COMMIT no-answer\n"},
		"TLS": {[]l7test.Said{l7test.C(start(codeTLS, "")), l7test.S("S"), l7test.C("\x16\x03\x01\x02\x00"), l7test.S("\x16\x03\x01")}, ""},
	}
}

func TestQueriesHoweverTheyAreCut(t *testing.T) {
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) { l7test.Splits(t, Protocol(), c.want, c.turns...) })
	}
}

func TestLargeResultsAndLateListeners(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}, Joined: true, Prefix: 600}
	p.Say(l7test.C(m('Q', "select * from large\x00")))
	p.Say(l7test.S(strings.Repeat(m('D', strings.Repeat("x", 50)), 100) + m('C', "SELECT 100\x00") + z)) // the end is not captured
	p.Say(l7test.C(m('Q', "insert into t values ('"+strings.Repeat("x", 5000)+"')\x00")))
	p.Say(l7test.S(m('C', "INSERT 0 1\x00") + z))
	want := "postgresql SELECT resource=large latency=1000\npostgresql INSERT resource=t latency=1000 duration=1000\n"
	if got := l7test.Text(p.End()); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		for _, s := range login() {
			p.Say(s)
		}
		for i := range 500 {
			p.Say(l7test.C(m('P', strings.Repeat(string(rune('a'+i%26)), 1+i%60)+"\x00select * from "+strings.Repeat("t", 120)+"\x00\x00\x00")))
			p.Say(l7test.C(m('Q', "select * from "+strings.Repeat("t", 120)+"\x00")))
		}
	})
}

func FuzzPostgres(f *testing.F) {
	var seeds [][]l7test.Said
	for _, c := range conversations() {
		seeds = append(seeds, c.turns)
	}
	l7test.Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if r.Method == "" || strings.ContainsAny(r.Method+r.Resource+r.StatusText, "' \x00") {
			t.Errorf("cannot be: %+v", r)
		}
	}, seeds...)
}
