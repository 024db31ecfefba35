// SPDX-License-Identifier: Apache-2.0

// Package pods carries network policies of whole pods: Kubernetes' NetworkPolicy, ClusterNetworkPolicy, and Cilium's. In:
// policies, what is known of the cluster, and which cgroup is which pod's. Out: packets that do not arrive, and verdicts in
// the security ring.
//
// It needs cgroup v2, and netfilter programs (6.4) to judge services by the pod that a connection has been translated to. It
// stands beside whatever network the cluster has: nothing is routed, translated or marked by it.
package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

// Options configure an Enforcer.
type Options struct {
	Log    *slog.Logger
	Losses *pipeline.Losses
	Host   *kernel.Host
	// InHost runs something in the network namespace of the node, on a thread of its own; nil: this process is in it.
	InHost func(func() error) error
	// PinDir is a directory of bpffs, or one that is to be, for policies that outlive the agent; empty: they do not.
	PinDir string
}

// State is what is to be in force.
type State struct {
	Policies []*netpol.Policy
	Cluster  *netpol.Cluster
	// Cgroups are those of this node's pods, by their number in cgroup v2, and those above them.
	Cgroups map[uint64]Cgroup
}

// Cgroup says what a cgroup is.
type Cgroup struct {
	// Parent: pods' cgroups lie below it. One below that is in no State is held: nothing passes until it is known.
	Parent bool
	Pod    *model.Pod // nil for a parent, and for a pod that is not known yet
}

// Enforcer puts network policies in force. Nothing is attached before the first.
type Enforcer struct {
	options Options

	mu         sync.Mutex
	compiler   *netpol.Compiler
	world      *netpol.World
	state      State // that is in force
	objs       bpfObjects
	forward    *forwardObjects // nil: not possible here
	why        error           // it is not
	loaded     bool
	attached   bool
	switched   time.Time // when the generation was raised last
	in         inForce
	classes    map[*model.Pod]*netpol.Class // of the world
	tables     map[*netpol.Table]*table
	next       uint32            // number of a table
	hits       map[string]uint64 // of tables that are gone, by rule
	started    uint64            // boot time
	netns      uint32            // inode number of the node\'s network namespace
	learned    names
	domains    atomic.Bool // some table has rules about names
	forVerdict atomic.Pointer[known]
}

// known is what verdicts name.
type known struct {
	tables map[uint32]*netpol.Table
	pods   map[uint64]*model.Pod
}

// inForce is what the maps hold.
type inForce struct {
	generation uint32
	pods       map[uint64]bpfVgNpPod
	addrs      map[netip.Addr]address
	local      map[netip.Addr]uint64
	services   map[bpfVgNpServiceKey]service
}

// address is an entry of an address, and whose it is.
type address struct {
	bpfVgNpAddr
	uid string // of the pod; empty for nodes and others
}

// service is an entry of a service, and what stands behind it.
type service struct {
	bpfVgNpService
	endpoints []netip.AddrPort
}

// New makes an Enforcer. Close it.
func New(o Options) *Enforcer {
	if o.InHost == nil {
		o.InHost = func(fn func() error) error { return fn() }
	}
	e := &Enforcer{options: o, compiler: netpol.NewCompiler(), tables: make(map[*netpol.Table]*table), hits: make(map[string]uint64),
		in: inForce{pods: map[uint64]bpfVgNpPod{}, addrs: map[netip.Addr]address{}, local: map[netip.Addr]uint64{}, services: map[bpfVgNpServiceKey]service{}}}
	e.started, _ = kernel.BootTime()
	e.forVerdict.Store(&known{})
	return e
}

// name is what this calls itself among those that load programs.
const name = "pods"

// Apply puts a state in force. What a change of policies changes, it changes at one moment: each conversation is judged by
// the policies before or by those after. On an error what was in force before still is.
func (e *Enforcer) Apply(ctx context.Context, s State) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(s.Policies) == 0 {
		return e.stop()
	}
	if err := e.load(); err != nil {
		return err
	}
	if err := e.settle(ctx); err != nil {
		return err
	}
	world, fresh := e.world, false
	if world == nil || !slices.Equal(s.Policies, e.state.Policies) || !slices.Equal(s.Cluster.Namespaces, e.state.Cluster.Namespaces) {
		world, fresh = e.compiler.World(s.Policies, s.Cluster.Namespaces), true
	}
	next, err := e.plan(world, fresh, &s)
	if err != nil {
		return err
	}
	if err := e.write(next); err != nil {
		return err
	}
	if err := e.attach(); err != nil {
		return err
	}
	e.world, e.classes, e.state = world, next.classes, s
	world.Retire()
	return errors.Join(e.prune(next), e.teachAll())
}

// plan is everything that a state needs, compiled.
type plan struct {
	pods     map[uint64]podTables
	addrs    map[netip.Addr]*netpol.Class
	flags    map[netip.Addr]uint32
	uids     map[netip.Addr]string
	local    map[netip.Addr]uint64
	services map[bpfVgNpServiceKey][]netip.AddrPort
	classes  map[*model.Pod]*netpol.Class
	every    map[uint32]*netpol.Class // by number
	names    map[uint64]*model.Pod
}

type podTables struct {
	kind            bpfVgNpKind
	enforced, audit *netpol.Table
}

