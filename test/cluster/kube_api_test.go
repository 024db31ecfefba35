// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// objects are what the API server is given: no node runs any of it.
const objects = `
apiVersion: v1
kind: Node
metadata: {name: here, labels: {zone: a}}
spec: {podCIDRs: [10.1.0.0/24], podCIDR: 10.1.0.0/24}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.77, selector: {app: web}, ports: [{port: 80, targetPort: http, name: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.0.2], conditions: {ready: true}}, {addresses: [10.1.0.3], conditions: {ready: false}}]
`

// apiPod is a pod that is bound to a node already.
func apiPod(name, node string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  namespace: shop
  labels: {app: web, pod-template-hash: 5d4f}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d4f, uid: 11111111-2222-3333-4444-555555555555, controller: true}]
spec:
  nodeName: %[2]s
  serviceAccountName: web
  initContainers: [{name: proxy, image: "proxy:1", restartPolicy: Always}]
  containers: [{name: main, image: "web:1", ports: [{containerPort: 8080, name: http}]}]
`, name, node)
}

// TestAgainstARealAPIServer: what the API server says, in its own encoding and by its own watches, is what is known; what happens to it is
// noticed; Events are taken; and all of it is asked for as gently as is said.
func TestAgainstARealAPIServer(t *testing.T) {
	for _, minor := range lab.Minors() {
		t.Run(minor, func(t *testing.T) { againstAPI(t, lab.API(t, minor)) })
	}
}

func againstAPI(t *testing.T, c *lab.Cluster) {
	t.Setenv("KUBECONFIG", c.Kubeconfig)
	c.Apply(t, objects)
	c.Apply(t, apiPod("web-1", "here")+apiPod("web-2", "there"))
	address := func(pod, ip, phase string) {
		t.Helper()
		patch := fmt.Sprintf(`{"status":{"phase":%q,"podIP":%q,"podIPs":[{"ip":%q}]}}`, phase, ip, ip)
		if out, err := c.Kubectl(t.Context(), "patch", "pod", "-n", "shop", pod, "--subresource=status", "--type=merge", "-p", patch).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	address("web-1", "10.1.0.2", "Running")
	address("web-2", "10.2.0.2", "Running")

	client, err := kube.Open(kube.Options{Choice: c.Kubeconfig, Node: "here", Version: "test", StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); client.Run(ctx) }()
	defer func() { cancel(); <-done }()
	await := func(what string, met func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !met(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s: %+v", what, client.Status())
			}
		}
	}
	v := client.View()
	await("everything to be read", func() bool { return client.Status().Synced })
	web1, web2 := v.PodByAddress(netip.MustParseAddr("10.1.0.2")), v.PodByAddress(netip.MustParseAddr("10.2.0.2"))
	if web1 == nil || web2 == nil {
		t.Fatalf("pods by address: %+v, %+v", web1, web2)
	}
	if web1.Name != "web-1" || web1.Controller != (model.Controller{Kind: "Deployment", Name: "web"}) || web1.ServiceAccount != "web" || web1.Created.IsZero() || web1.Labels["app"] != "web" ||
		!slices.Equal(web1.Containers, []model.PodContainer{{Name: "proxy", Role: model.SidecarContainer, Image: "proxy:1"}, {Name: "main", Role: model.AppContainer, Image: "web:1"}}) ||
		!slices.Equal(web1.Ports, []model.PodPort{{Name: "http", Port: 8080, Protocol: unix.IPPROTO_TCP}}) {
		t.Errorf("web-1: %+v", web1)
	}
	if web2.Name != "web-2" || web2.Node != "there" || web2.Controller.Name != "web" || len(web2.Containers) > 0 {
		t.Errorf("web-2: %+v", web2)
	}
	service := v.ServiceByAddress(netip.MustParseAddrPort("10.96.0.77:80"), unix.IPPROTO_TCP)
	if service == nil || service.Name != "web" || !slices.Equal(service.Ports[0].Endpoints, []netip.AddrPort{netip.MustParseAddrPort("10.1.0.2:8080")}) {
		t.Errorf("service: %+v", service)
	}
	if n := v.ClusterNode("here"); n == nil || n.Labels["zone"] != "a" || len(n.PodCIDRs) != 1 {
		t.Errorf("node: %+v", n)
	}
	if n := v.Namespace("shop"); n == nil || n.Labels["team"] != "a" {
		t.Errorf("namespace: %+v", n)
	}

	// A finished pod of another node is no longer told of; its address is another's at once.
	address("web-2", "10.2.0.2", "Succeeded")
	await("the end of web-2", func() bool { return v.PodByAddress(netip.MustParseAddr("10.2.0.2")) == nil })
	c.Apply(t, apiPod("web-3", "there"))
	address("web-3", "10.2.0.2", "Running")
	await("web-3", func() bool {
		p := v.PodByAddress(netip.MustParseAddr("10.2.0.2"))
		return p != nil && p.Name == "web-3"
	})

	for range 3 {
		client.Events().Add(kube.Occurrence{Namespace: "shop", Pod: "web-1", UID: web1.UID, Reason: "PolicyDenied", Action: "exec", Rule: "web processes.allow",
			Note: "/bin/sh: exec /bin/ls was denied", Time: time.Now(), Count: 1})
	}
	await("an Event", func() bool { return client.Events().Counts().Sent == 1 })
	out, err := c.Kubectl(t.Context(), "get", "events.events.k8s.io", "-n", "shop", "-o", `jsonpath={.items[*].reason} {.items[*].regarding.name} {.items[*].series.count}`).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) || strings.TrimSpace(string(out)) != "PolicyDenied web-1 3" {
		t.Errorf("the Event: %q, %v", out, err)
	}
	client.Events().Add(kube.Occurrence{Namespace: "gone", Pod: "x", UID: "y", Reason: "Alert", Action: "high", Rule: "r", Note: "n", Time: time.Now()})
	await("an Event that cannot be", func() bool { return client.Events().Counts().Unsent == 1 })
	if s := client.Status(); s.Watches != 6 || len(s.Problems(time.Now())) > 0 {
		t.Errorf("status: %+v", s)
	}
}
