// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// The defaults of Options.
const (
	DefaultMaxFlows    = 1 << 18 // as many as the kernel side remembers of accepted connections; about 500 bytes each
	DefaultFirstReport = 2 * time.Second
	DefaultInterval    = 30 * time.Second
	DefaultIdle        = 60 * time.Second
	DefaultEchoIdle    = 10 * time.Second
)

// How long what has ended waits for what is still to be said of it: the other end's accept and close, the policy that denied
// it. Records of different processors come in a different order than they happened, by milliseconds.
const (
	grace      = 300 * time.Millisecond
	localGrace = 10 * time.Second    // where the other end is on this host: its process may be slow to accept
	muteGrace  = 5 * time.Second / 2 // longer than from one reading of the kernel side (Talk) to the next
	// An audited connect is decided when it is established or given up, which the kernel's retries can put off this long.
	auditGrace = 150 * time.Second
)

// Options configure a Table. Zero durations and sizes take the defaults.
type Options struct {
	// MaxFlows is how many conversations are followed at once. Beyond it they are reported at their end alone, each end for
	// itself, and counted as lost.
	MaxFlows int
	// FirstReport is after how long a conversation is reported that still goes on, Interval how often from then on.
	FirstReport, Interval time.Duration
	// Idle is after how long of silence a conversation without connection has ended; EchoIdle the same of ICMP.
	Idle, EchoIdle time.Duration
	Losses         *pipeline.Losses
	// Wall converts nanoseconds since boot to wall-clock time.
	Wall func(boot uint64) time.Time
	// Current is the process image of a key as it is known now, or nil: its workload may have got its name meanwhile.
	Current func(model.ProcessKey) *model.Process
	// Translated tells how the addresses of an outbound conversation by TCP or UDP were translated, from those that its socket
	// has; may be nil. Of a connection an answer is given once.
	Translated func(cookie uint64, protocol string, local, remote netip.AddrPort) (Translation, bool)
}

// Translation is what stands behind the address of a connection. Either Asked is set or the other two.
type Translation struct {
	Asked               netip.AddrPort // as connect was given it, where the socket got another one
	Source, Destination netip.AddrPort // of the packets that arrive
}

// Table follows conversations. See, Talk and Flush are called from one goroutine; everything else from any.
type Table struct {
	options Options
	full    *pipeline.Counter

	mu     sync.Mutex
	ids    uint64
	open   int
	index  map[key]*conversation
	local  map[[16]byte]struct{} // addresses that sockets of this host had
	young  queue                 // not reported yet
	older  queue
	ending queue // ended, waiting out the grace
	ended  queue // the same of those whose other end is on this host
	mute   queue // the same of those without connection, of which the kernel side may have more to say
	audits queue // what a policy would have denied, and that is not decided yet
	asked  map[attempt]*conversation
	// translated are open conversations whose source's socket has other addresses than the key, by these.
	translated map[asked]*conversation
	// closing are cookies of UDP sockets that were closed, and when: what the kernel side still counts of them has ended.
	closing map[uint64]uint64
	done    []*model.Event // to be given out by the next Flush
}

// maxLocal bounds the addresses of this host that are remembered. One that is not costs a shorter wait for the other end.
const maxLocal = 4096

// New returns an empty table.
func New(o Options) *Table {
	if o.MaxFlows <= 0 {
		o.MaxFlows = DefaultMaxFlows
	}
	if o.FirstReport <= 0 {
		o.FirstReport = DefaultFirstReport
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Idle <= 0 {
		o.Idle = DefaultIdle
	}
	if o.EchoIdle <= 0 {
		o.EchoIdle = DefaultEchoIdle
	}
	if o.Translated == nil {
		o.Translated = func(uint64, string, netip.AddrPort, netip.AddrPort) (Translation, bool) { return Translation{}, false }
	}
	if o.Current == nil {
		o.Current = func(model.ProcessKey) *model.Process { return nil }
	}
	return &Table{options: o, full: o.Losses.Counter("flow", "table full"), index: make(map[key]*conversation),
		local: make(map[[16]byte]struct{}), asked: make(map[attempt]*conversation),
		translated: make(map[asked]*conversation), closing: make(map[uint64]uint64)}
}

// See takes in an enriched event. Those that are not about conversations pass.
func (t *Table) See(ev *model.Event) {
	switch ev.Type {
	case model.TypeConnect, model.TypeAccept, model.TypeClose, model.TypeListen:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.socket(ev)
	case model.TypeVerdict:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.judged(ev)
	}
}

func (t *Table) socket(ev *model.Event) {
	s := ev.Socket
	if s.Protocol == "unix" {
		return
	}
	t.learn(placeOf(s.Local))
	if ev.Type == model.TypeClose && s.Protocol == "udp" && s.Cookie != 0 {
		t.closing[s.Cookie] = ev.BootTime
	}
	k, at, ok := keyOf(s)
	if !ok {
		return
	}
	switch {
	case ev.Type == model.TypeClose:
		t.closed(ev, k, at)
	case ev.Type == model.TypeConnect && s.Error != 0:
		t.failed(ev, k)
	default:
		t.begun(ev, k, at)
	}
}

// learn remembers an address of this host.
func (t *Table) learn(p place) {
	if p.any() || p.loopback() || len(t.local) >= maxLocal {
		return
	}
	t.local[p.addr] = struct{}{}
}

func (t *Table) isLocal(p place) bool {
	_, ok := t.local[p.addr]
	return ok || p.loopback()
}
