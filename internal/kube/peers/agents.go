// SPDX-License-Identifier: Apache-2.0

// Package peers finds vigie's own parts in a cluster: the agents for a relay, and the relay for a command on somebody's desk.
// In: the API server, by a pod's service account or a kubeconfig. Out: addresses of agents as they come and go, and connections to
// the relay through the API server.
package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

// The labels of vigie's pods and services.
const (
	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"
	product        = "vigie"
)

func component(name string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{labelName: product, labelComponent: name})
}

// AgentPort is where agents answer unless their pods name a port.
const AgentPort = 9780

// Agent is where an agent answers.
type Agent struct {
	Address string // HOST:PORT
	Node    string
}

// Agents follows the pods of the agents.
type Agents struct {
	Cluster  *Cluster
	Selector string // of the pods; empty for the labels of the installation
	Log      *slog.Logger
	// Linger is how long the agent of a node stays in the list without a pod; 0 for DefaultLinger.
	Linger time.Duration
}

// DefaultLinger is long enough for a rollout to start the next pod: streams of a node that stays in the list go on where they were cut
// off, those of one that is new begin then.
const DefaultLinger = 30 * time.Second

// settle is how long the list waits for more changes before it is told: a rollout changes many pods at once.
const settle = 100 * time.Millisecond

// Follow calls set with all agents, once they are known and whenever they have changed, until ctx ends. While the API server is
// away, what it said last holds.
func (a *Agents) Follow(ctx context.Context, set func([]Agent)) error {
	selector := component("agent")
	if a.Selector != "" {
		var err error
		if selector, err = labels.Parse(a.Selector); err != nil {
			return fmt.Errorf("the selector of the agents' pods: %w", err)
		}
	}
	changed := make(chan struct{}, 1)
	notice := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	list := cache.NewFilteredListWatchFromClient(a.Cluster.core, "pods", a.Cluster.Namespace, func(o *metav1.ListOptions) { o.LabelSelector = selector.String() })
	pods := cache.NewSharedInformer(cache.ToListWatcherWithWatchListSemantics(list, a.Cluster.core), new(corev1.Pod), 0)
	err := pods.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		a.Log.Warn("the agents' pods are not followed at the moment: the list of agents stays as it was", "error", err)
	})
	if err == nil {
		_, err = pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: notice, UpdateFunc: func(_, o any) { notice(o) }, DeleteFunc: notice})
	}
	if err != nil {
		return fmt.Errorf("follow the agents' pods: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { pods.RunWithContext(ctx) })
	defer wg.Wait()
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced) {
		return nil // ctx has ended
	}
	var last []Agent
	told := false
	left := leavers{linger: cmp.Or(a.Linger, DefaultLinger), since: make(map[string]time.Time)}
	for {
		now, again := left.among(last, agentsOf(pods.GetStore().List()), time.Now())
		if !told || !slices.Equal(now, last) {
			set(now)
			last, told = now, true
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil
		}
		timer := time.NewTimer(settle)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// leavers are nodes whose agents have no pod any more, and since when.
type leavers struct {
	linger time.Duration
	since  map[string]time.Time
}

// among is the list now, with those of the last one that linger; and a channel that says when the first of these is to leave.
func (l *leavers) among(last, now []Agent, at time.Time) (list []Agent, again <-chan time.Time) {
	list = slices.Clone(now)
	next := l.linger
	for _, a := range last {
		if slices.ContainsFunc(now, func(b Agent) bool { return a.Node == b.Node }) {
			delete(l.since, a.Node)
			continue
		}
		if _, ok := l.since[a.Node]; !ok {
			l.since[a.Node] = at
		}
		stays := l.linger - at.Sub(l.since[a.Node])
		if stays <= 0 {
			delete(l.since, a.Node)
			continue
		}
		list, next = append(list, a), min(next, stays)
	}
	slices.SortFunc(list, func(a, b Agent) int { return cmp.Compare(a.Node, b.Node) })
	if len(l.since) == 0 {
		return list, nil
	}
	return list, time.After(next)
}

// agentsOf are the agents of pods, ordered: one a node, the youngest pod where there are two in a rollout. A pod that is not ready
// is one too: what is wrong with it is told by itself.
func agentsOf(objects []any) []Agent {
	byNode := make(map[string]*corev1.Pod)
	for _, o := range objects {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Status.PodIP == "" || p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if had := byNode[p.Spec.NodeName]; had == nil || had.CreationTimestamp.Before(&p.CreationTimestamp) {
			byNode[p.Spec.NodeName] = p
		}
	}
	var out []Agent
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		p := byNode[node]
		port := int(cmp.Or(containerPort(p, "https"), containerPort(p, "http"), AgentPort))
		out = append(out, Agent{Address: net.JoinHostPort(p.Status.PodIP, strconv.Itoa(port)), Node: node})
	}
	return out
}

// containerPort is the number of a named port of a pod; 0 when it has none of that name.
func containerPort(p *corev1.Pod, name string) int32 {
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name == name {
				return port.ContainerPort
			}
		}
	}
	return 0
}

var errNoCluster = errors.New("no Kubernetes API server is configured here: run it in a pod with a service account, or give a kubeconfig")
