// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/model"
)

// fakeClock is moved by hand.
type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *fakeClock { return &fakeClock{at: time.Unix(1_800_000_000, 0)} }

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// second moves the clock to so many seconds after it began.
func (c *fakeClock) second(n float64) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Unix(1_800_000_000, 0).Add(time.Duration(n * float64(time.Second)))
	return c.at
}

// TestReusedAddresses: a pod is never named for what another did at its address.
func TestReusedAddresses(t *testing.T) {
	clock := newClock()
	v := newView("here", clock.now)
	addr := netip.MustParseAddr("10.1.0.2")
	at := func(n float64) time.Time {
		return time.Unix(1_800_000_000, 0).Add(time.Duration(n * float64(time.Second)))
	}
	pod := func(uid string, created float64, change ...func(*model.Pod)) *model.Pod {
		p := &model.Pod{UID: uid, Name: uid, Node: "here", Created: at(created), Addresses: []netip.Addr{addr}}
		for _, c := range change {
			c(p)
		}
		return p
	}
	check := func(moment float64, want string) {
		t.Helper()
		got := ""
		if p := v.PodByAddressAt(addr, at(moment)); p != nil {
			got = p.UID
		}
		if got != want {
			t.Errorf("at second %v the address was %q's, want %q's", moment, got, want)
		}
		if w := v.WorkloadByAddress(addr, at(moment)); (w == nil) != (want == "") || w != nil && w.PodUID != want {
			t.Errorf("at second %v the workload is %+v, want %q's", moment, w, want)
		}
	}
	now := func(want string) {
		t.Helper()
		got := ""
		if p := v.PodByAddress(addr); p != nil {
			got = p.UID
		}
		if got != want {
			t.Errorf("the address is %q's now, want %q's", got, want)
		}
	}

	clock.second(1)
	v.setPod(pod("first", 0), "")
	now("first")
	check(0.5, "first") // told late
	check(-10, "")      // before there was such a pod
	clock.second(10)
	v.setPod(pod("first", 0, func(p *model.Pod) { p.Ended = true }), "")
	now("") // the object is still there, with its address
	check(9, "first")
	check(10.5, "")
	clock.second(11)
	v.setPod(pod("second", 8), "") // it waited for the address
	now("second")
	check(11, "second")
	check(10.5, "second") // the first one had ended
	check(9, "")          // either
	check(5, "first")
	clock.second(12)
	v.deletePod("first")
	now("second")

	clock.second(20)
	v.setPod(pod("third", 15), "") // the end of the second is not told yet
	now("third")
	check(21, "third")
	check(18, "")
	v.setPod(pod("second", 8, func(p *model.Pod) { p.Labels = map[string]string{"a": "b"} }), "")
	now("third") // what still says that it has the address does not get it back
	v.deletePod("second")
	now("third")
	clock.second(21)
	v.PodEnded("third") // its node knows first
	now("")
	v.setPod(pod("third", 15, func(p *model.Pod) { p.Labels = map[string]string{"a": "b"} }), "")
	now("")
	check(20.5, "third")
	clock.second(300)
	v.setPod(pod("fourth", 299, func(p *model.Pod) { p.Addresses = []netip.Addr{netip.MustParseAddr("10.1.0.9")} }), "")
	v.deletePod("fourth")
	check(20.5, "") // too long ago
	if n := len(v.holders); n != 1 {
		t.Errorf("%d addresses are remembered, want 1", n)
	}
	v.setPod(pod("host", 299, func(p *model.Pod) { p.HostNetwork = true }), "")
	now("") // its node's
}

