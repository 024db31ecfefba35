// SPDX-License-Identifier: Apache-2.0

// Package kafka parses Kafka's protocol (kafka.apache.org/protocol). In: what client and broker of one connection say. Out: one
// request for each call: the API's name, the topic where it is plain, latency and the error's name. Records, credentials
// and group members are not kept.
package kafka

import (
	"encoding/binary"
	"strconv"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/model"
)

// Protocol is Kafka, for the list of protocols.
func Protocol() l7.Protocol {
	return l7.Protocol{Name: "kafka", Detect: detect, New: func(emit l7.Emit, counts *l7.Counts) l7.Parser {
		return &parser{emit: emit, counts: counts}
	}}
}

const (
	sizeField = 4
	maxSize   = 1 << 30
	maxHead   = 512 // of a request: how much of it is looked at
	maxAnswer = 256
)

// api is what is known of one API.
type api struct {
	name     string
	max      int16 // version: there is room for some that are not made yet
	flexible int16 // the first version with tagged fields; 0: not needed here
	errorAt  errorAt
}

// errorAt is where an answer has its error.
type errorAt int

const (
	nowhere   errorAt = iota
	atOnce            // right behind the header
	throttled         // behind the time for which the client is throttled
)

const (
	keyProduce     = 0
	keyFetch       = 1
	keySASL        = 17
	keyAPIVersions = 18
)

// apis are the APIs by key.
var apis = map[int16]api{
	keyProduce: {"Produce", 16, 9, nowhere}, keyFetch: {"Fetch", 20, 12, nowhere}, 2: {"ListOffsets", 14, 6, nowhere}, 3: {"Metadata", 16, 9, nowhere},
	8: {"OffsetCommit", 14, 8, nowhere}, 9: {"OffsetFetch", 14, 6, nowhere}, 10: {"FindCoordinator", 10, 3, nowhere}, 11: {"JoinGroup", 12, 6, throttled},
	12: {"Heartbeat", 8, 4, throttled}, 13: {"LeaveGroup", 8, 4, throttled}, 14: {"SyncGroup", 8, 4, throttled}, 15: {"DescribeGroups", 8, 5, nowhere},
	16: {"ListGroups", 8, 3, throttled}, keySASL: {"SaslHandshake", 3, 0, atOnce}, keyAPIVersions: {"ApiVersions", 8, 0, atOnce},
	19: {"CreateTopics", 10, 5, nowhere}, 20: {"DeleteTopics", 10, 4, nowhere}, 21: {"DeleteRecords", 6, 2, nowhere}, 22: {"InitProducerId", 10, 2, throttled},
	23: {"OffsetForLeaderEpoch", 8, 4, nowhere}, 24: {"AddPartitionsToTxn", 8, 3, nowhere}, 25: {"AddOffsetsToTxn", 8, 3, throttled}, 26: {"EndTxn", 8, 3, throttled},
	28: {"TxnOffsetCommit", 8, 3, nowhere}, 29: {"DescribeAcls", 6, 2, throttled}, 30: {"CreateAcls", 6, 2, nowhere}, 31: {"DeleteAcls", 6, 2, nowhere},
	32: {"DescribeConfigs", 8, 4, nowhere}, 33: {"AlterConfigs", 6, 2, nowhere}, 36: {"SaslAuthenticate", 5, 2, atOnce}, 37: {"CreatePartitions", 6, 2, nowhere},
	42: {"DeleteGroups", 6, 2, nowhere}, 44: {"IncrementalAlterConfigs", 4, 1, nowhere}, 47: {"OffsetDelete", 3, 0, nowhere}, 60: {"DescribeCluster", 6, 0, nowhere},
	61: {"DescribeProducers", 4, 0, nowhere}, 65: {"DescribeTransactions", 4, 0, nowhere}, 66: {"ListTransactions", 5, 0, nowhere},
	68: {"ConsumerGroupHeartbeat", 5, 0, nowhere}, 69: {"ConsumerGroupDescribe", 5, 0, nowhere}, 71: {"GetTelemetrySubscriptions", 4, 0, nowhere},
	72: {"PushTelemetry", 4, 0, nowhere}, 75: {"DescribeTopicPartitions", 4, 0, nowhere},
}

// head is a request's header.
type head struct {
	size        int
	key         int16
	version     int16
	correlation int32
	body        []byte // what is there of what follows
}

// readHead reads the header of a request whose size comes first; ok is false for what is none.
func readHead(b []byte) (h head, ok bool) {
	c := cursor{b: b}
	h.size, h.key, h.version, h.correlation = int(c.i32()), c.i16(), c.i16(), c.i32()
	a, known := apis[h.key]
	if c.bad || !known || h.size < 8 || h.size > maxSize || h.version < 0 || h.version > a.max || h.correlation < 0 {
		return h, false
	}
	id := c.bytes(int(c.i16()))
	for _, r := range id {
		if r < ' ' || r > '~' {
			return h, false
		}
	}
	if a.flexible > 0 && h.version >= a.flexible || h.key == keyAPIVersions && h.version >= 3 {
		c.tags()
	}
	h.body = c.b
	return h, !c.bad
}

