// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// someJudge judges by a few controls.
func someJudge(t *testing.T, ids ...string) *Judge {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := control.Select(all, ids)
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJudge(picked, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// excusing excuses privileged for the objects that a spec selects.
func excusing(t *testing.T, spec map[string]any) *exception.Set {
	t.Helper()
	spec["owner"], spec["reason"], spec["expires"], spec["controls"] = "team", "it must", noon().Add(time.Hour).Format(time.RFC3339), []any{"privileged"}
	e, err := exception.Parse(map[string]any{"apiVersion": exception.APIVersion, "kind": exception.Kind, "metadata": map[string]any{"name": "e"}, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	set, errs := exception.NewSet([]*exception.Exception{e}, all)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set
}

// shopItems are a namespace, a deployment with two privileged containers, its pod, and a service that selects it.
func shopItems() []Item {
	metadata := func(name string, labels map[string]any) map[string]any {
		return map[string]any{"name": name, "namespace": "shop", "labels": labels}
	}
	container := func(name string) map[string]any {
		return map[string]any{"name": name, "image": "i", "securityContext": map[string]any{"privileged": true}}
	}
	spec := map[string]any{"containers": []any{container("a"), container("b")}}
	web := map[string]any{"app": "web"}
	return []Item{
		{Fields: map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": metadata("web", nil), "spec": map[string]any{"selector": web}}, Where: "/service"},
		{Fields: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("web", web),
			"spec": map[string]any{"selector": map[string]any{"matchLabels": web}, "template": map[string]any{"metadata": map[string]any{"labels": web}, "spec": spec}}}, Where: "/deployment"},
		{Fields: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": metadata("web-1", web), "spec": spec}, Where: "/pod", Known: true},
		{Fields: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "shop", "labels": map[string]any{"tier": "gold"}}}, Where: "/namespace"},
		{Fields: map[string]any{"nothing": "x"}, Where: "/none"},
		{Fields: map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": "x"}, Where: "/broken"},
	}
}

func runItems(t *testing.T, j *Judge, items []Item) *Report {
	t.Helper()
	r, err := j.RunObjects(t.Context(), func(_ context.Context, give func(Item) error) error {
		for _, i := range items {
			if err := give(i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestObjectsThatStandInNoFile(t *testing.T) {
	r := runItems(t, someJudge(t, "privileged", "service-selects-nothing"), shopItems())
	if r.Objects != 3 || r.Ignored != 1 || len(r.Problems) != 1 || r.Problems[0].File != "/broken" || !r.Live {
		t.Errorf("%d objects, %d ignored, problems %v", r.Objects, r.Ignored, r.Problems)
	}
	if len(r.Findings) != 2 {
		t.Fatalf("findings: %+v", r.Findings)
	}
	f := r.Findings[1]
	if f.File != "/deployment" || f.Path != "spec.template.spec.containers[1].securityContext.privileged" || f.Value != "true" || f.Container != "b" {
		t.Errorf("%+v", f)
	}
}

func TestAFeedThatFailsEndsTheScan(t *testing.T) {
	broken := errors.New("the cluster is gone")
	_, err := someJudge(t, "privileged").RunObjects(t.Context(), func(_ context.Context, give func(Item) error) error {
		return errors.Join(give(shopItems()[0]), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsExcusedIsNoFinding(t *testing.T) {
	for name, c := range map[string]struct {
		spec    map[string]any
		now     time.Time
		excused int
	}{
		"by name":                         {map[string]any{"names": []any{"web"}}, noon(), 2},
		"by the namespace, which is last": {map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"tier": "gold"}}}, noon(), 2},
		"another":                         {map[string]any{"names": []any{"db"}}, noon(), 0},
		"too late":                        {map[string]any{"names": []any{"web"}}, noon().Add(time.Hour), 0},
	} {
		j := someJudge(t, "privileged").WithExceptions(excusing(t, c.spec), c.now)
		r := runItems(t, j, shopItems())
		if len(r.Excused) != c.excused || len(r.Findings) != 2-c.excused {
			t.Errorf("%s: excused %v, findings %v", name, r.Excused, r.Findings)
		}
		i := slices.IndexFunc(r.Tallies, func(t Tally) bool { return t.Control == "privileged" })
		if got := r.Tallies[i]; got.Failed+got.Excused != 1 || (got.Excused == 1) != (c.excused > 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
