// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vigie-io/vigie/internal/kube/install"
)

const (
	chartDir  = "../../deploy/helm/vigie"
	namespace = "vigie-system"
	version   = "v1.2.3"
)

type values = map[string]any

// cases are values that change what the templates do.
func cases() map[string]values {
	return map[string]values{
		"defaults":  {},
		"namespace": {"namespace": values{"create": true}},
		"image":     {"image": values{"repository": "registry.example:5000/vigie", "tag": "v9", "pullPolicy": "Never", "pullSecrets": []any{values{"name": "pull"}}}},
		"no relay":  {"relay": values{"enabled": false}},
		"no kinds":  {"crds": values{"install": false}},
		"agent": {"agent": values{"fanotify": true, "config": values{"l7": "all", "export-json": "/var/log/x.json", "args-limit": 100},
			"nodeSelector": values{"zone": "a"}, "resources": values{"limits": nil}, "tolerations": []any{}, "maxUnavailable": 2, "runtimeDirectory": "/run/crio"}},
		"relay": {"relay": values{"replicas": 3, "tolerations": []any{values{"operator": "Exists"}}, "resources": values{"limits": values{"cpu": "1"}}}},
	}
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	c.Metadata.AppVersion = version
	return c
}

// render is what `helm template` does.
func render(t *testing.T, v values) ([]*unstructured.Unstructured, error) {
	t.Helper()
	c := load(t)
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: "vigie", Namespace: namespace, IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	delete(files, "vigie/templates/NOTES.txt")
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		texts = append(texts, files[name])
	}
	return install.Parse(texts...)
}

// level takes out what may differ: who made an object, and what is random.
func level(objects []*unstructured.Unstructured) {
	for _, o := range objects {
		for _, path := range [][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}} {
			if _, there, _ := unstructured.NestedMap(o.Object, path...); there {
				unstructured.RemoveNestedField(o.Object, append(path, "app.kubernetes.io/managed-by")...)
			}
		}
		if o.GetKind() == "Secret" {
			data, _, _ := unstructured.NestedMap(o.Object, "data")
			for name := range data {
				data[name] = "secret"
			}
			o.Object["data"] = data
		}
	}
}

func TestChartIsWhatInstallApplies(t *testing.T) {
	for name, v := range cases() {
		t.Run(name, func(t *testing.T) {
			byHelm, err := render(t, v)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := install.Render(install.Options{Namespace: namespace, Version: version, Values: v})
			if err != nil {
				t.Fatal(err)
			}
			level(byHelm)
			level(ours)
			if len(byHelm) != len(ours) || len(ours) < 5 {
				t.Fatalf("Helm has %d objects, install %d", len(byHelm), len(ours))
			}
			for i := range ours {
				if !reflect.DeepEqual(byHelm[i].Object, ours[i].Object) {
					a, _ := install.Print(byHelm[i : i+1])
					b, _ := install.Print(ours[i : i+1])
					t.Errorf("Helm:\n%s\ninstall:\n%s", a, b)
				}
			}
		})
	}
}

func TestBothRefuseWhatTheyDoNotKnow(t *testing.T) {
	for name, v := range map[string]values{
		"unknown":        {"agents": values{}},
		"unknown below":  {"agent": values{"fantoify": true}},
		"map for a word": {"agent": values{"fanotify": values{}}},
		"word for a map": {"relay": "on"},
	} {
		if _, err := render(t, v); err == nil {
			t.Errorf("%s: Helm takes it", name)
		}
		if _, err := install.Render(install.Options{Namespace: namespace, Version: version, Values: v}); err == nil {
			t.Errorf("%s: install takes it", name)
		}
	}
}

func TestLint(t *testing.T) {
	result := lint.All(chartDir, values{}, namespace, true)
	for _, m := range result.Messages {
		// An icon is a recommendation.
		if m.Severity > support.InfoSev {
			t.Error(m)
		}
	}
}
