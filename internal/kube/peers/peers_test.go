// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func agentPod(node, address string, age time.Duration, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Unix(100_000, 0).Add(-age))},
		Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: address, Phase: corev1.PodRunning}}
	if change != nil {
		change(p)
	}
	return p
}

func TestAgentsOfPods(t *testing.T) {
	got := agentsOf([]any{
		agentPod("b", "10.0.0.2", time.Hour, nil),
		agentPod("b", "10.0.0.22", time.Minute, nil), // a rollout
		agentPod("a", "fd00::1", time.Hour, func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: 9443}}}}
		}),
		agentPod("c", "", time.Hour, nil), // not started
		agentPod("d", "10.0.0.4", time.Hour, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		"no pod",
	})
	want := []Agent{{"[fd00::1]:9443", "a"}, {"10.0.0.22:9780", "b"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// In a rollout a node has no pod of an agent for a moment. It stays in the list, so that streams go on where they ended.
func TestWhoLeavesLingers(t *testing.T) {
	a, b, next := Agent{"10.0.0.1:9780", "a"}, Agent{"10.0.0.2:9780", "b"}, Agent{"10.0.0.22:9780", "b"}
	l := leavers{linger: time.Minute, since: make(map[string]time.Time)}
	begin := time.Unix(1000, 0)
	last := []Agent{a, b}
	for _, c := range []struct {
		after time.Duration
		now   []Agent
		want  []Agent
		again bool
	}{
		{0, []Agent{a, b}, []Agent{a, b}, false},
		{time.Second, []Agent{a}, []Agent{a, b}, true},
		{50 * time.Second, []Agent{a}, []Agent{a, b}, true},
		{55 * time.Second, []Agent{a, next}, []Agent{a, next}, false}, // the next pod is there
		{60 * time.Second, []Agent{a}, []Agent{a, next}, true},
		{119 * time.Second, []Agent{a}, []Agent{a, next}, true}, // counted anew
		{120 * time.Second, []Agent{a}, []Agent{a}, false},
		{121 * time.Second, nil, []Agent{a}, true},
		{181 * time.Second, nil, nil, false},
	} {
		list, again := l.among(last, c.now, begin.Add(c.after))
		if !slices.Equal(list, c.want) || (again != nil) != c.again {
			t.Errorf("after %v: %v, again %v, want %v", c.after, list, again != nil, c.want)
		}
		last = list
	}
}

func TestPortBehindAService(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "api", ContainerPort: 9781}}}}}}
	service := func(ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{Ports: ports}}
	}
	for _, c := range []struct {
		service *corev1.Service
		port    int32
		https   bool
	}{
		{service(corev1.ServicePort{Name: "hubble", TargetPort: intstr.FromInt32(4245)}, corev1.ServicePort{Name: "https", TargetPort: intstr.FromString("api")}), 9781, true},
		{service(corev1.ServicePort{Name: "http", TargetPort: intstr.FromInt32(80)}), 80, false},
		{service(corev1.ServicePort{Name: "https", TargetPort: intstr.FromString("none")}), 0, false},
		{service(), 0, false},
	} {
		if port, https := servicePort(c.service, p); port != c.port || https != c.https {
			t.Errorf("%v: port %d, https %v", c.service.Spec.Ports, port, https)
		}
	}
}
