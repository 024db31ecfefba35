// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/workload"
)

// Choices of Config.KubePods.
const (
	KubePodsCluster = "cluster" // of all nodes: their addresses have names, and policies can select them
	KubePodsNode    = "node"    // of this node alone
)

func (c *Config) checkKube(bad func(field, format string, args ...any)) {
	switch {
	case c.Kube == "":
		bad("kube", "is empty: use %q, %q or a kubeconfig file", kube.Auto, kube.Off)
	case c.Kube != kube.Auto && c.Kube != kube.Off && !filepath.IsAbs(c.Kube):
		bad("kube", "%q is no absolute path: use %q, %q or a kubeconfig file", c.Kube, kube.Auto, kube.Off)
	}
	if c.KubePods != KubePodsCluster && c.KubePods != KubePodsNode {
		bad("kube-pods", "%q: use %q or %q", c.KubePods, KubePodsCluster, KubePodsNode)
	}
	for name, value := range map[string]string{"kube-events": c.KubeEvents, "kube-reports": c.KubeReports} {
		if value != On && value != Off {
			bad(name, "%q: use %q or %q", value, On, Off)
		}
	}
}

// openKube prepares to follow Kubernetes, where it is configured. What the agent before knew is known from here on.
func (a *Agent) openKube() error {
	client, err := kube.Open(kube.Options{Choice: a.config.Kube, Node: a.config.NodeName, Version: a.deps.Version,
		StateDir: a.config.StateDir, OwnPodsOnly: a.config.KubePods == KubePodsNode, Log: a.log, Losses: a.losses})
	if errors.Is(err, kube.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow Kubernetes (--kube off does without it): %w", err)
	}
	a.cluster = client
	return nil
}

// pods is what names pods at once; nil without Kubernetes.
func (a *Agent) pods() workload.Pods {
	if a.cluster == nil {
		return nil
	}
	return a.cluster.View()
}

// runKube follows Kubernetes until ctx ends, and brings workloads up to date with what changes there.
func (a *Agent) runKube(ctx context.Context) {
	if a.cluster == nil {
		return
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { a.cluster.Run(ctx) })
	if a.config.KubeEvents == On || a.config.KubeReports == On {
		tasks.Go(func() { a.tellKube(ctx) })
	}
	changes := a.cluster.View().Subscribe()
	defer changes.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes.Changed():
		}
		c := changes.Take()
		if c.All {
			a.resolver.PodsChanged()
		}
		for uid, pod := range c.Pods {
			a.resolver.PodChanged(uid)
			if pod.New != nil && pod.New.StaticUID != "" {
				a.resolver.PodChanged(pod.New.StaticUID)
			}
		}
	}
}

// kubeAtStart is how long the agent's start waits for Kubernetes at most: what ran before it has its names then.
const kubeAtStart = 2 * time.Second

// awaitKube waits until what Kubernetes has is known, where nothing is known of an earlier run.
func (a *Agent) awaitKube(ctx context.Context) {
	if a.cluster == nil || !a.cluster.Status().Restored.IsZero() {
		return
	}
	limit := time.NewTimer(kubeAtStart)
	defer limit.Stop()
	select {
	case <-a.cluster.View().Synced():
		a.resolver.PodsChanged()
	case <-limit.C:
	case <-ctx.Done():
	}
}

// nameCluster has the river name what Kubernetes knows of the ends of conversations.
func (a *Agent) nameCluster() {
	if a.cluster == nil {
		return
	}
	next := a.river.annotate
	a.river.annotate = func(ev *model.Event) {
		next(ev)
		a.nameFlow(ev)
	}
}

// nameFlow names the pods at the far ends of a conversation, and the service that was asked for.
func (a *Agent) nameFlow(ev *model.Event) {
	f := ev.Flow
	if f == nil || a.cluster == nil {
		return
	}
	view := a.cluster.View()
	for _, end := range []*model.Endpoint{&f.Source, &f.Destination} {
		if addr := end.Address.Addr(); end.Process == nil && end.Workload == nil && isDistant(addr) {
			end.Workload = view.WorkloadByAddress(addr, f.Start)
		}
	}
	asked := f.Destination.Address
	if f.Service != nil {
		asked = f.Service.Address
	}
	if s := view.ServiceByAddress(asked, protocolNumber(f.Protocol)); s != nil {
		f.Service = &model.Service{Namespace: s.Namespace, Name: s.Name, Address: asked}
	}
}

func isDistant(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsLoopback() && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLinkLocalUnicast()
}

func protocolNumber(name string) uint8 {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return 0
}

