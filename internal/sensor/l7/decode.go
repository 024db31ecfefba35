// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/model"
)

// vg_l7.flags (conn.h)
const (
	flagSent   = 0x1
	flagBegins = 0x2
	flagClosed = 0x4
	flagFile   = 0x8
)

// conn is one connection as one of its ends sees it.
type conn struct {
	*l7.Conn
	process       model.ProcessKey // who moved bytes last
	tid           uint32
	local, remote netip.AddrPort
	netns         uint32
	source        uint8
	last          uint64 // when there was a record of it
}

// found is a request that is complete.
type found struct {
	request *model.Request
	at      uint64
}

func (s *Sensor) decode(r kernel.Record, ev *model.Event) (bool, error) {
	v, tail, err := kernel.View[bpfVgL7](r)
	if err != nil {
		return false, err
	}
	data, _, err := kernel.Take(tail, int(v.Len))
	if err != nil {
		return false, err
	}
	if v.Flags&flagFile != 0 {
		s.libraries.notice(notice{pid: v.H.Pid, inode: v.Conn, device: v.Netns})
		return false, nil
	}
	c := s.conns[v.Conn]
	if c != nil && c.source != v.Source {
		c.Close(ev.BootTime) // what was heard so far was what the library made of it
		c = nil
	}
	if c == nil {
		if v.Flags&flagClosed != 0 {
			return false, nil
		}
		if c = s.meet(v); c == nil {
			s.losses.full.Add(1)
			return false, nil
		}
	}
	if !ev.Key.IsZero() {
		c.process, c.tid = ev.Key, ev.TID
	}
	c.last = ev.BootTime
	err = c.hear(v, data)
	if v.Flags&flagClosed != 0 {
		delete(s.conns, v.Conn)
	}
	keep := s.give(v.Conn, c, ev)
	if (c.State() == l7.Ignored || err != nil) && v.Flags&flagClosed == 0 {
		err = errors.Join(err, s.ignore(v.Conn, c.source))
	}
	return keep, err
}

// hear passes a record on to the connection. What is said there is anybody's: a parser that fails on it costs this connection,
// and not the agent.
func (c *conn) hear(v *bpfVgL7, data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parse what is said in %s: %v", c.Protocol(), p)
		}
	}()
	// In the order in which the two happened.
	first, second := 0, 1
	if v.At[1] < v.At[0] {
		first, second = 1, 0
	}
	for _, dir := range [...]int{first, second} {
		if v.At[dir] != 0 {
			c.Passed(dir == 1, v.End[dir], v.At[dir])
		}
	}
	if v.Flags&flagClosed != 0 {
		c.Close(v.H.Time)
		return nil
	}
	c.Feed(l7.Chunk{Time: v.H.Time, Sent: v.Flags&flagSent != 0, Begins: v.Flags&flagBegins != 0, Pos: v.Pos, Data: data, Size: int(v.Size)})
	return nil
}

// meet begins to follow a connection; nil when there are too many.
func (s *Sensor) meet(v *bpfVgL7) *conn {
	if len(s.conns) >= s.options.Connections {
		return nil
	}
	c := &conn{local: kernel.AddrPortIfAny(v.Local, v.LocalPort), remote: kernel.AddrPortIfAny(v.Remote, v.RemotePort), netns: v.Netns, source: v.Source}
	c.Conn = l7.NewConn(s.protocols, &s.counts, func(r *model.Request, t uint64) { s.found = append(s.found, found{r, t}) })
	s.conns[v.Conn] = c
	return c
}

// give makes events of what was found: the first in ev, the others for the next Flush.
func (s *Sensor) give(cookie uint64, c *conn, ev *model.Event) (keep bool) {
	for i, f := range s.found {
		out := ev
		if i > 0 {
			out = &model.Event{BootTime: f.at, Count: 1}
			s.ready = append(s.ready, out)
		}
		c.fill(cookie, f.request, out)
		keep = true
	}
	clear(s.found)
	s.found = s.found[:0]
	return keep
}

// fill makes an event of a request of the connection.
func (c *conn) fill(cookie uint64, r *model.Request, ev *model.Event) {
	r.Role, r.TLS = c.Role(), library(c.source)
	r.Local, r.Remote, r.NetNS = c.local, c.remote, c.netns
	if c.local.IsValid() {
		r.Cookie = cookie
	}
	ev.Type, ev.Request = model.TypeRequest, r
	ev.Key, ev.TID = c.process, c.tid
}

// ignore has the kernel tell no more of a connection, as long as it hears of it from the same source.
func (s *Sensor) ignore(key uint64, source uint8) error {
	delete(s.conns, key)
	if err := s.objs.VgL7Useless.Put(key, uint32(source)); err != nil {
		return fmt.Errorf("have a connection ignored: %w", err)
	}
	return nil
}

// idle is how long a connection may be silent before the kernel is asked whether it is still there.
const idle = uint64(time.Minute)

// Flush implements sensor.Flusher. It also looks how far bodies have come that the kernel does not report.
func (s *Sensor) Flush(emit func(*model.Event), final bool) error {
	now, err := kernel.BootTime()
	if err != nil {
		return err
	}
	s.release(emit)
	for key, c := range s.conns {
		if !final && !c.Waits() && c.last+idle > now {
			continue
		}
		var k bpfVgL7Conn
		err := s.objs.VgL7Conns.Lookup(key, &k)
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			c.Close(now) // its end was not seen
			delete(s.conns, key)
		case err != nil:
			return fmt.Errorf("look at a connection: %w", err)
		default:
			c.Passed(false, k.End[0], k.At[0])
			c.Passed(true, k.End[1], k.At[1])
		}
		ev := &model.Event{BootTime: now, Count: 1}
		if s.give(key, c, ev) {
			emit(ev)
		}
	}
	s.release(emit)
	s.report()
	return s.options.Choice.refresh()
}

// release gives out what was found beyond one a record.
func (s *Sensor) release(emit func(*model.Event)) {
	for _, ev := range s.ready {
		emit(ev)
	}
	clear(s.ready)
	s.ready = s.ready[:0]
}

// library names what handed the bytes over; empty for the system calls themselves.
func library(source uint8) string {
	switch bpfVgL7Source(source) {
	case bpfVgL7SourceVG_L7OPENSSL:
		return "openssl"
	case bpfVgL7SourceVG_L7GNUTLS:
		return "gnutls"
	case bpfVgL7SourceVG_L7GO:
		return "go"
	}
	return ""
}
