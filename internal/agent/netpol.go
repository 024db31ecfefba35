// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/pods"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/kube/policies"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/workload/host"
)

// podPolicies keeps network policies of pods in force: those of the cluster's objects and those of files, as the pods, nodes
// and services of the cluster are at the moment.
type podPolicies struct {
	log      *slog.Logger
	enforcer *pods.Enforcer
	view     *kube.View
	objects  *policies.Watcher
	own      func() ([]netip.Addr, error) // addresses of this node's network
	wake     chan struct{}
	store    *policyStore // of the WorkloadPolicies among the objects

	mu       sync.Mutex
	files    []*netpol.Policy
	cgroups  map[uint64]podCgroup
	parsed   map[*policies.Object]parsedObject
	lastGood map[string]*netpol.Policy // of objects, by what they are called
	problem  error                     // of the last Apply
	state    pods.State                // that is in force
	released bool                      // what an earlier agent left in force
	refused  map[string]error          // WorkloadPolicies
}

// podCgroup is a cgroup of a pod, or one that such ones lie below.
type podCgroup struct {
	uid    string     // empty: it is a parent
	pod    *model.Pod // as it was known last: a pod that is deleted may run for a while
	parent bool
}

type parsedObject struct {
	policy *netpol.Policy
	err    error
}

// newPodPolicies prepares to put network policies of pods in force. Nothing is loaded before the first.
func (a *Agent) newPodPolicies() error {
	if a.cluster == nil {
		return nil
	}
	config, err := kube.RestConfig(a.config.Kube, a.deps.Version)
	if err != nil {
		return fmt.Errorf("follow policies of Kubernetes: %w", err)
	}
	objects, err := policies.New(policies.Options{Config: config, Kinds: policies.Kinds(), Log: a.log, StateFile: filepath.Join(a.config.StateDir, "kube-policies.json")})
	if err != nil {
		return err
	}
	a.netpol = &podPolicies{log: a.log, view: a.cluster.View(), objects: objects, own: ownAddresses, wake: make(chan struct{}, 1),
		enforcer: pods.New(pods.Options{Log: a.log, Losses: a.losses, Host: a.host, PinDir: a.handoverDir() + "-pods"}),
		cgroups:  make(map[uint64]podCgroup), parsed: make(map[*policies.Object]parsedObject), lastGood: make(map[string]*netpol.Policy)}
	others := a.river.decoders[kernel.RecordVerdict]
	a.river.decoders[kernel.RecordVerdict] = func(r kernel.Record, ev *model.Event) (bool, error) {
		if pods.IsVerdict(r) {
			return a.netpol.enforcer.Decode(r, ev)
		}
		return others(r, ev)
	}
	a.river.observers = append(a.river.observers, func(ev *model.Event) {
		if err := a.netpol.enforcer.Learn(ev); err != nil {
			a.log.Warn("addresses of a name could not be learned for network policies", "error", err)
		}
	})
	return a.netpol.findCgroups(a.host.Cgroup2())
}

// ownAddresses are those of the network that this process is in.
func ownAddresses() (out []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	return out, err
}

// findCgroups takes in the pods that there are.
func (p *podPolicies) findCgroups(root string) error {
	if root == "" {
		return nil
	}
	return filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // it went away
		}
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			p.cgroup(exec.CgroupChange{ID: st.Ino, Path: dir[len(root):]})
		}
		return nil
	})
}

// cgroup takes in a cgroup that is new or gone.
func (p *podPolicies) cgroup(c exec.CgroupChange) {
	if p == nil || c.Hierarchy != 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Removed {
		if _, ok := p.cgroups[c.ID]; ok {
			delete(p.cgroups, c.ID)
			p.notice()
		}
		return
	}
	uid, parent := host.PodCgroup(c.Path)
	if uid == "" && !parent {
		return
	}
	p.cgroups[c.ID] = podCgroup{uid: uid, parent: parent}
	p.notice()
}

// notice has run look at everything again.
func (p *podPolicies) notice() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// runPodPolicies keeps network policies of pods in force until ctx ends. The cluster's WorkloadPolicies that were known to the last
// agent are when it returns: what that one left in force may be taken back then.
func (a *Agent) runPodPolicies(ctx context.Context) {
	if a.netpol != nil {
		a.netpol.store = a.policies
		a.netpol.bringWorkloadPolicies(ctx)
		a.background.Go(func() { a.netpol.run(ctx) })
	}
}

// quiet is how long changes are gathered: a change of policies is in force long before a second has passed.
const quiet = 10 * time.Millisecond

// run keeps policies in force until ctx ends.
func (p *podPolicies) run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { p.objects.Run(ctx) })
	tasks.Go(func() { p.keepReporting(ctx) })
	changes := p.view.Subscribe()
	defer changes.Close()
	again := time.NewTicker(10 * time.Second) // addresses of the node change without a word
	defer again.Stop()
	for {
		saved := false
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-p.objects.Changed():
			saved = true
		case <-changes.Changed():
			changes.Take()
		case <-again.C:
			p.enforcer.CountLosses()
			if err := p.enforcer.Sweep(); err != nil {
				p.log.Warn("old names still count for network policies", "error", err)
			}
		}
		pause(ctx, quiet)
		p.mu.Lock()
		err := p.bring(ctx)
		if news := fmt.Sprint(err) != fmt.Sprint(p.problem); news && err != nil && ctx.Err() == nil {
			p.log.Error("network policies could not be brought in force as they are now", "error", err)
		}
		p.problem = err
		p.mu.Unlock()
		p.bringWorkloadPolicies(ctx)
		if saved {
			if err := p.objects.Save(); err != nil {
				p.log.Warn("the next agent will not know network policies before the API server answers", "error", err)
			}
		}
	}
}

