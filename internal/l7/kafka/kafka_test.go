// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	. "github.com/vigie-io/vigie/internal/l7/l7test"
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
	turns []Said
	want  string
} {
	type c = struct {
		turns []Said
		want  string
	}
	records := strings.Repeat("secret", 1000)
	return map[string]c{
		"old": {[]Said{C(ask(18, 2, 1, "")), S(answer(1, i16(0)+i32(0))),
			C(ask(0, 7, 2, i16(-1)+i16(-1)+i32(100)+i32(1)+i16(6)+"orders"+i32(1)+i32(0)+sized(records))), S(answer(2, i32(1)+i16(6)+"orders"+i32(1)+i32(0)+i16(29)+"........")),
			C(ask(0, 7, 3, i16(-1)+i16(0)+i32(100)+i32(1)+i16(6)+"silent"+i32(1)+i32(0)+sized(records))),
			C(ask(1, 11, 4, i32(-1)+i32(500)+i32(1)+i32(1000)+"\x00"+i32(0)+i32(0)+i32(1)+i16(6)+"orders")), S(answer(4, i32(0)+i16(0)+i32(0)+records))},
			"kafka ApiVersions version=v2 latency=1000 duration=1000\n" +
				"kafka Produce version=v7 resource=orders text=TOPIC_AUTHORIZATION_FAILED latency=1000 duration=1000 failed\n" +
				"kafka Produce version=v7 resource=silent\nkafka Fetch version=v11 resource=orders latency=1000 duration=1000\n"},
		"flexible, pipelined": {[]Said{C(ask(0, 9, 7, "\x00"+"\x00"+i16(1)+i32(1)+"\x02\x07orders"+"\x02") + ask(12, 4, 8, "\x00\x02g")),
			S(answer(7, "\x00"+"\x02\x07orders\x02"+i32(0)+i16(0)) + answer(8, "\x00"+i32(0)+i16(27)+"\x00")), C(ask(3, 12, 9, "\x00"))},
			"kafka Produce version=v9 resource=orders latency=1000 duration=1000\nkafka Heartbeat version=v4 text=REBALANCE_IN_PROGRESS latency=1000 duration=1000 failed\n" +
				"kafka Metadata version=v12 duration=1000 no-answer\n"},
	}
}

func TestCallsHoweverTheyAreCut(t *testing.T) {
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) { Splits(t, Protocol(), c.want, c.turns...) })
	}
}

func TestWhatIsNotCaptured(t *testing.T) {
	p := Player{Protocols: []l7.Protocol{Protocol()}, Prefix: 700}
	for i := range int32(3) {
		p.Say(C(ask(0, 7, i, i16(-1)+i16(-1)+i32(100)+i32(1)+i16(6)+"orders"+strings.Repeat("x", 5000)) + ask(3, 5, 100+i, "")))
		p.Say(S(answer(i, i32(0)) + answer(100+i, strings.Repeat("x", 2000))))
	}
	// The second request of each turn is not seen; answers say whose they are.
	if got, want := Text(p.End()), strings.Repeat("kafka Produce version=v7 resource=orders latency=1000 duration=1000\n", 3); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	Memory(t, Protocol(), func(p *Player) {
		for i := range int32(500) {
			p.Say(C(ask(0, 7, i, i16(-1)+i16(-1)+i32(100)+i32(1)+i16(240)+strings.Repeat("t", 240))))
		}
	})
}

func FuzzKafka(f *testing.F) {
	var seeds [][]Said
	for _, c := range conversations() {
		seeds = append(seeds, c.turns)
	}
	Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if r.Method == "" || strings.ContainsAny(r.Resource, " \x00") {
			t.Errorf("cannot be: %+v", r)
		}
	}, seeds...)
}
