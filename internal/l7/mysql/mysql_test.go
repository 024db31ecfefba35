// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/model"
)

// packets writes packets, numbered from n on.
func packets(n byte, bodies ...string) string {
	var out []byte
	for _, b := range bodies {
		out = append(out, byte(len(b)), byte(len(b)>>8), byte(len(b)>>16), n)
		out = append(out, b...)
		n++
	}
	return string(out)
}

const (
	okay    = "\x00\x01\x00\x02\x00\x00\x00"
	eof     = "\xfe\x00\x00\x02\x00"
	eofMore = "\xfe\x00\x00\x0a\x00"
	okEOF   = "\xfe\x00\x00\x02\x00\x00\x00"
	failed  = "\xff\x26\x04#23000Duplicate entry 'secret'"
	column  = "\x03def\x04shop\x05users\x05users\x04name\x04name\x0c\x21\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

func login(flags uint32) []l7test.Said {
	greeting := "\x0a8.0.36\x00" + strings.Repeat("\x01", 60)
	return []l7test.Said{l7test.S(packets(0, greeting)), l7test.C(packets(1, string(binary.LittleEndian.AppendUint32(nil, flags))+strings.Repeat("\x00", 28)+"anna\x00secret")),
		l7test.S(packets(2, "\xfemysql_native_password\x00salt")), l7test.C(packets(3, "secretsecret")), l7test.S(packets(4, okay))}
}

func conversations() map[string]struct {
	turns []l7test.Said
	want  string
} {
	type c = struct {
		turns []l7test.Said
		want  string
	}
	row := "\x06secret"
	return map[string]c{
		"queries": {append(login(0), l7test.C(packets(0, "\x03select name from users where id = 'secret'")), l7test.S(packets(1, "\x01", column, eof, row, row, eof)),
			l7test.C(packets(0, "\x03insert into users values ('secret')")), l7test.S(packets(1, failed)),
			l7test.C(packets(0, "\x03call two()")), l7test.S(packets(1, "\x01", column, eof, row, eofMore, "\x01", column, eof, eof)),
			l7test.C(packets(0, "\x0e")), l7test.S(packets(1, okay)), l7test.C(packets(0, "\x01"))),
			"mysql SELECT resource=users latency=1000 duration=1000\nmysql INSERT resource=users text=23000 latency=1000 duration=1000 failed\n" +
				"mysql CALL latency=1000 duration=1000\nmysql PING latency=1000 duration=1000\n"},
		"prepared, without EOF": {append(login(clientDeprecateEOF), l7test.C(packets(0, "\x16update users set x = ?")), l7test.S(packets(1, "\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00", column)),
			l7test.C(packets(0, "\x17\x07\x00\x00\x00\x00\x01\x00\x00\x00secret")), l7test.S(packets(1, okay)),
			l7test.C(packets(0, "\x03select * from users")), l7test.S(packets(1, "\x01", column, row, "\x06sixsix", okEOF)), l7test.C(packets(0, "\x19\x07\x00\x00\x00"))),
			"mysql PREPARE resource=users latency=1000 duration=1000\nmysql UPDATE resource=users latency=1000 duration=1000\nmysql SELECT resource=users latency=1000 duration=1000\n"},
		"no answer": {append(login(0), l7test.C(packets(0, "\x02shop")), l7test.S(packets(1, okay)), l7test.C(packets(0, "\x03select sleep(9)"))),
			"mysql USE latency=1000 duration=1000\nmysql SELECT duration=1000 no-answer\n"},
		"TLS": {[]l7test.Said{login(0)[0], l7test.C(packets(1, string(binary.LittleEndian.AppendUint32(nil, clientTLS))+strings.Repeat("\x00", 28))), l7test.C("\x16\x03\x01")}, ""},
	}
}

func TestCommandsHoweverTheyAreCut(t *testing.T) {
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) { l7test.Splits(t, Protocol(), c.want, c.turns...) })
	}
}

func TestLargeResultsAndLateListeners(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}, Joined: true, Prefix: 600}
	rows := []string{"\x01", column, eof}
	for range 100 {
		rows = append(rows, "\x32"+strings.Repeat("x", 50))
	}
	p.Say(l7test.C(packets(0, "\x03select * from large")))
	p.Say(l7test.S(packets(1, append(rows, eof)...))) // the end is not captured
	p.Say(l7test.C(packets(0, "\x03insert into t values ('"+strings.Repeat("x", 5000)+"')")))
	p.Say(l7test.S(packets(1, okay)))
	want := "mysql SELECT resource=large latency=1000\nmysql INSERT resource=t latency=1000 duration=1000\n"
	if got := l7test.Text(p.End()); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		for _, s := range login(0) {
			p.Say(s)
		}
		for i := range uint32(500) {
			p.Say(l7test.C(packets(0, "\x16select * from "+strings.Repeat("t", 120))))
			p.Say(l7test.S(packets(1, "\x00"+string(binary.LittleEndian.AppendUint32(nil, i))+"\x00\x00\x00\x00\x00\x00\x00")))
		}
	})
}

func FuzzMySQL(f *testing.F) {
	var seeds [][]l7test.Said
	for _, c := range conversations() {
		seeds = append(seeds, c.turns)
	}
	l7test.Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if r.Method == "" || strings.ContainsAny(r.Resource+r.StatusText, "' \x00") {
			t.Errorf("cannot be: %+v", r)
		}
	}, seeds...)
}
