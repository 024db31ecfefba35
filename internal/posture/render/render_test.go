// SPDX-License-Identifier: Apache-2.0

package render

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// tree writes files: name → text.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func shop() map[string]string {
	return map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies: [{name: db, version: 1.0.0}, {name: gone, version: 1.0.0}]\n",
		"values.yaml": "replicas: 2\nresources:\n  limits:\n    memory: 1Gi\n    cpu: 1\nextra: true\n",
		"templates/_helpers.tpl": "{{- define \"shop.name\" -}}\n{{- printf \"%s-%s\" .Release.Name .Chart.Name | trunc 63 | trimSuffix \"-\" -}}\n{{- end -}}\n" +
			"{{- define \"shop.labels\" -}}\napp: {{ include \"shop.name\" . }}\ntier: web\n{{- end -}}\n",
		"templates/deploy.yaml": `{{- if .Values.extra }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "shop.name" . }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
  annotations:
    checksum: {{ include (print $.Template.BasePath "/config.yaml") . | sha256sum }}
spec:
  replicas: {{ .Values.replicas }}
  template:
    spec:
      hostNetwork: true
      containers:
      {{- range tuple "a" "b" }}
      - name: {{ . }}
        image: nginx
        {{- with $.Values.resources }}
        resources:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        tty: true
      {{- end }}
{{- end }}
`,
		"templates/config.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\r\ndata:\n  text: |\n    one\n    two\n",
		"templates/broken.yaml":           "kind: A\nname: {{ .Values.nothing.at.all }}\n",
		"templates/NOTES.txt":             "thank you\n",
		"charts/db/Chart.yaml":            "apiVersion: v2\nname: db\nversion: 1.0.0\n",
		"charts/db/templates/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n",
		"crds/thing.yaml":                 "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n",
	}
}

func renderChart(t *testing.T, root string, v Values) ([]Manifest, []Problem) {
	t.Helper()
	c, err := OpenChart(root)
	if err != nil {
		t.Fatal(err)
	}
	values, err := ValuesOf(v)
	if err != nil {
		t.Fatal(err)
	}
	manifests, problems, err := c.Render(t.Context(), values, v.Version)
	if err != nil {
		t.Fatal(err)
	}
	return manifests, problems
}

// document is the one of a manifest.
func document(t *testing.T, manifests []Manifest, file string) *manifest.Document {
	t.Helper()
	i := slices.IndexFunc(manifests, func(m Manifest) bool { return strings.HasSuffix(m.File, file) })
	if i < 0 {
		t.Fatalf("%s was not rendered", file)
	}
	d := manifest.Text{File: file, Line: 1, Bytes: manifests[i].Text, Locate: manifests[i].Locate}.Parse()
	if d.Err != nil {
		t.Fatal(d.Err)
	}
	return d
}

func TestAValueIsAtItsPlaceInTheTemplate(t *testing.T) {
	dir := tree(t, shop())
	manifests, problems := renderChart(t, dir, Values{Set: []string{"replicas=5"}})
	d := document(t, manifests, "deploy.yaml")
	for _, tt := range []struct {
		path, want string
	}{
		{"spec.template.spec.hostNetwork", "templates/deploy.yaml:14:20 true"},
		{"spec.replicas", "templates/deploy.yaml:11:13 5"},
		{"metadata.labels.tier", "templates/_helpers.tpl:6:7 web"},
		{"metadata.labels.app", "templates/_helpers.tpl:5:6 release-name-shop"},
		{"metadata.name", "templates/deploy.yaml:5:9 release-name-shop"},
		{"spec.template.spec.containers[0].image", "templates/deploy.yaml:18:16 nginx"},
		{"spec.template.spec.containers[1].tty", "templates/deploy.yaml:23:14 true"},
		{"spec.template.spec.containers[1].resources.limits.memory", "templates/deploy.yaml:21:11 1Gi"},
	} {
		at := d.At(manifest.ParsePath(tt.path))
		relative, err := filepath.Rel(dir, at.File)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s:%d:%d %s", relative, at.Line, at.Column, at.Value); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.path, got, tt.want)
		}
	}
	if len(problems) != 2 || !problems[0].Note || !strings.Contains(problems[0].Message, "gone") {
		t.Fatalf("problems: %+v", problems)
	}
	if p := problems[1]; p.Note || p.Line != 2 || !strings.HasSuffix(p.File, "templates/broken.yaml") || !strings.Contains(p.Message, "nil pointer") {
		t.Errorf("the broken template: %+v", p)
	}
	document(t, manifests, "charts/db/templates/secret.yaml")
	document(t, manifests, "crds/thing.yaml")
	if text := document(t, manifests, "config.yaml").Value["data"].(map[string]any)["text"].(string); text != "one\ntwo\n" {
		t.Errorf("a text: %q", text)
	}
	for _, m := range manifests {
		if bytes.Contains(m.Text, []byte("#~")) || strings.HasSuffix(m.File, ".txt") {
			t.Errorf("%s:\n%s", m.File, m.Text)
		}
	}
}

