// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// serveCluster is an API server that never changes: one pod on another node, and a service. It returns a kubeconfig.
func serveCluster(t *testing.T) string {
	t.Helper()
	objects := map[string]string{
		"pods": `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"db-0","namespace":"shop","uid":"u1","resourceVersion":"1","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"db"}},
			"spec":{"nodeName":"there","containers":[{"name":"db","image":"db:1"}]},"status":{"phase":"Running","podIP":"10.2.0.7","podIPs":[{"ip":"10.2.0.7"}]}}`,
		"services": `{"kind":"Service","apiVersion":"v1","metadata":{"name":"db","namespace":"shop","resourceVersion":"1"},
			"spec":{"clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7"],"ports":[{"port":5432,"protocol":"TCP"}]}}`,
	}
	kinds := map[string]string{"pods": "Pod", "nodes": "Node", "namespaces": "Namespace", "services": "Service", "endpointslices": "EndpointSlice"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		version := "v1"
		if resource == "endpointslices" {
			version = "discovery.k8s.io/v1"
		}
		w.Header().Set("Content-Type", "application/json")
		one := strings.Join(strings.Fields(objects[resource]), " ")
		if one != "" && !strings.Contains(r.URL.Query().Get("fieldSelector"), "spec.nodeName=here") {
			fmt.Fprintf(w, "{\"type\":\"ADDED\",\"object\":%s}\n", one)
		}
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n", kinds[resource], version)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"x","context":{"cluster":"c","user":""}}],"current-context":"x"}`, server.URL)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFlowsAreNamed: a far end is its pod, and what was asked for its service; what has a process, or is no pod, stays as it is.
func TestFlowsAreNamed(t *testing.T) {
	client, err := kube.Open(kube.Options{Choice: serveCluster(t), Node: "here", Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); client.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-client.View().Synced():
	case <-time.After(30 * time.Second):
		t.Fatalf("not synced: %+v", client.Status())
	}
	a := &Agent{cluster: client}
	own := &model.Process{Workload: &model.Workload{Name: "web-0"}}
	flow := func(destination string, service string) *model.Event {
		f := &model.Flow{Protocol: "tcp", Start: time.Now(), Source: model.Endpoint{Address: netip.MustParseAddrPort("10.1.0.2:40000"), Process: own, Workload: own.Workload},
			Destination: model.Endpoint{Address: netip.MustParseAddrPort(destination)}}
		if service != "" {
			f.Service = &model.Service{Address: netip.MustParseAddrPort(service)}
		}
		return &model.Event{Type: model.TypeFlow, Flow: f}
	}
	for _, c := range []struct{ destination, asked, workload, service string }{
		{"10.2.0.7:5432", "10.96.0.7:5432", "db-0", "shop/db"}, // translated
		{"10.2.0.7:5432", "", "db-0", ""},                      // asked for by its own address
		{"10.96.0.7:5432", "", "", "shop/db"},                  // the translation is not known, or there was none
		{"10.96.0.7:80", "", "", ""},
		{"192.0.2.1:443", "192.0.2.9:443", "", "/"}, // translated by somebody else
		{"127.0.0.1:5432", "", "", ""},
	} {
		ev := flow(c.destination, c.asked)
		before := ev.Flow.Service
		a.nameFlow(ev)
		a.nameFlow(ev) // an open flow is named again each time that it is told
		var name, service string
		if w := ev.Flow.Destination.Workload; w != nil {
			name = w.Name
		}
		if s := ev.Flow.Service; s != nil {
			service = s.Namespace + "/" + s.Name
		}
		if name != c.workload || service != c.service || ev.Flow.Source.Workload != own.Workload {
			t.Errorf("%s, asked for %q: workload %q, service %q; want %q and %q", c.destination, c.asked, name, service, c.workload, c.service)
		}
		if before != nil && before.Name != "" {
			t.Error("a service that other reports share was changed")
		}
	}
	w := client.View().WorkloadByAddress(netip.MustParseAddr("10.2.0.7"), time.Now())
	if w.Kind != model.WorkloadPod || w.Namespace != "shop" || w.Node != "there" || w.Labels["app"] != "db" || w.PodUID != "u1" {
		t.Errorf("the far pod: %+v", w)
	}
	if pods := a.Pods(); len(pods) != 1 {
		t.Errorf("pods: %v", pods)
	}
	if s := a.kubeStatus(); !s.Synced || s.Pods != 1 || s.OwnPods != 0 || s.Node != "here" || len(s.Problems) != 0 {
		t.Errorf("status: %+v", s)
	}
}
