// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

func judge(t *testing.T, ids ...string) *scan.Judge {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := control.Select(all, ids)
	if err != nil {
		t.Fatal(err)
	}
	j, err := scan.NewJudge(picked, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func services() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "services"}
}
func deployments() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
}

// world is a keeper with a few objects: services and deployments by namespace and name.
type world struct {
	*testing.T
	k *Keeper
}

func (w world) put(r schema.GroupVersionResource, namespace, name string, extra map[string]any) {
	w.Helper()
	fields := map[string]any{"apiVersion": r.GroupVersion().String(), "metadata": map[string]any{"name": name, "namespace": namespace, "resourceVersion": fmt.Sprint(len(name))}}
	labels := map[string]any{"app": name}
	switch r {
	case services():
		fields["kind"], fields["spec"] = "Service", map[string]any{"selector": labels, "ports": []any{map[string]any{"port": int64(80)}}}
	case deployments():
		fields["kind"] = "Deployment"
		fields["spec"] = map[string]any{"selector": map[string]any{"matchLabels": labels}, "template": map[string]any{"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "b", "securityContext": map[string]any{"privileged": true}}}}}}
	}
	for k, v := range extra {
		fields[k] = v
	}
	u := &unstructured.Unstructured{Object: fields}
	u.SetUID(types.UID(namespace + "." + name + "." + r.Resource))
	w.k.Change(r, u)
}

// round is what a round says: uid → control=result, without what passed.
func (w world) round() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, j := range w.k.Round(w.Context(), noon()).Judged {
		var said []string
		for _, o := range j.Outcomes {
			if o.Result != Pass {
				said = append(said, o.Control.ID+"="+o.Result)
			}
		}
		slices.Sort(said)
		out[string(j.Self.GetUID())] = strings.Join(said, " ")
	}
	return out
}

func (w world) want(what string, want map[string]string) {
	w.Helper()
	if got := w.round(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.Errorf("%s: judged %v, want %v", what, got, want)
	}
}

func TestOnlyWhatChangedIsJudged(t *testing.T) {
	w := world{t, NewKeeper(judge(t, "privileged", "service-selects-nothing"), cluster.Theirs)}
	w.put(services(), "shop", "web", nil)
	w.put(services(), "other", "db", nil)
	w.put(deployments(), "shop", "api", nil)
	w.want("at first", map[string]string{"shop.web.services": "service-selects-nothing=fail", "other.db.services": "service-selects-nothing=fail", "shop.api.deployments": "privileged=fail"})
	w.want("nothing changed", map[string]string{})
	w.put(services(), "other", "db", map[string]any{"status": map[string]any{"loadBalancer": map[string]any{}}})
	w.want("a status", map[string]string{})
	w.put(services(), "other", "db", map[string]any{"spec": map[string]any{"type": "ExternalName", "externalName": "x"}})
	w.want("a service that nobody looks at", map[string]string{"other.db.services": ""})
	w.put(deployments(), "shop", "web", nil)
	w.want("what a service looks at, and its namespace", map[string]string{"shop.web.services": "", "shop.api.deployments": "privileged=fail", "shop.web.deployments": "privileged=fail"})
	w.k.Remove(Key{deployments(), "shop", "web"})
	r := w.k.Round(t.Context(), noon())
	if len(r.Gone) != 1 || r.Gone[0].GetUID() != "shop.web.deployments" || len(r.Judged) != 2 {
		t.Errorf("gone %v, judged %v", r.Gone, r.Judged)
	}
	w.k.Keep(services(), map[Key]bool{{services(), "shop", "web"}: true})
	if r := w.k.Round(t.Context(), noon()); len(r.Gone) != 1 || r.Gone[0].GetUID() != "other.db.services" {
		t.Errorf("after a new list: gone %v", r.Gone)
	}
}

func TestWhatAControllerMadeIsNotJudged(t *testing.T) {
	w := world{t, NewKeeper(judge(t, "privileged"), cluster.Theirs)}
	w.put(deployments(), "shop", "web", map[string]any{"metadata": map[string]any{"name": "web", "namespace": "shop",
		"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": "y", "controller": true}}}})
	w.want("owned", map[string]string{})
}

func TestExceptionsInReports(t *testing.T) {
	w := world{t, NewKeeper(judge(t, "privileged"), cluster.Theirs)}
	w.put(deployments(), "shop", "web", nil)
	w.want("without", map[string]string{"shop.web.deployments": "privileged=fail"})
	e, err := exception.Parse(map[string]any{"apiVersion": exception.APIVersion, "kind": exception.Kind, "metadata": map[string]any{"name": "e"},
		"spec": map[string]any{"owner": "team", "reason": "it must", "expires": noon().Add(time.Hour).Format(time.RFC3339), "controls": []any{"privileged"}, "names": []any{"web"}}})
	if err != nil {
		t.Fatal(err)
	}
	set, errs := exception.NewSet([]*exception.Exception{e}, w.k.judge.Controls)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	w.k.SetExceptions(set)
	w.want("with", map[string]string{"shop.web.deployments": "privileged=skip"})
}

func TestReport(t *testing.T) {
	j := judge(t, "privileged", "host-pid", "image-digest")
	by := func(id string) *control.Control {
		return j.Controls[slices.IndexFunc(j.Controls, func(c *control.Control) bool { return c.ID == id })]
	}
	self := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web", "namespace": "shop", "uid": "u-1"}}}
	outcomes := []Outcome{{Control: by("image-digest"), Result: Fail, Message: "no digest"}, {Control: by("host-pid"), Result: Pass}, {Control: by("privileged"), Result: Skip, Message: "it is", Exception: "e"}}
	for _, f := range Forms() {
		u := f.Make(self, outcomes, noon())
		text, err := json.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		results, _, err := unstructured.NestedSlice(u.Object, "results")
		if err != nil || len(results) != 2 || u.GetName() != "u-1" || u.GetNamespace() != "shop" || u.GetOwnerReferences()[0].UID != "u-1" {
			t.Errorf("%v: %s", err, text)
		}
		for _, want := range []string{`"summary":{"error":0,"fail":1,"pass":1,"skip":1,"warn":0}`, `"kind":"` + f.NamespacedKind + `"`, `"exception":"e"`, `"severity":"critical"`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s is not in %s", want, text)
			}
		}
		self.SetNamespace("")
		if got := f.Make(self, nil, noon()); got.GetKind() != f.ClusterKind {
			t.Errorf("an object without a namespace has a %s", got.GetKind())
		}
		self.SetNamespace("shop")
	}
}

func TestFiguresFollowTheReports(t *testing.T) {
	j := judge(t, "privileged")
	f := figures{results: map[resultKey]int{}, of: map[string][]resultKey{}}
	fail := []Outcome{{Control: j.Controls[0], Result: Fail}}
	f.note("a", fail)
	f.note("b", fail)
	f.note("a", fail)
	if n := f.results[resultKey{"privileged", "critical", Fail}]; n != 2 {
		t.Errorf("%d objects fail, want 2", n)
	}
	f.note("a", nil)
	f.note("b", []Outcome{{Control: j.Controls[0], Result: Pass}})
	if len(f.results) != 0 {
		t.Errorf("left: %v", f.results)
	}
}
