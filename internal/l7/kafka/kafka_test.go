// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/model"
)

func sized(b string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) + b }

func i16(v int16) string { return string(binary.BigEndian.AppendUint16(nil, uint16(v))) }
func i32(v int32) string { return string(binary.BigEndian.AppendUint32(nil, uint32(v))) }

func ask(key, version int16, id int32, body string) string {
	return sized(i16(key) + i16(version) + i32(id) + i16(6) + "client" + body)
}

func answer(id int32, body string) string { return sized(i32(id) + body) }

func conversations() map[string]struct {
	turns []l7test.Said
	want  string
} {
	type c = struct {
		turns []l7test.Said
		want  string
	}
	records := strings.Repeat("secret", 1000)
	return map[string]c{
		"old": {[]l7test.Said{l7test.C(ask(18, 2, 1, "")), l7test.S(answer(1, i16(0)+i32(0))),
			l7test.C(ask(0, 7, 2, i16(-1)+i16(-1)+i32(100)+i32(1)+i16(6)+"orders"+i32(1)+i32(0)+sized(records))), l7test.S(answer(2, i32(1)+i16(6)+"orders"+i32(1)+i32(0)+i16(29)+"........")),
			l7test.C(ask(0, 7, 3, i16(-1)+i16(0)+i32(100)+i32(1)+i16(6)+"silent"+i32(1)+i32(0)+sized(records))),
			l7test.C(ask(1, 11, 4, i32(-1)+i32(500)+i32(1)+i32(1000)+"\x00"+i32(0)+i32(0)+i32(1)+i16(6)+"orders")), l7test.S(answer(4, i32(0)+i16(0)+i32(0)+records))},
			"kafka ApiVersions version=v2 latency=1000 duration=1000\n" +
				"kafka Produce version=v7 resource=orders text=TOPIC_AUTHORIZATION_FAILED latency=1000 duration=1000 failed\n" +
				"kafka Produce version=v7 resource=silent\nkafka Fetch version=v11 resource=orders latency=1000 duration=1000\n"},
		"flexible, pipelined": {[]l7test.Said{l7test.C(ask(0, 9, 7, "\x00"+"\x00"+i16(1)+i32(1)+"\x02\x07orders"+"\x02") + ask(12, 4, 8, "\x00\x02g")),
			l7test.S(answer(7, "\x00"+"\x02\x07orders\x02"+i32(0)+i16(0)) + answer(8, "\x00"+i32(0)+i16(27)+"\x00")), l7test.C(ask(3, 12, 9, "\x00"))},
			"kafka Produce version=v9 resource=orders latency=1000 duration=1000\nkafka Heartbeat version=v4 text=REBALANCE_IN_PROGRESS latency=1000 duration=1000 failed\n" +
				"kafka Metadata version=v12 duration=1000 no-answer\n"},
	}
}

func TestCallsHoweverTheyAreCut(t *testing.T) {
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) { l7test.Splits(t, Protocol(), c.want, c.turns...) })
	}
}

func TestWhatIsNotCaptured(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}, Prefix: 700}
	for i := range int32(3) {
		p.Say(l7test.C(ask(0, 7, i, i16(-1)+i16(-1)+i32(100)+i32(1)+i16(6)+"orders"+strings.Repeat("x", 5000)) + ask(3, 5, 100+i, "")))
		p.Say(l7test.S(answer(i, i32(0)) + answer(100+i, strings.Repeat("x", 2000))))
	}
	// The second request of each turn is not seen; answers say whose they are.
	if got, want := l7test.Text(p.End()), strings.Repeat("kafka Produce version=v7 resource=orders latency=1000 duration=1000\n", 3); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		for i := range int32(500) {
			p.Say(l7test.C(ask(0, 7, i, i16(-1)+i16(-1)+i32(100)+i32(1)+i16(240)+strings.Repeat("t", 240))))
		}
	})
}

func FuzzKafka(f *testing.F) {
	var seeds [][]l7test.Said
	for _, c := range conversations() {
		seeds = append(seeds, c.turns)
	}
	l7test.Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if r.Method == "" || strings.ContainsAny(r.Resource, " \x00") {
			t.Errorf("cannot be: %+v", r)
		}
	}, seeds...)
}