func detect(s l7.Side, b []byte, begins bool) l7.Match {
	if s != l7.Client || len(b) > 0 && b[0] > 0x10 {
		return l7.No
	}
	if len(b) < 14 {
		return l7.Unsure
	}
	named := int16(binary.BigEndian.Uint16(b[12:]))
	if named < 1 || named > 255 { // a client that does not say its name is told from other protocols by nothing
		return l7.No
	}
	// With the first byte of what may come behind it.
	if len(b) < min(14+int(named)+1, sizeField+int(binary.BigEndian.Uint32(b))) {
		return l7.Unsure
	}
	h, ok := readHead(b)
	if !ok || h.correlation > 1<<20 && begins || h.size < 10+int(named) {
		return l7.No
	}
	return l7.Yes
}

type call struct {
	l7.Ask
	head
}

type parser struct {
	emit    l7.Emit
	counts  *l7.Counts
	calls   []call
	current *call // whose answer is passing
	good    bool
}

// Parse implements l7.Parser.
func (p *parser) Parse(s l7.Side, b []byte, t uint64) l7.Step {
	if s == l7.Server && p.current != nil {
		p.finish(t)
	}
	if len(b) < sizeField+4 {
		return l7.Step{}
	}
	size := int(int32(binary.BigEndian.Uint32(b)))
	most := maxHead
	if s == l7.Server {
		most = maxAnswer
	}
	if size < 4 || size > maxSize {
		return p.broken()
	}
	want := sizeField + min(size, most)
	if len(b) < want {
		return l7.Step{}
	}
	var next l7.Next
	if s == l7.Client {
		next = p.ask(b[:want], t)
	} else {
		next = p.answer(b[sizeField:want], t)
	}
	if next != l7.More {
		return l7.Step{Next: next}
	}
	step := l7.Step{Use: want, Skip: uint64(sizeField + size - want)}
	if step.Skip == 0 && p.current != nil && s == l7.Server {
		p.finish(t)
	}
	return step
}

func (p *parser) broken() l7.Step {
	if p.good {
		p.calls = nil
		return l7.Step{Next: l7.Unplaced}
	}
	return l7.Step{Next: l7.Wrong}
}

// ask takes a request.
func (p *parser) ask(b []byte, t uint64) l7.Next {
	h, ok := readHead(b)
	if !ok {
		return p.broken().Next
	}
	r := &model.Request{Protocol: "kafka", Version: "v" + strconv.Itoa(int(h.version)), Method: apis[h.key].name}
	acks := int16(1)
	switch h.key {
	case keyProduce:
		acks, r.Resource = produceTopic(h)
	case keyFetch:
		r.Resource = fetchTopic(h)
	}
	h.body = nil
	if acks == 0 { // the broker does not answer
		p.emit(r, t)
		return l7.More
	}
	if len(p.calls) >= l7.MaxPending {
		p.counts.Crowded++
		p.calls = append(p.calls[:0], p.calls[1:]...)
	}
	p.calls = append(p.calls, call{l7.Ask{Request: r, At: t}, h})
	return l7.More
}

// answer takes an answer, from its correlation number on.
func (p *parser) answer(b []byte, t uint64) l7.Next {
	c := cursor{b: b}
	id := c.i32()
	for i := range p.calls {
		if p.calls[i].correlation != id {
			continue
		}
		k := p.calls[i]
		p.calls = p.calls[i+1:] // a broker answers in order: those before were missed
		k.Answered(t)
		if code := errorOf(k.head, &c); code != 0 {
			k.Failed, k.StatusText = true, errorName(code)
		}
		p.current = &k
		return l7.More
	}
	if !p.good && len(p.calls) > 0 {
		return l7.Wrong
	}
	return l7.More // asked for before the connection was looked at
}

// finish gives out the call whose answer has passed.
func (p *parser) finish(t uint64) {
	k := p.current
	p.current, p.good = nil, true
	k.Ended(t)
	p.emit(k.Request, t)
}

// Lost implements l7.Parser. Answers name what they answer, so that nothing is mistaken afterwards.
func (p *parser) Lost(s l7.Side) bool {
	if s == l7.Server && p.current != nil {
		k := p.current
		p.current, p.good = nil, true
		p.emit(k.Request, k.At+uint64(k.Latency))
	}
	return true
}

// Close implements l7.Parser.
func (p *parser) Close(t uint64) {
	if p.current != nil {
		p.Lost(l7.Server)
	}
	for _, k := range p.calls {
		if p.good {
			k.NoAnswer = true
			k.Ended(t)
			p.emit(k.Request, t)
		}
	}
	p.calls = nil
}