// tellKube tells denials and alerts as Kubernetes Events and in reports until ctx ends.
func (a *Agent) tellKube(ctx context.Context) {
	events := a.Subscribe(pipeline.SubscribeOptions{Name: "kubernetes events", Keep: func(ev *model.Event) bool {
		_, ok := occurrence(ev)
		return ok
	}})
	defer events.Close()
	for {
		batch, err := events.Next(ctx)
		if err != nil {
			return
		}
		for _, ev := range batch {
			if o, ok := occurrence(ev); ok {
				if a.config.KubeEvents == On && o.Reason != auditedReason {
					a.cluster.Events().Add(o)
				}
				if a.config.KubeReports == On {
					a.cluster.Reports().Add(o)
				}
			}
		}
	}
}

// auditedReason is of what a policy would have denied: reports say it, for who is about to have it enforced, Events do not.
const auditedReason = "PolicyAudited"

// occurrence is what an event says about a pod that its owner should read: something was denied, or would have been, or an alert
// was raised.
func occurrence(ev *model.Event) (kube.Occurrence, bool) {
	if ev.Process == nil || ev.Process.Workload == nil || ev.Process.Workload.Kind != model.WorkloadPod || ev.Process.Workload.Namespace == "" {
		return kube.Occurrence{}, false
	}
	w := ev.Process.Workload
	o := kube.Occurrence{Namespace: w.Namespace, Pod: w.Name, UID: w.PodUID, Time: ev.Time, Count: uint64(max(ev.Count, 1))}
	in := ""
	if w.Container != "" {
		in = " in container " + w.Container
	}
	switch {
	case ev.Verdict != nil && ev.Verdict.Action == model.VerdictAudited:
		v := ev.Verdict
		o.Reason, o.Action, o.Policy, o.Rule, o.Result = auditedReason, string(v.Operation), v.Policy, v.Rule, kube.ResultWarn
		o.Note = fmt.Sprintf("%s%s: policy %s, %s would have denied %s %s", ev.Process.Binary, in, v.Policy, v.Rule, v.Operation, objectOf(v))
	case ev.Verdict != nil && (ev.Verdict.Action == model.VerdictDenied || ev.Verdict.Action == model.VerdictKilled):
		v := ev.Verdict
		o.Reason, o.Action, o.Policy, o.Rule, o.Result = "PolicyDenied", string(v.Operation), v.Policy, v.Rule, kube.ResultFail
		if v.Action == model.VerdictKilled {
			o.Reason = "PolicyKilled"
		}
		o.Note = fmt.Sprintf("%s%s: %s %s was %s by policy %s, %s (%s)", ev.Process.Binary, in, v.Operation, objectOf(v), v.Action, v.Policy, v.Rule, v.Guarantee)
	case ev.Alert != nil:
		o.Reason, o.Action, o.Policy, o.Result, o.Severity = "Alert", string(ev.Alert.Severity), ev.Alert.Rule, kube.ResultWarn, string(ev.Alert.Severity)
		o.Note = fmt.Sprintf("%s%s: %s (rule %s, %s)", ev.Process.Binary, in, cmp.Or(ev.Alert.Message, ev.Alert.Title), ev.Alert.Rule, ev.Alert.Severity)
	default:
		return kube.Occurrence{}, false
	}
	return o, true
}

// objectOf is what a verdict is about.
func objectOf(v *model.Verdict) string {
	switch {
	case v.Path != "":
		return v.Path
	case v.RemoteName != "":
		return v.RemoteName + " (" + v.Remote.String() + "/" + v.Protocol + ")"
	case v.Remote.IsValid():
		return v.Remote.String() + "/" + v.Protocol
	case v.Local.IsValid():
		return v.Local.String() + "/" + v.Protocol
	}
	return v.Subject
}

// kubeStatus is how Kubernetes is followed; nil where there is none.
func (a *Agent) kubeStatus() *server.Kubernetes {
	if a.cluster == nil {
		return nil
	}
	s := a.cluster.Status()
	return &server.Kubernetes{Server: s.Server, Node: s.Node, Synced: s.Synced, Problems: append(s.Problems(time.Now()), a.netpol.notes()...), Heard: s.Heard, Restored: s.Restored,
		Watches: s.Watches, Pods: s.Pods, OwnPods: s.OwnPods, EventsSent: s.Events.Sent}
}

// kubeCollectors are the metrics of following Kubernetes.
func (a *Agent) kubeCollectors() []prometheus.Collector {
	if a.cluster == nil {
		return nil
	}
	return []prometheus.Collector{a.cluster.Collector()}
}

// answersPods is who lists pods; nil without Kubernetes.
func (a *Agent) answersPods() server.Pods {
	if a.cluster == nil {
		return nil
	}
	return a
}

// Pods implements server.Pods.
func (a *Agent) Pods() []*model.Pod { return a.cluster.View().Snapshot().Pods }
