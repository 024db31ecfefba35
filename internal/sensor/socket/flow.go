// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

// Talk is a conversation without connection, as far as it has come: of a UDP socket that is not connected, or ICMP.
type Talk struct {
	// Owner is the process that made the socket; zero where the kernel itself answers.
	Owner model.ProcessKey
	// Protocol is udp, icmp or icmpv6.
	Protocol           string
	Local, Remote      netip.AddrPort
	Inbound            bool // the other end began
	Cookie             uint64
	NetNS              uint32
	First, Last        uint64 // ns since boot
	Counters           model.FlowCounters
	ICMPType, ICMPCode uint8
	Closed             bool // its socket is

	key bpfVgTalkKey
}

// Counters hands fn the sockets whose counters are due: those that have been connected or accepted for as long as first, and
// were not handed out for as long as interval; until they are a second older than first, each time. With an interval of 0 it is all of them, and nothing is remembered. The sockets
// are as a close event has them, their totals until now. Safe for concurrent use.
func (s *Sensor) Counters(h *kernel.Host, first, interval time.Duration, fn func(*model.Socket)) error {
	if s.noFlows || s.objs.VgFlowCounters == nil {
		return nil
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	now, err := kernel.BootTime()
	if err != nil {
		return err
	}
	ask := [3]uint64{now, uint64(first), uint64(interval)}
	if err := s.objs.VgFlowAsk.Set(ask); err != nil {
		return fmt.Errorf("ask for the counters of sockets: %w", err)
	}
	over := s.objs.VgSocks
	if s.byFiles {
		over = nil
	}
	return h.IterateMap(s.objs.VgFlowCounters, over, func(r kernel.Record) error {
		c, _, err := kernel.View[bpfVgClosed](r)
		if err != nil {
			return err
		}
		sock, err := closedSocket(c)
		if err != nil {
			return err
		}
		fn(sock)
		return nil
	})
}

// storageIterates reports whether the kernel lets an iterator over sockets' storage be loaded. Locked-down clouds forbid those over
// elements of maps, and no others.
func storageIterates() bool {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_sk_storage_map", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		return false
	}
	p.Close()
	return true
}

// talkBatch is how many conversations are read in one call.
const talkBatch = 1024

// Talks hands fn every conversation without connection that is known. Not safe for concurrent use.
func (s *Sensor) Talks(fn func(*Talk)) error {
	if s.noFlows || s.objs.VgTalks == nil || s.noUDP != "" {
		return nil
	}
	if lost, err := s.talksLost(); err != nil {
		return err
	} else if s.lost != nil {
		s.lost.Raise(lost)
	}
	if s.keys == nil {
		s.keys, s.talks = make([]bpfVgTalkKey, talkBatch), make([]bpfVgTalk, talkBatch)
	}
	var cursor ebpf.MapBatchCursor
	for {
		n, err := s.objs.VgTalks.BatchLookup(&cursor, s.keys, s.talks, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read conversations without connection: %w", err)
		}
		for i := range n {
			fn(talkOf(&s.keys[i], &s.talks[i]))
		}
		if err != nil {
			return nil
		}
	}
}

func (s *Sensor) talksLost() (n uint64, err error) {
	if err = s.objs.VgTalksLost.Get(&n); err != nil {
		return 0, fmt.Errorf("read how many conversations had no room: %w", err)
	}
	return n, nil
}

func talkOf(k *bpfVgTalkKey, v *bpfVgTalk) *Talk {
	t := &Talk{Owner: model.ProcessKey{PID: v.Owner.Pid, Start: v.Owner.Start, Exec: v.Owner.Exec}, Protocol: "udp",
		Local: kernel.AddrPort(v.Local, v.LocalPort), Remote: kernel.AddrPort(k.Remote, k.Port), Inbound: v.Inbound != 0, Cookie: k.Cookie,
		NetNS: k.Netns, First: v.First, Last: max(v.Last, v.First), ICMPType: v.IcmpType, ICMPCode: v.IcmpCode, Closed: v.Closed != 0,
		Counters: model.FlowCounters{BytesSent: v.BytesOut, BytesReceived: v.BytesIn, PacketsSent: v.PacketsOut, PacketsReceived: v.PacketsIn},
		key:      *k}
	switch k.Protocol {
	case 1:
		t.Protocol = "icmp"
	case 58:
		t.Protocol = "icmpv6"
	}
	return t
}

// Forget drops a conversation that was reported to its end; another packet begins another one.
func (s *Sensor) Forget(t *Talk) error {
	if err := s.objs.VgTalks.Delete(&t.key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget a conversation: %w", err)
	}
	return nil
}
