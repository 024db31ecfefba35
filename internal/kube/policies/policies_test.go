// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
)

func policy(name, port string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": map[string]any{"name": name, "namespace": "x", "uid": "u-" + name, "annotations": map[string]any{"vigie.io/mode": "audit"},
			"managedFields": []any{map[string]any{"manager": "kubectl"}}},
		"spec": map[string]any{"podSelector": map[string]any{}, "ingress": []any{map[string]any{"ports": []any{map[string]any{"port": port}}}}}}}
}

// TestFollow holds that objects come, change and go as the API server tells, and that what was known is known after a restart.
func TestFollow(t *testing.T) {
	kinds := Kinds()[:1]
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{kinds[0].Resource: "NetworkPolicyList"}, policy("one", "a"))
	options := Options{Kinds: kinds, Log: slog.New(slog.DiscardHandler), StateFile: filepath.Join(t.TempDir(), "policies.json"), Again: 10 * time.Millisecond}
	w := newWatcher(options, client)
	if _, synced := w.Objects(); synced {
		t.Error("it is synced before it runs")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	stop := func() { cancel(); running.Wait() }
	defer stop()
	expect := func(what string, fine func([]*Object, bool) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			list, synced := w.Objects()
			if fine(list, synced) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d objects, synced %v", what, len(list), synced)
			}
		}
	}
	expect("the first", func(l []*Object, synced bool) bool { return synced && len(l) == 1 })
	list, _ := w.Objects()
	if got := string(list[0].JSON); strings.Contains(got, "managedFields") || !strings.Contains(got, `"vigie.io/mode":"audit"`) || !strings.Contains(got, `"port":"a"`) {
		t.Errorf("the object is %s", got)
	}
	of := client.Resource(kinds[0].Resource).Namespace("x")
	// The fake has no watch that is not open yet.
	expect("the second", func(l []*Object, _ bool) bool {
		if len(l) == 1 {
			_, _ = of.Create(ctx, policy("two", "b"), metav1.CreateOptions{})
		}
		return len(l) == 2
	})
	if _, err := of.Update(ctx, policy("two", "c"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("the change", func(l []*Object, _ bool) bool {
		return len(l) == 2 && strings.Contains(string(l[1].JSON), `"port":"c"`)
	})
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	if err := of.Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("the end", func(l []*Object, _ bool) bool { return len(l) == 1 && l[0].Name == "two" })
	stop()
	again := newWatcher(options, client)
	if l, synced := again.Objects(); len(l) != 2 || synced {
		t.Errorf("after a restart %d objects are known, synced %v; want the 2 that were saved, not synced", len(l), synced)
	}
	select {
	case <-again.Changed():
	default:
		t.Error("what is known from before is no news")
	}
}
