// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// manyPods is how many pods TestManyPods makes; 10000 is what docs/identity.md states the memory of.
var manyPods = flag.Int("many-pods", 300, "how many pods there are when the memory of following them is measured")

// sender makes requests as the cluster's administrator, with no limit on how many.
func sender(t testing.TB, c *lab.Cluster) func(method, path, kind, body string) error {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	api, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return func(method, path, kind, body string) error {
		r, err := http.NewRequestWithContext(t.Context(), method, config.Host+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", kind)
		answer, err := api.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode >= 300 {
			said, _ := io.ReadAll(io.LimitReader(answer.Body, 1024)) // it says what is wrong
			return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, said)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
}

// makeMany makes things one by one, some at once.
func makeMany(t testing.TB, n int, one func(i int) error) {
	t.Helper()
	var makers sync.WaitGroup
	const makerCount = 8
	for m := range makerCount {
		makers.Go(func() {
			for i := m; i < n; i += makerCount {
				if err := one(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if makers.Wait(); t.Failed() {
		t.FailNow()
	}
}

// TestManyPods measures what following many pods of other nodes takes: memory, once read and at its highest, bytes from the API server, and
// until everything is known. All of them are found by address.
func TestManyPods(t *testing.T) {
	c := lab.API(t, "", "--max-requests-inflight=1000", "--max-mutating-requests-inflight=1000")
	send := sender(t, c)
	if err := send("POST", "/api/v1/namespaces/default/serviceaccounts", "application/json", `{"metadata":{"name":"default"}}`); err != nil {
		t.Log(err) // it may be there
	}
	began := time.Now()
	makeMany(t, *manyPods, func(i int) error {
		deployment := fmt.Sprintf("service-%d", i/20)
		name := fmt.Sprintf("%s-5d4f9c7b8-%05d", deployment, i)
		body := fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"app.kubernetes.io/name":%[2]q,"app.kubernetes.io/instance":%[2]q,"pod-template-hash":"5d4f9c7b8"},
			"annotations":{"checksum/config":"%064d"},
			"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"%[2]s-5d4f9c7b8","uid":"11111111-2222-3333-4444-%012[4]d","controller":true}]},
			"spec":{"nodeName":"node-%04[5]d","containers":[{"name":"main","image":"registry.example.org/%[2]s:1.2.3","ports":[{"name":"http","containerPort":8080}],
			"env":[{"name":"LONG","value":"%0500[3]d"}],"resources":{"requests":{"cpu":"100m","memory":"64Mi"}}}]}}`, name, deployment, i, i/20, i%1000)
		if err := send("POST", "/api/v1/namespaces/default/pods", "application/json", body); err != nil {
			return err
		}
		ip := fmt.Sprintf("10.%d.%d.%d", 100+i/65536, i/256%256, i%256)
		return send("PATCH", "/api/v1/namespaces/default/pods/"+name+"/status", "application/merge-patch+json",
			fmt.Sprintf(`{"status":{"phase":"Running","podIP":%[1]q,"podIPs":[{"ip":%[1]q}]}}`, ip))
	})
	t.Logf("%d pods made in %v", *manyPods, time.Since(began).Round(time.Second))

	heap := func() (inUse, fromSystem uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.Sys
	}
	before, system := heap()
	client, err := kube.Open(kube.Options{Choice: c.Kubeconfig, Node: "here", Version: "test", Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	began = time.Now()
	go func() { defer close(done); client.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-client.View().Synced():
	case <-time.After(2 * time.Minute):
		t.Fatalf("not synced: %+v", client.Status())
	}
	took := time.Since(began)
	pods := client.View().Snapshot().Pods
	if len(pods) != *manyPods {
		t.Errorf("%d pods are known, want %d", len(pods), *manyPods)
	}
	for _, p := range pods {
		if len(p.Addresses) != 1 || client.View().PodByAddress(p.Addresses[0]) != p || p.Controller.Kind != "Deployment" {
			t.Fatalf("a pod that is not found by its address: %+v", p)
		}
	}
	after, systemAfter := heap()
	s := client.Status()
	t.Logf("read in %v, %d KiB from the API server, %d watches; heap +%d KiB (%d bytes a pod), at most %d KiB more from the system", took.Round(time.Millisecond), s.BytesReceived>>10, s.Watches,
		(after-before)>>10, (after-before)/uint64(*manyPods), (systemAfter-system)>>10)
}
