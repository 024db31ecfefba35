// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/model"
)

func marshal(t testing.TB, o interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameRead holds that what is read of an object is the same whether all of it is decoded or only that, and that the rest is not
// decoded.
func sameRead(t *testing.T, whole interface{ Marshal() ([]byte, error) }, o wire, want any, read func() any) {
	t.Helper()
	if err := o.Unmarshal(marshal(t, whole)); err != nil {
		t.Fatal(err)
	}
	if got := read(); !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if left := marshal(t, o.(interface{ Marshal() ([]byte, error) })); bytes.Contains(left, []byte("unread")) {
		t.Errorf("decoded is %q", left)
	}
}

func TestWire(t *testing.T) {
	always, down := corev1.ContainerRestartPolicyAlways, false
	env := []corev1.EnvVar{{Name: "TOKEN", Value: "unread"}}
	pod := fakePod("shop", "web", "here", "10.1.0.2", func(p *corev1.Pod) {
		p.Annotations = map[string]string{configHash: "0123456789abcdef0123456789abcdef"}
		p.ManagedFields[0].Manager = "unread"
		p.CreationTimestamp = metav1.Unix(1_790_000_000, 0)
		p.Labels["pod-template-hash"] = "5d4f"
		p.Spec.InitContainers = []corev1.Container{{Name: "migrate", Image: "db:1", Env: env}, {Name: "proxy", Image: "proxy:1", RestartPolicy: &always, Command: []string{"unread"}}}
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolUDP, HostIP: "192.0.2.1"}, {ContainerPort: 9}}
		p.Spec.Containers[0].Env = env
		p.Spec.HostNetwork = true
		p.Spec.Volumes = []corev1.Volume{{Name: "unread"}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: "unread"}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "proxy", ContainerID: "containerd://def", ImageID: "unread"}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", ContainerID: "containerd://abc", ImageID: "unread"}}
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"})
		controlledBy(p, "ReplicaSet", "web-5d4f", "rs")
	})
	var gotPod wirePod
	sameRead(t, pod, &gotPod, podOf(pod, true), func() any { return podOf(&gotPod.Pod, true) })

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{"zone": "a"}},
		Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", PodCIDRs: []string{"10.1.0.0/24", "fd00::/64"}, ProviderID: "unread"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "here"}},
			Images: []corev1.ContainerImage{{Names: []string{"unread"}}}}}
	var gotNode wireNode
	sameRead(t, node, &gotNode, nodeOf(node), func() any { return nodeOf(&gotNode.Node) })

	service := fakeService("shop", "web", "10.96.0.10", 80)
	service.Spec.ClusterIPs, service.Spec.ExternalIPs = append(service.Spec.ClusterIPs, "fd00::a"), []string{"192.0.2.9"}
	service.Spec.Selector = map[string]string{"app": "unread"}
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}}
	var gotService wireService
	sameRead(t, service, &gotService, serviceOf(service), func() any { return serviceOf(&gotService.Service) })

	slice := fakeSlice("shop", "web", "web-1", true, 8080, "10.1.0.2", "10.1.0.3")
	slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Name: "unread"}
	slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.1.0.4"}, Conditions: discoveryv1.EndpointConditions{Ready: &down}})
	var gotSlice wireSlice
	sameRead(t, slice, &gotSlice, endpointsOf(slice), func() any { return endpointsOf(&gotSlice.EndpointSlice) })
	if got := nameOf(&gotSlice.EndpointSlice); got != nameOf(slice) {
		t.Errorf("the slice is %+v", got)
	}

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}, Status: corev1.NamespaceStatus{Phase: "unread"}}
	var gotNamespace wireNamespace
	sameRead(t, namespace, &gotNamespace, namespace.Labels, func() any { return gotNamespace.Labels })

	for whole, n := marshal(t, pod), 1; n < 100; n++ { // in the middle of its status
		if err := new(wirePod).Unmarshal(bytes.Clone(whole[:len(whole)-n])); err == nil {
			t.Fatalf("a pod without its last %d bytes is one", n)
		}
	}
}

