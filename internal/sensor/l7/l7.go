// SPDX-License-Identifier: Apache-2.0

// Package l7 is the sensor of requests: what the processes of chosen workloads ask of each other by HTTP, gRPC, PostgreSQL,
// MySQL, Redis and Kafka. In: the first bytes of what is said on TCP connections, in the clear or as TLS libraries
// hand it over, from l7.bpf.c. Out: one event for each request with its answer. What is said goes no further than this package's
// decoder, which gives it to internal/l7 and forgets it: that redacts.
package l7

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/protocols"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor"
)

// Options configure the sensor.
type Options struct {
	// Choice says which processes are listened to; nobody when nil.
	Choice *Choice
	// Prefix is how many bytes of what one side says in a row are looked at, at most 4096; 1024 when 0.
	Prefix int
	// Connections is how many are followed at once; 16,384 when 0.
	Connections int
	Log         *slog.Logger // nil: silent
	// Losses counts what did not become requests. May be nil.
	Losses *pipeline.Losses
}

// Sensor is the sensor of requests.
type Sensor struct {
	options   Options
	objs      bpfObjects
	protocols []l7.Protocol
	conns     map[uint64]*conn
	libraries *libraries
	ready     []*model.Event // those beyond the first of a record, for the next Flush
	found     []found        // by the record that is being decoded

	self      uint32 // the agent's own pid: it does not listen to itself
	counts    l7.Counts
	strangers atomic.Uint64 // counts.Unrecognised, for who asks
	losses    losses
}

// New returns the sensor; Start loads it.
func New(o Options) *Sensor {
	if o.Prefix == 0 {
		o.Prefix = 1024
	}
	if o.Connections == 0 {
		o.Connections = 16384
	}
	if o.Losses == nil {
		o.Losses = new(pipeline.Losses)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Sensor{options: o, self: uint32(os.Getpid()), protocols: protocols.All(), conns: make(map[uint64]*conn), losses: newLosses(o.Losses)}
}

// Name implements sensor.Sensor.
func (s *Sensor) Name() string { return "l7" }

// Rung implements sensor.Sensor.
func (s *Sensor) Rung() string {
	const hooks = "sys_exit + uprobe"
	if n := s.strangers.Load(); n > 0 {
		return fmt.Sprintf("%s (%d connections spoke no protocol that is known)", hooks, n)
	}
	return hooks
}

// Off implements sensor.Optional.
func (s *Sensor) Off() string {
	if s.options.Choice == nil {
		return "no workload was chosen: vigie run --l7 says which"
	}
	return ""
}

// Start implements sensor.Sensor.
func (s *Sensor) Start(ctx context.Context, h *kernel.Host) error {
	if s.options.Prefix < 64 || s.options.Prefix > maxPrefix {
		return fmt.Errorf("a prefix of %d bytes is outside 64 to %d", s.options.Prefix, maxPrefix)
	}
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	vars := map[string]any{"vg_l7_everybody": s.options.Choice.Everybody(), "vg_l7_self": s.self, "vg_l7_prefix": uint32(s.options.Prefix)}
	if err := h.Load(s.Name(), spec, vars, &s.objs); err != nil {
		return err
	}
	if err := s.options.Choice.enforce(s.objs.VgL7Processes, s.objs.VgL7Cgroups); err != nil {
		return err
	}
	if err := h.AttachTracing(s.Name(), s.objs.VgL7Closed); err != nil {
		return err
	}
	for _, c := range []struct {
		prog    *ebpf.Program
		numbers []int
	}{
		{s.objs.VgL7Read, []int{unix.SYS_READ}},
		{s.objs.VgL7Recvfrom, []int{unix.SYS_RECVFROM}},
		{s.objs.VgL7Write, []int{unix.SYS_WRITE, unix.SYS_SENDTO}},
		{s.objs.VgL7Readv, []int{unix.SYS_READV}},
		{s.objs.VgL7Writev, []int{unix.SYS_WRITEV}},
		{s.objs.VgL7Recvmsg, []int{unix.SYS_RECVMSG}},
		{s.objs.VgL7Sendmsg, []int{unix.SYS_SENDMSG}},
		{s.objs.VgL7Sendfile, []int{unix.SYS_SENDFILE}},
		{s.objs.VgL7Splice, []int{unix.SYS_SPLICE}},
	} {
		if err := h.OnSyscall(s.Name(), c.prog, c.numbers...); err != nil {
			return err
		}
	}
	if err := h.AttachTracing(s.Name(), s.objs.VgL7Exec); err != nil {
		return err
	}
	if err := h.OnSyscall(s.Name(), s.objs.VgL7Mmap, unix.SYS_MMAP); err != nil {
		return err
	}
	s.libraries = newLibraries(&s.objs, s.options.Log, s.options.Losses)
	for name, p := range map[string]*ebpf.Program{"vg_l7_enter": s.objs.VgL7Enter, "vg_l7_leave": s.objs.VgL7Leave, "vg_l7_free": s.objs.VgL7Free} {
		h.Account(s.Name(), name, p)
	}
	h.OnClose(s.libraries)
	s.libraries.start(ctx)
	return nil
}

// maxPrefix is the kernel's VG_L7_MAX.
const maxPrefix = 4096

// Decoders implements sensor.Sensor. The decoder keeps requests until their answers come.
func (s *Sensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{kernel.RecordL7: s.decode}
}

// losses are the counters of what did not become requests.
type losses struct {
	wrong, gaps, gone, crowded, full *pipeline.Counter
}

func newLosses(l *pipeline.Losses) losses {
	return losses{
		wrong:   l.Counter("l7", "protocol guessed wrong"),
		gaps:    l.Counter("l7", "message beyond what is captured"),
		gone:    l.Counter("l7", "connection no longer understood"),
		crowded: l.Counter("l7", "too many requests on a connection"),
		full:    l.Counter("l7", "too many connections"),
	}
}

// report brings the counters up to date.
func (s *Sensor) report() {
	s.strangers.Store(s.counts.Unrecognised)
	s.losses.wrong.Raise(s.counts.Wrong)
	s.losses.gaps.Raise(s.counts.Gaps)
	s.losses.gone.Raise(s.counts.Gone)
	s.losses.crowded.Raise(s.counts.Crowded)
}
