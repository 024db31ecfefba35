// SPDX-License-Identifier: Apache-2.0

// Package network carries policies about the network: connect, send, bind, listen, accept, and the sockets that go round
// these. In: tables (their Prefixes, Ports, Names, Peers), answers of name servers, where workloads listen. Out: refused
// calls, packets that are not delivered, connections that end, and verdicts in the security ring.
//
// It needs cgroup v2 and tp_btf, and no trampoline: what it refuses is refused before it happens on every kernel. The judging
// itself is network.h, which other programs can include.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
)

// Options are what the back-end is given.
type Options struct {
	Log    *slog.Logger
	Prober Prober
}

// Prober answers what the kernel can do; *probe.Prober does.
type Prober interface {
	Probe(ctx context.Context, names ...probe.Feature) ([]probe.Result, error)
}

// Backend implements enforce.Backend. Learn and SetPeers can be called beside its other methods, from any goroutine.
type Backend struct {
	options Options

	mu      sync.Mutex
	host    *kernel.Host
	kernel  enforce.Kernel
	objs    bpfObjects
	destroy *destroyPrograms          // nil where the kernel has no bpf_sock_destroy
	end     func([]bpfVgNetCut) error // ends sockets that were cut, of the calling thread's network namespace
	hooks   map[string]bool           // that are attached
	wanted  []enforce.Loaded
	tables  map[uint16]*table // that are in the maps
	peers   map[peersOf][]bpfVgNetPeerKey
	asked   map[asked]answered // by processes under policies or not
	swept   uint64             // boot time of the last look for expired names
	pass    uint32
	judged  bool // at the last Cut there were tables about the network
}

// New makes the back-end. Nothing is loaded before Attach is called with operations.
func New(o Options) *Backend {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Backend{options: o, hooks: make(map[string]bool), tables: make(map[uint16]*table), peers: make(map[peersOf][]bpfVgNetPeerKey),
		asked: make(map[asked]answered)}
}

const name = "network"

// Name implements enforce.Backend.
func (b *Backend) Name() string { return name }

// rung is how one operation is carried.
type rung struct {
	enforce.Carried
	needs []probe.Feature
}

func rungs(op model.Operation) (rung, bool) {
	carried := func(by string, needs []probe.Feature, limits ...string) (rung, bool) {
		return rung{enforce.Carried{Rung: by, Guarantee: model.DeniedBefore, Limits: limits}, needs}, true
	}
	switch op {
	case model.OpConnect:
		return carried("cgroup connect4/6", []probe.Feature{probe.Connect4, probe.Connect6})
	case model.OpSend:
		return carried("cgroup sendmsg4/6", []probe.Feature{probe.Sendmsg4, probe.Sendmsg6, probe.SKBEgress},
			"ICMP and SCTP have no hook of their own: their packets are dropped and the call succeeds")
	case model.OpBind:
		return carried("cgroup bind4/6", []probe.Feature{probe.Bind4, probe.Bind6})
	case model.OpListen:
		return carried("cgroup_skb ingress", []probe.Feature{probe.SKBIngress, probe.SKStorage, probe.TPSockState},
			"listen on a port that the kernel chose, and by SCTP on any, succeeds, and nothing that is sent to it arrives")
	case model.OpAccept:
		return carried("cgroup_skb ingress", []probe.Feature{probe.SKBIngress, probe.SKStorage},
			"who is refused gets no answer", "a policy that kills refuses only: who sends could else kill who listens")
	case model.OpSocket:
		return rung{enforce.Carried{Rung: "cgroup sock_create, sys_exit", Guarantee: model.KilledAfter, Limits: []string{
			"raw sockets of the internet's families are denied before they exist; packet, vsock and other ones kill before the call returns, and another thread that guesses the descriptor can use it until then",
			"sockets made by io_uring or a 32-bit call are only denied when they are of the internet's families"}},
			[]probe.Feature{probe.SockCreate, probe.TPSysExit, probe.SendSignal}}, true
	case model.OpReceive:
		return rung{enforce.Carried{Rung: "sys_exit", Guarantee: model.KilledAfter, Limits: []string{
			"the process runs no further instruction, but for another thread that guesses the descriptor; what io_uring or a 32-bit call receives is not seen"}},
			[]probe.Feature{probe.TPSysExit, probe.SendSignal}}, true
	}
	return rung{}, false
}

// Carries implements enforce.Backend.
func (b *Backend) Carries(op model.Operation) (enforce.Carried, error) {
	r, ok := rungs(op)
	if !ok {
		return enforce.Carried{}, enforce.ErrOtherOperations
	}
	if kernel.FindCgroup2() == "" {
		return enforce.Carried{}, errors.New("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with the unified hierarchy")
	}
	results, err := b.options.Prober.Probe(context.Background(), r.needs...)
	if err != nil {
		return enforce.Carried{}, fmt.Errorf("find out what the kernel can do: %w", err)
	}
	for _, result := range results {
		if !result.Works {
			return enforce.Carried{}, fmt.Errorf("%s: %s", result.Name, result.Cause)
		}
	}
	return r.Carried, nil
}

