// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// BenchmarkChange is how long it takes until a change of one policy, or of one pod, is in force: 5,000 policies, 10,000 pods of which
// 100 run here.
func BenchmarkChange(b *testing.B) {
	w := newWorld(b)
	cluster := *w.cluster
	cgroups := make(map[uint64]Cgroup)
	for id, g := range w.cgroups {
		cgroups[id] = g
	}
	for i := range 10_000 {
		p := &model.Pod{UID: fmt.Sprint("pod-", i), Namespace: fmt.Sprint("ns-", i%100), Name: fmt.Sprint("pod-", i), Node: "there",
			Labels:    map[string]string{"app": fmt.Sprint("app-", i%1000), "pod-template-hash": fmt.Sprint(i % 2000), "index": fmt.Sprint(i)},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}}
		if i < 100 {
			p.Node = cluster.Node
			cgroups[uint64(1<<40+i)] = Cgroup{Pod: p}
		}
		cluster.Pods = append(cluster.Pods, p)
	}
	policy := func(i, port int) *netpol.Policy {
		list, err := netpol.Parse("bench", fmt.Appendf(nil, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p%d, namespace: ns-%d},
			spec: {podSelector: {matchLabels: {app: app-%d}}, ingress: [{from: [{podSelector: {matchLabels: {app: app-%d}}}, {ipBlock: {cidr: 172.16.%d.0/24}}], ports: [{port: %d}]}]}}`,
			i, i%100, i%1000, (i+100)%1000, i%250, port))
		if err != nil {
			b.Fatal(err)
		}
		return list[0]
	}
	policies := make([]*netpol.Policy, 5000)
	for i := range policies {
		policies[i] = policy(i, 1000+i)
	}
	apply := func() {
		if err := w.enforcer.Apply(context.Background(), State{Policies: slices.Clone(policies), Cluster: &cluster, Cgroups: cgroups}); err != nil {
			b.Fatal(err)
		}
	}
	apply()
	b.Run("policy", func(b *testing.B) {
		for i := range b.N {
			policies[0] = policy(0, 10_000+i)
			apply()
		}
	})
	b.Run("pod", func(b *testing.B) {
		for i := range b.N {
			other := *cluster.Pods[5000]
			other.Labels = map[string]string{"app": fmt.Sprint("app-", i%1000)}
			cluster.Pods = slices.Clone(cluster.Pods)
			cluster.Pods[5000] = &other
			apply()
		}
	})
}

// BenchmarkConnection is a connection between two pods, with an echo, by the run time of each program that it meets: both ends', of the
// socket sensor and of network policies. Without policies about these pods, and with policies about them.
func BenchmarkConnection(b *testing.B) {
	const rule = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s, namespace: %s}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}]}], egress: [{to: [{namespaceSelector: {}}]}]}
`
	for name, text := range map[string]string{"none": "", "others": fmt.Sprintf(rule, "others", "z"), "these": fmt.Sprintf(rule, "these", "x")} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			w.apply(text)
			connections := make([]target, 50)
			for i := range connections {
				connections[i] = target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}
			}
			stop, err := measure.TimePrograms()
			if err != nil {
				b.Fatal(err)
			}
			before, err := measure.ProgramsOf(os.Getpid())
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if slices.Contains(w.pods[1].probe(b, 5*time.Second, connections...), false) {
					b.Fatal("a connection did not come about")
				}
			}
			after, err := measure.ProgramsOf(os.Getpid())
			if err != nil {
				b.Fatal(err)
			}
			if err := stop.Close(); err != nil {
				b.Fatal(err)
			}
			sum := time.Duration(0)
			for _, p := range measure.RanBetween(before, after) {
				each := p.Time / time.Duration(b.N*len(connections))
				sum += each
				if each > 10*time.Nanosecond {
					b.ReportMetric(float64(each), p.Name+"-ns/connection")
					b.ReportMetric(float64(p.Runs)/float64(b.N*len(connections)), p.Name+"-runs/connection")
				}
			}
			b.ReportMetric(float64(sum), "all-ns/connection")
		})
	}
}