// TestShortPod: a pod of another node that is told of only when it is over is named for what it did, unless that can have been another.
func TestShortPod(t *testing.T) {
	clock := newClock()
	v := newView("here", clock.now)
	addr := netip.MustParseAddr("10.2.0.2")
	pod := func(uid string, created float64) *model.Pod {
		return &model.Pod{UID: uid, Node: "there", Created: clock.second(created), Addresses: []netip.Addr{addr}}
	}
	name := func(second float64) string {
		if p := v.PodByAddressAt(addr, time.Unix(1_800_000_000, 0).Add(time.Duration(second*float64(time.Second)))); p != nil {
			return p.UID
		}
		return ""
	}
	short := pod("short", 10)
	short.Ended = true
	clock.second(15)
	v.pastPod(short)
	v.pastPod(short) // it changes once more before it is deleted
	if got := []string{name(12), name(5), name(16)}; got[0] != "short" || got[1] != "" || got[2] != "" || v.PodByUID("short") != nil || v.PodByAddress(addr) != nil {
		t.Errorf("the short one: %q, %+v", got, v.PodByUID("short"))
	}
	next := pod("next", 13)
	clock.second(17)
	v.setPod(next, "")
	late := pod("late", 12.5)
	late.Ended = true
	clock.second(18)
	v.pastPod(late) // told after the one that came after it
	if got := []string{name(17.5), name(14.9), name(11)}; got[0] != "next" || got[1] != "" || got[2] != "" || v.PodByAddress(addr) != next {
		t.Errorf("with the next: %q", got)
	}
	next.Ended = true
	v.pastPod(next)
	if v.PodByAddress(addr) != nil || v.PodByUID("next") != nil {
		t.Error("the next one has not ended")
	}
	clock.second(400)
	v.pastPod(&model.Pod{UID: "other", Ended: true, Addresses: []netip.Addr{netip.MustParseAddr("10.2.0.9")}})
	if len(v.holders) != 1 || len(v.released) != 1 {
		t.Errorf("%d addresses are remembered", len(v.holders))
	}
}

// TestListOfReused: in a list of all, the younger of two has the address.
func TestListOfReused(t *testing.T) {
	for range 20 { // whatever the order
		v := newView("here", time.Now)
		addr := netip.MustParseAddr("10.1.0.2")
		older := &model.Pod{UID: "older", Created: time.Unix(1, 0), Addresses: []netip.Addr{addr}}
		younger := &model.Pod{UID: "younger", Created: time.Unix(2, 0), Addresses: []netip.Addr{addr}}
		v.replacePods([]*listedPod{{pod: younger}, {pod: older}}, func(*model.Pod) bool { return true })
		if p := v.PodByAddress(addr); p != younger {
			t.Fatalf("the address is %+v's", p)
		}
	}
}

// TestChurn: 200 pods are made and deleted at once, their addresses go round; no address is ever an old pod's, and nothing is left.
func TestChurn(t *testing.T) {
	clock := newClock()
	v := newView("here", clock.now)
	changes := v.Subscribe()
	defer changes.Close()
	for round := range 20 {
		clock.second(float64(10 * round))
		for i := range 200 {
			addr := netip.AddrFrom4([4]byte{10, 1, 0, byte((i + 7*round) % 200)})
			if round > 0 {
				v.deletePod(fmt.Sprintf("%d-%d", round-1, i))
			}
			uid := fmt.Sprintf("%d-%d", round, i)
			v.setPod(&model.Pod{UID: uid, Created: clock.now(), Labels: map[string]string{"round": fmt.Sprint(round)}}, "")
			v.setPod(&model.Pod{UID: uid, Created: clock.now(), Labels: map[string]string{"round": fmt.Sprint(round)}, Addresses: []netip.Addr{addr}}, "")
		}
		for i := range 200 {
			addr := netip.AddrFrom4([4]byte{10, 1, 0, byte((i + 7*round) % 200)})
			if p := v.PodByAddress(addr); p == nil || p.UID != fmt.Sprintf("%d-%d", round, i) {
				t.Fatalf("round %d: %v is %+v's", round, addr, p)
			}
		}
	}
	if len(v.pods) != 200 || len(v.labels.sets) != 1 || len(v.released) > 13*200 {
		t.Errorf("%d pods, %d sets of labels, %d released addresses are left", len(v.pods), len(v.labels.sets), len(v.released))
	}
	if c := changes.Take(); !c.All {
		t.Errorf("%d changes that nobody came for are remembered", len(c.Pods))
	}
}