// bringWorkloadPolicies puts the WorkloadPolicies among the cluster's objects in force.
func (p *podPolicies) bringWorkloadPolicies(ctx context.Context) {
	list, _ := p.objects.Objects()
	problems := p.store.reloadCluster(ctx, list)
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, err := range problems {
		if before := p.refused[name]; before == nil || before.Error() != err.Error() {
			p.log.Error("a policy of the cluster is not in force as it is written", "policy", name, "error", err)
		}
	}
	p.refused = problems
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// bring puts everything in force as it is known now. Under mu.
func (p *podPolicies) bring(ctx context.Context) error {
	known := p.view.Snapshot()
	list, synced := p.objects.Objects()
	wanted := append(p.fromObjects(list), p.files...)
	viewSynced := false
	select {
	case <-p.view.Synced():
		viewSynced = true
	default:
	}
	if len(wanted) == 0 {
		return p.apply(ctx, pods.State{}, synced && viewSynced)
	}
	if !viewSynced && len(known.Pods) == 0 {
		return nil // nothing is known: every pod would be held
	}
	own, err := p.own()
	if err != nil {
		return fmt.Errorf("list this node's addresses: %w", err)
	}
	cluster := p.cluster()
	cluster.Host = own
	state := pods.State{Policies: wanted, Cgroups: p.tell(), Cluster: cluster}
	return p.apply(ctx, state, synced && viewSynced)
}

// apply puts a state in force, and takes out of force what an earlier agent left when this one knows all.
func (p *podPolicies) apply(ctx context.Context, state pods.State, all bool) error {
	if err := p.enforcer.Apply(ctx, state); err != nil {
		return err
	}
	p.state = state
	if all && !p.released {
		p.released = true
		if err := p.enforcer.ReleaseEarlier(); err != nil {
			return fmt.Errorf("network policies of an earlier agent may still be in force: %w", err)
		}
	}
	return nil
}

// cluster is what is known of it now, but for this node's own addresses.
func (p *podPolicies) cluster() *netpol.Cluster {
	known := p.view.Snapshot()
	return &netpol.Cluster{Node: p.view.Node(), Pods: known.Pods, Namespaces: sortedBy(known.Namespaces), Nodes: sortedBy(known.Nodes), Services: known.Services}
}

func sortedBy[T any](m map[string]*T) []*T {
	out := make([]*T, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[name])
	}
	return out
}

// tell says what each cgroup is.
func (p *podPolicies) tell() map[uint64]pods.Cgroup {
	out := make(map[uint64]pods.Cgroup, len(p.cgroups))
	for id, c := range p.cgroups {
		if pod := p.view.PodByUID(c.uid); c.uid != "" && pod != nil && pod != c.pod {
			c.pod = pod
			p.cgroups[id] = c
		}
		g := pods.Cgroup{Parent: c.parent, Pod: c.pod}
		if c.pod != nil && c.pod.Node != p.view.Node() {
			g.Pod = &model.Pod{UID: c.uid, HostNetwork: true} // of another node, on the same kernel: that one's agent judges it
		}
		out[id] = g
	}
	return out
}

// fromObjects are the policies of the cluster's objects. Of one that cannot be read the last version that could be counts.
func (p *podPolicies) fromObjects(list []*policies.Object) (out []*netpol.Policy) {
	there := make(map[*policies.Object]bool, len(list))
	named := make(map[string]bool, len(list))
	for _, o := range list {
		if !slices.Contains(netpol.Kinds(), netpol.Kind(o.Kind)) {
			continue
		}
		there[o] = true
		name := o.Kind + "/" + o.Namespace + "/" + o.Name
		named[name] = true
		got, ok := p.parsed[o]
		if !ok {
			parsed, err := netpol.Parse(name, o.JSON)
			if got.err = err; err == nil && len(parsed) == 1 {
				got.policy = parsed[0]
				p.lastGood[name] = parsed[0]
			} else {
				p.log.Error("a network policy cannot be carried, what was in force of it stays", "policy", name, "error", err)
			}
			p.parsed[o] = got
		}
		if good := p.lastGood[name]; good != nil {
			out = append(out, good)
		}
	}
	maps.DeleteFunc(p.parsed, func(o *policies.Object, _ parsedObject) bool { return !there[o] })
	maps.DeleteFunc(p.lastGood, func(name string, _ *netpol.Policy) bool { return !named[name] })
	return out
}

// problems are what keeps this node from having policies in force.
func (p *podPolicies) problems() []string {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.problem == nil {
		return nil
	}
	return []string{"network policies are in force as they were before: " + p.problem.Error()}
}

// notes are what is wrong with single policies of the cluster, and with following them: no reason to replace the agent.
func (p *podPolicies) notes() (out []string) {
	if p == nil {
		return nil
	}
	out = p.objects.Problems()
	p.mu.Lock()
	defer p.mu.Unlock()
	for o, got := range p.parsed {
		if got.err != nil {
			out = append(out, fmt.Sprintf("%s %s/%s is not in force as it is written: %v", o.Kind, o.Namespace, o.Name, got.err))
		}
	}
	for name, err := range p.refused {
		out = append(out, fmt.Sprintf("policy %s of the cluster is not in force as it is written: %v", name, err))
	}
	slices.Sort(out)
	return out
}

// close takes policies out of force, but what is to outlive the agent.
func (p *podPolicies) close() error {
	if p == nil {
		return nil
	}
	return p.enforcer.Close()
}

var errNoCluster = errors.New("network policies of pods need to know pods: run vigie in the cluster, or with --kube and a kubeconfig file")
