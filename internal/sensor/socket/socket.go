// SPDX-License-Identifier: Apache-2.0

// Package socket is the socket sensor: connect, accept, listen and close for TCP and UDP over IPv4 and IPv6, and
// connect, accept and listen for unix stream and seqpacket sockets. In: the records of socket.bpf.c, and the
// sockets that were open before. Out: events with a model.Socket. It shares the map vg_socks (bpf/sock.h), which holds who
// owns a socket, with the sensors that are started after it.
package socket

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor"
)

// Options configure the sensor.
type Options struct {
	Losses *pipeline.Losses // may be nil
	// NoFlows leaves out what is counted for flows alone: Counters, Talks and Translated have nothing to tell.
	NoFlows bool
}

// Sensor is the socket sensor.
type Sensor struct {
	objs    bpfObjects
	noFlows bool
	byFiles bool   // counters are read by way of processes' files: iterators over storage are forbidden
	noUDP   string // why UDP is not seen; empty when it is
	// What sees the translation of others' packets; nil when nothing does.
	translate *translateObjects
	lost      *pipeline.Counter // conversations for which the kernel side had no room; may be nil

	asking sync.Mutex // Counters runs once at a time
	keys   []bpfVgTalkKey
	talks  []bpfVgTalk
}

// New returns the sensor; Start loads it.
func New(o Options) *Sensor {
	s := &Sensor{noFlows: o.NoFlows}
	if o.Losses != nil {
		s.lost = o.Losses.Counter("kernel", "talk table full")
	}
	return s
}

// Name implements sensor.Sensor.
func (s *Sensor) Name() string { return "socket" }

// Rung implements sensor.Sensor.
func (s *Sensor) Rung() string {
	tcp := "tp_btf inet_sock_set_state + sys_exit"
	if s.byFiles {
		tcp += " + iter/task_file for counters (iterators over socket storage are forbidden: MPTCP is counted when it ends)"
	}
	if s.noUDP != "" {
		return tcp + " (no owners and counters of UDP: " + s.noUDP + ")"
	}
	udp := tcp + " + cgroup sock_addr, sock_release and skb for UDP"
	switch {
	case s.noFlows:
		return udp
	case s.translate == nil:
		return udp + " (no addresses that are translated outside of a socket's network namespace: netfilter programs, Linux 6.4)"
	}
	return udp + " + netfilter for translated addresses"
}

// Start implements sensor.Sensor. Without cgroup v2 the sensor runs and does without what needs it; Rung says so.
func (s *Sensor) Start(_ context.Context, h *kernel.Host) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	if s.byFiles = !storageIterates(); s.byFiles {
		spec.Programs["vg_flow_counters"] = spec.Programs["vg_flow_files"].Copy()
	}
	if err := h.Load(s.Name(), spec, map[string]any{"vg_nr_connect": uint32(unix.SYS_CONNECT), "vg_flows": !s.noFlows}, &s.objs); err != nil {
		return err
	}
	h.Share("vg_socks", s.objs.VgSocks)
	if err := s.attachCgroup(h); err != nil {
		var unsupported *kernel.UnsupportedError
		if !errors.As(err, &unsupported) {
			return err
		}
		s.noUDP = unsupported.Cause
	}
	if err := s.registerCalls(h); err != nil {
		return err
	}
	if !s.noFlows {
		if err := h.AttachTracing(s.Name(), s.objs.VgSkError); err != nil {
			return err
		}
		if err := s.watchTranslation(h); err != nil {
			return err
		}
	}
	return h.AttachTracing(s.Name(), s.objs.VgTcp, s.objs.VgTcpNested)
}

func (s *Sensor) registerCalls(h *kernel.Host) error {
	for _, c := range []struct {
		prog    *ebpf.Program
		numbers []int
	}{
		{s.objs.VgExitConnect, []int{unix.SYS_CONNECT}},
		{s.objs.VgExitAccept, []int{unix.SYS_ACCEPT, unix.SYS_ACCEPT4}},
		{s.objs.VgExitListen, []int{unix.SYS_LISTEN}},
		{s.objs.VgExitBind, []int{unix.SYS_BIND}},
	} {
		if err := h.OnSyscall(s.Name(), c.prog, c.numbers...); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sensor) attachCgroup(h *kernel.Host) error {
	for _, c := range []struct {
		prog *ebpf.Program
		at   ebpf.AttachType
	}{
		{s.objs.VgSockCreate, ebpf.AttachCGroupInetSockCreate},
		{s.objs.VgSockRelease, ebpf.AttachCgroupInetSockRelease},
		{s.objs.VgBind4, ebpf.AttachCGroupInet4Bind},
		{s.objs.VgBind6, ebpf.AttachCGroupInet6Bind},
		{s.objs.VgConnect4, ebpf.AttachCGroupInet4Connect},
		{s.objs.VgConnect6, ebpf.AttachCGroupInet6Connect},
		{s.objs.VgSendmsg4, ebpf.AttachCGroupUDP4Sendmsg},
		{s.objs.VgSendmsg6, ebpf.AttachCGroupUDP6Sendmsg},
	} {
		if err := h.AttachCgroup(s.Name(), c.prog, c.at); err != nil {
			return err
		}
	}
	return h.OnPackets(s.Name(), s.objs.VgEgress, s.objs.VgIngress)
}

// Inventory implements sensor.Inventory: listeners first, then connections.
func (s *Sensor) Inventory(_ context.Context, h *kernel.Host, fn func(kernel.Record) error) error {
	if err := h.Iterate(s.objs.VgInventoryListeners, fn); err != nil {
		return err
	}
	return h.Iterate(s.objs.VgInventoryConnections, fn)
}

// Decoders implements sensor.Sensor.
func (s *Sensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{
		kernel.RecordConnect: decodeConn,
		kernel.RecordAccept:  decodeConn,
		kernel.RecordListen:  decodeConn,
		kernel.RecordClose:   decodeClose,
	}
}