func TestChangesAreBoundedAndFolded(t *testing.T) {
	v := newView("here", time.Now)
	changes := v.Subscribe()
	changes.Take()
	one := &model.Pod{UID: "a", Labels: map[string]string{"v": "1"}}
	v.setPod(one, "")
	v.setPod(&model.Pod{UID: "a", Labels: map[string]string{"v": "2"}}, "")
	v.setPod(&model.Pod{UID: "a", Labels: map[string]string{"v": "2"}}, "") // nothing new
	c := changes.Take()
	if got := c.Pods["a"]; len(c.Pods) != 1 || got.Old != nil || got.New.Labels["v"] != "2" {
		t.Errorf("changes: %+v", c)
	}
	if c = changes.Take(); !c.Empty() {
		t.Errorf("taken twice: %+v", c)
	}
	generation := v.Snapshot().Generation
	v.setNamespace("n", &model.ClusterNamespace{Name: "n"})
	v.setNode("m", &model.ClusterNode{Name: "m"})
	v.setService(ServiceName{"n", "s"}, &model.ClusterService{Namespace: "n", Name: "s"})
	if c = changes.Take(); !c.Namespaces["n"] || !c.Nodes["m"] || !c.Services[ServiceName{"n", "s"}] || c.All {
		t.Errorf("changes: %+v", c)
	}
	if s := v.Snapshot(); s.Generation <= generation || len(s.Services) != 1 || s != v.Snapshot() {
		t.Errorf("snapshot: %+v", s)
	}
	for i := range maxChanges + 1 {
		v.setPod(&model.Pod{UID: fmt.Sprint(i)}, "")
	}
	if c = changes.Take(); !c.All || len(c.Pods) > 0 {
		t.Errorf("%d changes are remembered", len(c.Pods))
	}
	changes.Close()
	v.deletePod("a")
	if c = changes.Take(); !c.Empty() {
		t.Errorf("after the end: %+v", c)
	}
}

// TestStaticPod: kubelet runs a static pod by another uid than the API has it by.
func TestStaticPod(t *testing.T) {
	v := newView("here", time.Now)
	o := fakePod("kube-system", "etcd-here", "here", "", func(p *corev1.Pod) {
		p.Annotations = map[string]string{configHash: "0123456789abcdef0123456789abcdef", "other": "x"}
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "Node", Name: "here", Controller: new(bool)}}
	})
	*o.OwnerReferences[0].Controller = true
	v.setPod(podOf(o, true), "")
	p := v.PodByUID("0123456789abcdef0123456789abcdef")
	if p == nil || p.Name != "etcd-here" || p.Controller != (model.Controller{}) {
		t.Fatalf("by the uid of its cgroup: %+v", p)
	}
	v.deletePod(p.UID)
	if v.PodByUID("0123456789abcdef0123456789abcdef") != nil {
		t.Error("it is known after its end")
	}
}

// BenchmarkMemory says how much memory 10,000 pods of 500 Deployments on 1,000 nodes take, with 500 services in front.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		v := newView("here", time.Now)
		for i := range 10000 {
			deployment := fmt.Sprintf("service-%d", i/20)
			o := fakePod(fmt.Sprintf("team-%d", i/200), fmt.Sprintf("%s-5d4f9c7b8-%05x", deployment, i), fmt.Sprintf("node-%04d", i%1000), fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256),
				func(p *corev1.Pod) {
					p.Labels = map[string]string{"app.kubernetes.io/name": deployment, "app.kubernetes.io/instance": deployment, "app.kubernetes.io/version": "1.2.3", "pod-template-hash": "5d4f9c7b8"}
					controlledBy(p, "ReplicaSet", deployment+"-5d4f9c7b8", deployment)
					p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
				})
			v.setPod(podOf(o, false), "")
		}
		pods := heap()
		for i := range 500 {
			name := fmt.Sprintf("service-%d", i)
			v.setService(ServiceName{"team", name}, serviceOf(fakeService("team", name, fmt.Sprintf("10.96.%d.%d", i/256, i%256), 80)))
			var ends []string
			for n := range 20 {
				ends = append(ends, fmt.Sprintf("10.1.%d.%d", i%256, n))
			}
			v.setSlice(ServiceName{"team", name}, name, endpointsOf(fakeSlice("team", name, name, true, 8080, ends...)))
		}
		b.ReportMetric(float64(pods-before)/10000, "bytes/pod")
		b.ReportMetric(float64(heap()-pods)/500, "bytes/service")
		runtime.KeepAlive(v)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkPodByAddress is what a flow pays.
func BenchmarkPodByAddress(b *testing.B) {
	v := newView("here", time.Now)
	for i := range 10000 {
		v.setPod(&model.Pod{UID: fmt.Sprint(i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}}, "")
	}
	at := time.Now()
	for b.Loop() {
		if v.WorkloadByAddress(netip.MustParseAddr("10.1.3.4"), at) == nil {
			b.Fatal("not found")
		}
	}
}
