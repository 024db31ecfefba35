// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"container/list"
	"net/netip"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// packet is what a record says beside the message.
type packet struct {
	answer         bool
	protocol       string
	cookie         uint64
	server, client netip.AddrPort
	time           uint64 // ns since boot
	process        model.ProcessKey
	tid            uint32
}

func newPacket(d *bpfVgDns, ev *model.Event) *packet {
	p := &packet{answer: d.What&whatAnswer != 0, protocol: "udp", cookie: d.Cookie, time: d.H.Time, process: ev.Key, tid: ev.TID,
		server: kernel.AddrPort(d.Server, d.ServerPort),
		client: kernel.AddrPort(d.Client, d.ClientPort)}
	if d.What&whatTCP != 0 {
		p.protocol = "tcp"
	}
	return p
}

// questionKey is what an answer has in common with its question. The server is none of it: its address can be
// translated on the way. Two processes with the same id and name have different sockets.
type questionKey struct {
	cookie uint64
	client netip.AddrPort
	id     uint16
	qtype  uint16
	name   string
}

type question struct {
	questionKey
	packet
}

// fill makes ev an event of the question, still without an answer.
func (q *question) fill(ev *model.Event) {
	ev.Type, ev.Key, ev.TID = model.TypeDNS, q.process, q.tid
	ev.DNS = &model.DNS{Name: q.name, QType: typeName(q.qtype), Server: q.server, Protocol: q.protocol}
}

// questions are those that wait for an answer, at most max, oldest first.
type questions struct {
	max     int
	evicted *pipeline.Counter
	byKey   map[questionKey]*list.Element
	byAge   *list.List
}

func newQuestions(limit int, evicted *pipeline.Counter) questions {
	return questions{max: limit, evicted: evicted, byKey: make(map[questionKey]*list.Element), byAge: list.New()}
}

// add notes a question. One that is asked again keeps the time of the first.
func (t *questions) add(q *question) {
	if t.byKey[q.questionKey] != nil {
		return
	}
	if t.byAge.Len() >= t.max {
		t.take(t.oldest().questionKey)
		t.evicted.Add(1)
	}
	t.byKey[q.questionKey] = t.byAge.PushBack(q)
}

// take removes a question and returns it, or nil.
func (t *questions) take(k questionKey) *question {
	e := t.byKey[k]
	if e == nil {
		return nil
	}
	delete(t.byKey, k)
	return t.byAge.Remove(e).(*question)
}

func (t *questions) oldest() *question {
	if e := t.byAge.Front(); e != nil {
		return e.Value.(*question)
	}
	return nil
}
