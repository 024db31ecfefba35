// SPDX-License-Identifier: Apache-2.0

// Package dns is the sensor of DNS: each question that a process asks, with its answer. In: the messages that
// dns.bpf.c copies from the packets of those who ask, over UDP and TCP. Out: one event for each question,
// when its answer comes or when none came in time; and Names, which remembers from these events by which name a
// process asked for an address.
package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor"
)

// maxPorts is how many servers' ports the kernel compares with (VG_DNS_PORTS).
const maxPorts = 4

// Options configure the sensor.
type Options struct {
	// Ports are up to three ports of servers beside 53.
	Ports []uint16
	// Timeout is how long a question waits for its answer; 5 s when 0.
	Timeout time.Duration
	// Pending is how many questions can wait at once, the oldest giving way; 8192 when 0.
	Pending int
	// Losses counts messages that could not be understood and questions that gave way. May be nil.
	Losses *pipeline.Losses
}

// Sensor is the DNS sensor. Start it after the socket sensor, whose map says who owns a socket; without it
// the process is the one that was sending.
type Sensor struct {
	options Options
	objs    bpfObjects
	pending questions
	// ready are events beyond the first of a TCP segment, for the next Flush.
	ready []*model.Event

	malformed, split, unasked *pipeline.Counter
}

// New returns the sensor; Start loads it.
func New(o Options) *Sensor {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Pending == 0 {
		o.Pending = 8192
	}
	if o.Losses == nil {
		o.Losses = new(pipeline.Losses)
	}
	return &Sensor{
		options:   o,
		pending:   newQuestions(o.Pending, o.Losses.Counter("dns", "too many open questions")),
		malformed: o.Losses.Counter("dns", "malformed"),
		split:     o.Losses.Counter("dns", "message in more than one segment"),
		unasked:   o.Losses.Counter("dns", "answer without question"),
	}
}

// Name implements sensor.Sensor.
func (s *Sensor) Name() string { return "dns" }

// Rung implements sensor.Sensor.
func (s *Sensor) Rung() string { return "cgroup_skb" }

// Start implements sensor.Sensor.
func (s *Sensor) Start(_ context.Context, h *kernel.Host) error {
	if len(s.options.Ports) >= maxPorts {
		return fmt.Errorf("%d DNS ports beside 53 are more than the %d that packets are compared with", len(s.options.Ports), maxPorts-1)
	}
	ports := [maxPorts]uint16{kernel.NetworkOrder(53)}
	for i, p := range s.options.Ports {
		ports[i+1] = kernel.NetworkOrder(p)
	}
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	if err := h.Load(s.Name(), spec, map[string]any{"vg_dns_ports": ports}, &s.objs); err != nil {
		return err
	}
	return h.OnPackets(s.Name(), s.objs.VgDnsEgress, s.objs.VgDnsIngress)
}

// Decoders implements sensor.Sensor. The decoder keeps questions until their answers come.
func (s *Sensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{kernel.RecordDNS: s.decode}
}

// vg_dns.what (dns.bpf.c)
const (
	whatAnswer = 0x1
	whatTCP    = 0x2
)

func (s *Sensor) decode(r kernel.Record, ev *model.Event) (bool, error) {
	d, tail, err := kernel.View[bpfVgDns](r)
	if err != nil {
		return false, err
	}
	payload, _, err := kernel.Take(tail, int(d.Len))
	if err != nil {
		return false, err
	}
	p := newPacket(d, ev)
	if d.What&whatTCP == 0 {
		return s.message(p, payload, int(d.Total) > len(payload), ev), nil
	}
	return s.segment(p, payload, ev), nil
}

// segment takes the messages of a TCP segment apart, each with its length before it. A message that goes on in the
// next segment is told from its beginning; a segment that begins inside one says nothing that could be trusted.
func (s *Sensor) segment(p *packet, b []byte, ev *model.Event) (keep bool) {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		b = b[2:]
		cut := n > len(b)
		if cut {
			s.split.Add(1)
			n = len(b)
		}
		out := ev
		if keep {
			out = &model.Event{BootTime: ev.BootTime, Count: 1}
		}
		if s.message(p, b[:n], cut, out) {
			if keep {
				s.ready = append(s.ready, out)
			}
			keep = true
		}
		b = b[n:]
	}
	return keep
}

// message notes a question or fills ev from an answer.
func (s *Sensor) message(p *packet, b []byte, cut bool, ev *model.Event) bool {
	m, err := parse(b, cut)
	if err != nil || m.answer != p.answer {
		if !cut {
			s.malformed.Add(1)
		}
		return false
	}
	key := questionKey{cookie: p.cookie, client: p.client, id: m.id, qtype: m.qtype, name: m.name}
	if !m.answer {
		s.pending.add(&question{questionKey: key, packet: *p})
		return false
	}
	q := s.pending.take(key)
	if q == nil {
		s.unasked.Add(1)
		return false
	}
	q.fill(ev)
	if ev.Key.IsZero() {
		ev.Key, ev.TID = p.process, p.tid
	}
	ev.DNS.Server = p.server // as the process sees it, where the address was translated on the way
	ev.DNS.RCode, ev.DNS.Answers, ev.DNS.Truncated = rcodeName(m.rcode), m.answers, m.truncated
	if p.time > q.time {
		ev.DNS.Latency = time.Duration(p.time - q.time)
	}
	return true
}

// Flush implements sensor.Flusher: it gives out the questions that nobody answered in time, at the end all that
// are left.
func (s *Sensor) Flush(emit func(*model.Event), final bool) error {
	for _, ev := range s.ready {
		emit(ev)
	}
	s.ready = s.ready[:0]
	now, err := kernel.BootTime()
	if err != nil {
		return err
	}
	for {
		q := s.pending.oldest()
		if q == nil || (!final && q.time+uint64(s.options.Timeout) > now) {
			return nil
		}
		s.pending.take(q.questionKey)
		ev := &model.Event{BootTime: now, Count: 1}
		q.fill(ev)
		ev.DNS.Timeout = true
		emit(ev)
	}
}