// TestReadList: a list is read however its bytes arrive, and one that breaks off is none.
func TestReadList(t *testing.T) {
	s := &apiServer{t: t}
	list := inField(nil, 1, marshal(t, &metav1.ListMeta{ResourceVersion: "7", Continue: "more"}))
	want := []string{"one", strings.Repeat("two", 50_000), ""}
	for _, item := range want {
		list = inField(list, 2, []byte(item))
	}
	whole := s.envelope(metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, list)
	var got []string
	about, err := readList(iotest.HalfReader(bytes.NewReader(whole)), func(b []byte) error {
		got = append(got, string(b))
		return nil
	})
	if err != nil || !slices.Equal(got, want) || about.ResourceVersion != "7" || about.Continue != "more" {
		t.Errorf("%d items, %+v, %v", len(got), about, err)
	}
	at := len(whole) - len(list) // where the list begins, but for what follows it
	for n := range len(whole) - 8 {
		if n > at+20 && n < len(whole)-40 && n%997 != 0 {
			continue // in the middle of the long one
		}
		if _, err := readList(bytes.NewReader(whole[:n]), func([]byte) error { return nil }); err == nil {
			t.Fatalf("%d of %d bytes are a list", n, len(whole))
		}
	}
	if _, err := readList(strings.NewReader(`{"kind":"PodList"}`), nil); err == nil {
		t.Error("JSON is a list")
	}
}

// TestFollowByLists: where no watch begins with what there is, lists do.
func TestFollowByLists(t *testing.T) {
	s := serveAPI(t)
	s.noStreams = true
	s.put("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}}})
	s.put("pods", fakePod("shop", "web", "here", "10.1.0.2"))
	s.put("pods", fakePod("shop", "db", "there", "10.2.0.2"))
	s.put("services", fakeService("shop", "web", "10.96.0.10", 80))
	s.put("endpointslices", fakeSlice("shop", "web", "web-1", true, 8080, "10.1.0.2"))
	c, _ := s.follow("")
	waitSynced(t, c)
	v := c.View()
	known := v.Snapshot()
	if len(known.Pods) != 2 || len(known.Nodes) != 1 || len(known.Services) != 1 || len(known.Services[0].Ports[0].Endpoints) != 1 {
		t.Errorf("known: %+v", known)
	}
	if p := v.PodByUID("uid-of-web"); p == nil || len(p.Containers) != 1 {
		t.Errorf("web: %+v", p)
	}
	if p := v.PodByAddress(netip.MustParseAddr("10.2.0.2")); p == nil || p.Name != "db" || p.Containers != nil {
		t.Errorf("db: %+v", p)
	}
	waitFor(t, "the watches", func() bool { return c.Status().Watches == 6 })
	s.remove("pods", "shop/db")
	waitFor(t, "the pod to go", func() bool { return v.PodByUID("uid-of-db") == nil })
}

// BenchmarkReadPods says what reading a list of 10,000 pods of 3 KB takes: memory at its highest beyond what was there, a target of 25 %
// for the collector, as an agent has at its start; and what stays.
func BenchmarkReadPods(b *testing.B) {
	var list []byte
	for i := range 10000 {
		deployment := fmt.Sprintf("service-%d", i/20)
		list = inField(list, 2, marshal(b, fakePod(fmt.Sprintf("team-%d", i/200), fmt.Sprintf("%s-5d4f9c7b8-%05x", deployment, i), fmt.Sprintf("node-%04d", i%1000), fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256),
			func(p *corev1.Pod) {
				p.Labels = map[string]string{"app.kubernetes.io/name": deployment, "app.kubernetes.io/instance": deployment, "app.kubernetes.io/version": "1.2.3", "pod-template-hash": "5d4f9c7b8"}
				controlledBy(p, "ReplicaSet", deployment+"-5d4f9c7b8", deployment)
				p.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(strings.Repeat("x", 1500))
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
				p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LONG", Value: strings.Repeat("x", 1000)}}
			})))
	}
	whole := (&apiServer{}).envelope(metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, list)
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	for b.Loop() {
		c := &Client{options: Options{Node: "here"}, view: newView("here", time.Now), jobs: make(chan struct{}, 1)}
		r := c.podResource("pods", "", func(*model.Pod) bool { return false })
		r.now, r.synced = time.Now, func() {}
		before, most := heap(), uint64(0)
		var briefs []any
		_, err := readList(bytes.NewReader(whole), func(message []byte) error {
			o := r.fresh()
			if err := o.Unmarshal(message); err != nil {
				return err
			}
			if briefs = append(briefs, r.brief(o)); len(briefs)%100 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
			return nil
		})
		if err == nil {
			err = r.Replace(briefs, "")
		}
		if err != nil {
			b.Fatal(err)
		}
		briefs = nil
		b.ReportMetric(float64(most-min(most, before))/(1<<20), "MiB-at-most")
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-stay")
		runtime.KeepAlive(c)
	}
}