func TestTemplatesThatDoNotParse(t *testing.T) {
	files := shop()
	files["templates/broken.yaml"] = "a: 1\nb: {{ if }}\n"
	_, problems := renderChart(t, tree(t, files), Values{})
	if len(problems) != 2 || problems[1].Line != 2 || !strings.HasSuffix(problems[1].File, "broken.yaml") {
		t.Errorf("problems: %+v", problems)
	}
	files["templates/_helpers.tpl"] = "\n\n{{ define }}"
	manifests, problems := renderChart(t, tree(t, files), Values{})
	helper := func(p Problem) bool { return strings.HasSuffix(p.File, "_helpers.tpl") && p.Line == 3 }
	if !slices.ContainsFunc(problems, helper) || len(manifests) != 3 {
		t.Errorf("%d manifests, problems: %+v", len(manifests), problems)
	}
}

func TestValuesAreReadInOrder(t *testing.T) {
	dir := tree(t, map[string]string{"a.yaml": "x: {a: 1, b: 2}\n", "b.yaml": "x: {b: 3}\n", "broken.yaml": "a: ["})
	got, err := ValuesOf(Values{Files: []string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")}, Set: []string{"x.c=4,y[0]=z"}})
	if err != nil || fmt.Sprint(got) != "map[x:map[a:1 b:3 c:4] y:[z]]" {
		t.Errorf("%v %v", got, err)
	}
	for _, v := range []Values{{Files: []string{filepath.Join(dir, "none")}}, {Files: []string{filepath.Join(dir, "broken.yaml")}}, {Set: []string{"a"}}} {
		if _, err := ValuesOf(v); err == nil {
			t.Errorf("%+v was taken", v)
		}
	}
}

func TestAnArchive(t *testing.T) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	for name, text := range shop() {
		if err := archive.WriteHeader(&tar.Header{Name: "shop/" + name, Size: int64(len(text)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	dir := tree(t, map[string]string{"shop-1.0.0.tgz": b.String()})
	manifests, _ := renderChart(t, filepath.Join(dir, "shop-1.0.0.tgz"), Values{})
	if at := document(t, manifests, "deploy.yaml").At([]string{"kind"}); !strings.HasSuffix(at.File, "shop-1.0.0.tgz/templates/deploy.yaml") || at.Line != 3 {
		t.Errorf("%+v", at)
	}
	if _, err := OpenChart(filepath.Join(tree(t, map[string]string{"x.tgz": "no archive"}), "x.tgz")); err == nil {
		t.Error("what is no archive was taken")
	}
}

func overlayFiles() map[string]string {
	return map[string]string{
		"base/kustomization.yaml": "resources: [deploy.yaml]\n",
		"base/deploy.yaml":        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      hostPID: true\n      containers:\n      - name: a\n        image: nginx\n",
		"prod/kustomization.yaml": "resources: [../base]\nnamePrefix: prod-\nnamespace: shop\nimages: [{name: nginx, newTag: \"1.29\"}]\npatches:\n- path: host.yaml\n",
		"prod/host.yaml":          "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      hostNetwork: true\n",
	}
}

func TestAnOverlayPointsAtItsFiles(t *testing.T) {
	dir := tree(t, overlayFiles())
	manifests, problems := Overlay(filepath.Join(dir, "prod"))
	if len(manifests) != 1 || len(problems) != 0 {
		t.Fatalf("%d manifests, problems %+v", len(manifests), problems)
	}
	m := manifests[0]
	d := manifest.Text{File: m.File, Line: 1, Bytes: m.Text, Locate: m.Locate}.Parse()
	for path, want := range map[string]string{
		"spec.template.spec.hostPID":             "base/deploy.yaml:8:16 true",
		"spec.template.spec.hostNetwork":         "prod/host.yaml:8:20 true",
		"spec.template.spec.containers[0].image": "base/deploy.yaml:11:16 nginx:1.29",
		"spec.template.spec.containers[0].tty":   "base/deploy.yaml:10:9 ",
	} {
		at := d.At(manifest.ParsePath(path))
		relative, err := filepath.Rel(dir, at.File)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s:%d:%d %s", relative, at.Line, at.Column, at.Value); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if strings.Contains(string(m.Text), "origin") || !strings.Contains(string(m.Text), "prod-web") {
		t.Errorf("%s", m.Text)
	}
}

func TestOverlaysThatDoNotRender(t *testing.T) {
	for name, tt := range map[string]struct {
		text, want string
		line       int
	}{
		"remote":       {"resources:\n- deploy.yaml\n- https://example.org/base\n", "nothing is fetched", 3},
		"not there":    {"resources: [none.yaml]\n", "not here", 1},
		"helm":         {"resources: []\nhelmCharts: [{name: x}]\n", "would run helm", 2},
		"broken":       {"resources: [\n", "not YAML", 1},
		"wrong fields": {"nothing: 1\n", "does not render", 1},
	} {
		dir := tree(t, map[string]string{"kustomization.yaml": tt.text, "deploy.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"})
		_, problems := Overlay(dir)
		if len(problems) != 1 || !strings.Contains(problems[0].Message, tt.want) || problems[0].Line != tt.line {
			t.Errorf("%s: %+v", name, problems)
		}
	}
}