// Attach implements enforce.Backend. connect takes receive along: what a process may not connect to it may not be handed
// either.
func (b *Backend) Attach(_ context.Context, k enforce.Kernel, ops []model.Operation) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(ops) == 0 {
		return b.detach()
	}
	if b.host == nil {
		if err := b.load(k); err != nil {
			return err
		}
		if err := b.reload(); err != nil {
			return errors.Join(err, b.detach())
		}
	}
	var mask uint32
	for i, op := range model.Operations() {
		if slices.Contains(ops, op) || (op == model.OpReceive && slices.Contains(ops, model.OpConnect)) {
			mask |= 1 << i
		}
	}
	if err := b.objs.VgNetOps.Set(mask); err != nil {
		return kernel.Explain("say which operations are judged", err)
	}
	for _, h := range b.cgroupHooks() {
		if err := b.hook(h.prog, func() error { return b.host.AttachCgroup(name, h.prog, h.at) }); err != nil {
			return err
		}
	}
	if err := b.hook(b.objs.VgNetListens, func() error { return b.host.AttachTracing(name, b.objs.VgNetListens) }); err != nil {
		return err
	}
	for _, c := range b.calls() {
		if err := b.hook(c.prog, func() error { return b.host.OnSyscall(name, c.prog, c.number) }); err != nil {
			return err
		}
	}
	return b.attachKill()
}

type cgroupHook struct {
	prog *ebpf.Program
	at   ebpf.AttachType
}

func (b *Backend) cgroupHooks() []cgroupHook {
	o := &b.objs
	return []cgroupHook{
		{o.VgNetConnect4, ebpf.AttachCGroupInet4Connect}, {o.VgNetConnect6, ebpf.AttachCGroupInet6Connect},
		{o.VgNetSendmsg4, ebpf.AttachCGroupUDP4Sendmsg}, {o.VgNetSendmsg6, ebpf.AttachCGroupUDP6Sendmsg},
		{o.VgNetBind4, ebpf.AttachCGroupInet4Bind}, {o.VgNetBind6, ebpf.AttachCGroupInet6Bind},
		{o.VgNetSockCreate, ebpf.AttachCGroupInetSockCreate},
		{o.VgNetIngress, ebpf.AttachCGroupInetIngress}, {o.VgNetEgress, ebpf.AttachCGroupInetEgress},
	}
}

type call struct {
	prog   *ebpf.Program
	number int
}

func (b *Backend) calls() []call {
	o := &b.objs
	return []call{{o.VgNetExitSocket, unix.SYS_SOCKET}, {o.VgNetExitRecvmsg, unix.SYS_RECVMSG},
		{o.VgNetExitRecvmmsg, unix.SYS_RECVMMSG}, {o.VgNetExitGetfd, unix.SYS_PIDFD_GETFD}}
}

// hook attaches a program once.
func (b *Backend) hook(p *ebpf.Program, attach func() error) error {
	if b.hooks[p.String()] {
		return nil
	}
	if err := attach(); err != nil {
		return err
	}
	b.hooks[p.String()] = true
	return nil
}

// killer is the name of what kills, apart from the rest because it comes and goes with the tables that need it.
const killer = name + " kill"

// attachKill has the signal of policies that kill sent where a cgroup hook has refused: it cannot send one itself.
func (b *Backend) attachKill() error {
	needed := false
	for _, t := range b.tables {
		needed = needed || t.kills
	}
	p := b.objs.VgNetKill
	if needed == b.hooks[p.String()] {
		return nil
	}
	if needed {
		return b.hook(p, func() error { return b.host.AttachTracing(killer, p) })
	}
	delete(b.hooks, p.String())
	return b.host.Detach(killer)
}

// load loads the programs.
func (b *Backend) load(k enforce.Kernel) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	if err := k.Host.LoadBeside(name, spec, nil, &b.objs); err != nil {
		return err
	}
	k.Host.Share("vg_net_socks", b.objs.VgNetSocks)
	b.host, b.kernel = k.Host, k
	var destroy destroyPrograms // and so the maps that they use, not all that their headers name
	if spec, err = loadDestroy(); err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	if err := k.Host.LoadBeside(name+" destroy", spec, nil, &destroy); err != nil {
		b.options.Log.Info("connections are ended by sock_diag, not by bpf_sock_destroy", "reason", err)
		b.end = b.endByDiag
		return nil
	}
	b.destroy, b.end = &destroy, b.endByProgram
	return nil
}

// detach takes the hooks back. What is loaded stays, for the next policy.
func (b *Backend) detach() error {
	if b.host == nil {
		return nil
	}
	clear(b.hooks)
	if err := errors.Join(b.host.Detach(killer), b.host.Detach(name)); err != nil {
		return fmt.Errorf("take back the network's hooks: %w", err)
	}
	return nil
}

// Close implements enforce.Backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := []error{b.detach(), b.objs.Close()}
	if b.destroy != nil {
		errs = append(errs, b.destroy.Close())
	}
	b.host = nil
	return errors.Join(errs...)
}

// mapped is an address as the maps have it.
func mapped(a netip.Addr) [16]byte { return a.As16() }