func (e *Enforcer) plan(w *netpol.World, fresh bool, s *State) (*plan, error) {
	c := s.Cluster
	p := &plan{pods: make(map[uint64]podTables, len(s.Cgroups)), addrs: make(map[netip.Addr]*netpol.Class, len(c.Pods)),
		flags: make(map[netip.Addr]uint32), uids: make(map[netip.Addr]string, len(c.Pods)), local: make(map[netip.Addr]uint64),
		classes: make(map[*model.Pod]*netpol.Class, len(c.Pods)), every: make(map[uint32]*netpol.Class), names: make(map[uint64]*model.Pod)}
	var errs []error
	for id, g := range s.Cgroups {
		t := podTables{kind: bpfVgNpKindVG_NP_HELD}
		switch {
		case g.Parent:
			t.kind = bpfVgNpKindVG_NP_PARENT
		case g.Pod == nil:
		case g.Pod.HostNetwork:
			t.kind = bpfVgNpKindVG_NP_FREE
		default:
			var err error
			t.kind = bpfVgNpKindVG_NP_POD
			if t.enforced, t.audit, err = w.Tables(g.Pod); err != nil {
				errs = append(errs, fmt.Errorf("pod %s/%s: %w", g.Pod.Namespace, g.Pod.Name, err))
			}
			p.names[id] = g.Pod
			for _, a := range g.Pod.Addresses {
				p.local[a] = id
			}
		}
		p.pods[id] = t
	}
	e.planAddresses(w, fresh, c, p)
	p.services = services(c)
	return p, errors.Join(errs...)
}

// planAddresses says whose each address is: a pod's before a node's, and a pod's that runs before that of one that has ended.
func (e *Enforcer) planAddresses(w *netpol.World, fresh bool, c *netpol.Cluster, p *plan) {
	server := make(map[netip.Addr]bool)
	service := make(map[netip.Addr]bool)
	for _, s := range c.Services {
		for _, a := range s.Addresses {
			service[a] = true
		}
		if s.Namespace != "default" || s.Name != "kubernetes" {
			continue
		}
		for _, port := range s.Ports {
			for _, to := range port.Endpoints {
				server[to.Addr()] = true
				p.addrs[to.Addr()] = w.Outside(true)
			}
		}
	}
	for _, a := range c.Host {
		if service[a] {
			continue // IPVS has services' addresses on a device of the node
		}
		p.addrs[a], p.flags[a] = w.ClassOfNode(nil, true, server[a]), hostFlag
	}
	for _, n := range c.Nodes {
		own := n.Name == c.Node
		for _, a := range n.Addresses {
			if p.addrs[a] = w.ClassOfNode(n, own || p.flags[a] != 0, server[a]); own {
				p.flags[a] = hostFlag
			}
		}
	}
	for _, pod := range c.Pods {
		if pod.Ended || pod.HostNetwork || len(pod.Addresses) == 0 {
			continue
		}
		class := e.classes[pod]
		if class == nil || fresh {
			class = w.ClassOfPod(pod)
		}
		p.classes[pod] = class
		for _, a := range pod.Addresses {
			p.addrs[a], p.uids[a], p.flags[a] = class, pod.UID, 0
		}
	}
	for a, class := range p.addrs {
		if class.Inside {
			p.flags[a] |= insideFlag
		}
		p.every[class.Number] = class
	}
	p.every[0] = w.Outside(false)
}

// Flags of vg_np_addr.
const (
	hostFlag   = 0x1
	insideFlag = 0x2
)

// services are the addresses and ports that are translated, with what stands behind them.
func services(c *netpol.Cluster) map[bpfVgNpServiceKey][]netip.AddrPort {
	out := make(map[bpfVgNpServiceKey][]netip.AddrPort)
	for _, s := range c.Services {
		for _, port := range s.Ports {
			for _, a := range s.Addresses {
				out[bpfVgNpServiceKey{Addr: a.As16(), Port: kernel.NetworkOrder(port.Port), Protocol: port.Protocol}] = port.Endpoints
			}
			if port.NodePort != 0 {
				out[bpfVgNpServiceKey{Port: kernel.NetworkOrder(port.NodePort), Protocol: port.Protocol}] = port.Endpoints
			}
		}
	}
	return out
}

// remember keeps what verdicts may name: a table that is gone too, until the next change.
func (e *Enforcer) remember(pods map[uint64]*model.Pod) {
	k := &known{tables: make(map[uint32]*netpol.Table, len(e.tables)), pods: maps.Clone(pods)}
	for t, in := range e.tables {
		k.tables[in.number] = t
	}
	for id, p := range e.forVerdict.Load().pods {
		if k.pods[id] == nil && e.in.pods[id].Kind != 0 {
			k.pods[id] = p
		}
	}
	e.forVerdict.Store(k)
}

// Close takes everything back, but what is pinned.
func (e *Enforcer) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		return nil
	}
	e.loaded = false
	errs := []error{e.detach(), e.objs.Close()}
	if e.forward != nil {
		errs = append(errs, e.forward.Close())
	}
	return errors.Join(errs...)
}

// Carried says what carries rules here.
type Carried struct {
	Rung      string
	Guarantee model.Guarantee
	Limits    []string // what the rung does not cover
}

// Carried says what carries rules on this kernel; of nothing that is loaded, what is planned.
func (e *Enforcer) Carried() Carried {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := Carried{Rung: "cgroup_skb, netfilter", Guarantee: model.DeniedBefore, Limits: []string{
		"TCP, UDP and SCTP are judged; ICMP and other protocols pass", "who is refused gets no answer"}}
	if e.loaded && e.forward == nil {
		c.Rung = "cgroup_skb"
		c.Limits = append(c.Limits, "services are judged by what stands behind them, all of it: this kernel has no netfilter programs (6.4)",
			"packet sockets are not covered")
	}
	return c
}
