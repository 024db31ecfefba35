// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
)

// charts are written to be hard: name → its files.
func charts() map[string]map[string]string {
	meta := func(name, more string) string {
		return "apiVersion: v2\nname: " + name + "\nversion: 1.2.3\nappVersion: \"4\"\ndescription: d\n" + more
	}
	return map[string]map[string]string{
		"functions": {
			"Chart.yaml":  meta("functions", "keywords: [a, b]\nmaintainers: [{name: m}]\n"),
			"values.yaml": "a: {b: [1, 2, {c: x}], d: null, big: 12345678901, f: 1.5}\ntext: \"{{ .Values.a.big }}\"\nlist: [c, a, b]\n",
			"templates/_h.tpl": "{{- define \"name\" -}}{{ printf \"%s-%s\" .Release.Name .Chart.Name | trunc 20 | trimSuffix \"-\" }}{{- end -}}\n" +
				"{{- define \"labels\" }}\napp: {{ include \"name\" . }}\nv: {{ .Chart.AppVersion | quote }}\n{{- end }}\n",
			"templates/a.yaml": "yaml: {{- toYaml .Values.a | nindent 2 }}\njson: {{ toJson .Values.a }}\ntpl: {{ tpl .Values.text . }}\nlabels: {{- include \"labels\" . | indent 2 }}\n" +
				"none: {{ .Values.nothing }}\ndefault: {{ .Values.nothing | default \"x\" | quote }}\nsorted: {{ .Values.list | sortAlpha | join \",\" }}\n" +
				"from: {{ (fromYaml \"k: [1, 2]\").k | len }}\njson2: {{ (fromJson `{\"k\": true}`).k }}\narr: {{ fromJsonArray `[1]` | first }}\nb64: {{ \"x\" | b64enc }}\n" +
				"sha: {{ include \"labels\" . | sha256sum }}\nsemver: {{ semverCompare \">=1.20-0\" .Capabilities.KubeVersion.Version }}\nhas: {{ .Capabilities.APIVersions.Has \"apps/v1\" }}\n" +
				"lookup: {{ lookup \"v1\" \"Secret\" \"a\" \"b\" | len }}\nt: {{ .Template.Name }} {{ .Template.BasePath }}\nrel: {{ .Release.Service }} {{ .Release.IsInstall }} {{ .Release.Revision }}\n" +
				"chart: {{ .Chart.Name }} {{ .Chart.Version }} {{ .Chart.Keywords }}\nempty: {{ if .Values.a.d }}y{{ else }}n{{ end }}\npretty: {{- toYamlPretty .Values.a.b | nindent 2 }}\n" +
				"{{- range $i, $x := .Values.a.b }}\nr{{ $i }}: {{ $x }}\n{{- end }}\nkind: {{ kindOf .Values.a.big }} {{ int .Values.a.big }} {{ .Values.a.f }}\ntoml: {{ toToml .Values.a | quote }}\n",
			"templates/files.yaml": "one: {{ .Files.Get \"conf/a.txt\" | quote }}\n{{ (.Files.Glob \"conf/*\").AsConfig | indent 2 }}\n{{ (.Files.Glob \"**.bin\").AsSecrets }}\n" +
				"{{- range .Files.Lines \"conf/a.txt\" }}\n- {{ . }}{{ end }}\n{{- range $n, $_ := .Files.Glob \"conf/**\" }}\nf: {{ $n }}{{ end }}\n",
			"templates/skipped.yaml": "{{- if .Values.never }}\nkind: X\n{{- end }}\n",
			"conf/a.txt":             "x\ny\n", "conf/b.bin": "\x00\x01", ".helmignore": "*.bak\nignored/\n", "x.bak": "no", "ignored/y": "no",
		},
		"parent": {
			"Chart.yaml":                               meta("parent", "dependencies:\n- {name: one, version: 1.2.3, condition: one.enabled}\n- {name: two, version: 1.2.3, tags: [t]}\n- {name: one, version: 1.2.3, alias: other}\n"),
			"values.yaml":                              "global: {g: parent, m: {x: 1}}\none: {enabled: true, color: red, gone: null, deep: {a: parent}}\ntags: {t: false}\nother: {color: blue}\n",
			"templates/p.yaml":                         "v: {{ toJson .Values }}\nsub: {{ include \"one.x\" . }}\nshared: {{ include \"shared\" . }}\n",
			"templates/_shared.tpl":                    "{{- define \"shared\" }}of the parent{{ end }}",
			"charts/one/Chart.yaml":                    meta("one", "dependencies: [{name: inner, version: 1.2.3}]\n"),
			"charts/one/values.yaml":                   "color: green\ngone: here\ndeep: {a: one, b: one}\nglobal: {m: {y: 2}, own: 1}\n",
			"charts/one/templates/t.yaml":              "v: {{ toJson .Values }}\nc: {{ .Chart.Name }}\nt: {{ .Template.Name }} {{ .Template.BasePath }}\nshared: {{ include \"shared\" . }}\n",
			"charts/one/templates/_x.tpl":              "{{- define \"one.x\" }}x{{ .Values.color }}{{ end }}{{- define \"shared\" }}of one{{ end }}",
			"charts/one/charts/inner/Chart.yaml":       meta("inner", ""),
			"charts/one/charts/inner/values.yaml":      "i: 1\n",
			"charts/one/charts/inner/templates/i.yaml": "v: {{ toJson .Values }}\n",
			"charts/two/Chart.yaml":                    meta("two", ""),
			"charts/two/templates/t.yaml":              "kind: two\n",
			"charts/lib/Chart.yaml":                    meta("lib", "type: library\n"),
			"charts/lib/templates/_l.tpl":              "{{- define \"lib\" }}l{{ end }}",
		},
		"imports": {
			"Chart.yaml": meta("imports", "dependencies:\n- {name: one, version: 1.2.3, import-values: [data, none, {child: deep.er, parent: taken.here}, {child: none, parent: x}]}\n"+
				"- {name: two, version: 1.2.3, alias: second, condition: second.on, import-values: [{child: exports, parent: .}]}\n"),
			"values.yaml":                      "second: {on: true}\nport: 1\ntaken: {here: {a: parent}}\n",
			"templates/p.yaml":                 "v: {{ toJson .Values }}\n",
			"charts/one/Chart.yaml":            meta("one", "dependencies: [{name: in, version: 1.2.3, import-values: [{child: x, parent: deep.er}]}]\n"),
			"charts/one/values.yaml":           "exports: {data: {port: 2, host: h}}\ndeep: {er: {a: one, b: one}}\n",
			"charts/one/templates/o.yaml":      "v: {{ toJson .Values }}\n",
			"charts/one/charts/in/Chart.yaml":  meta("in", ""),
			"charts/one/charts/in/values.yaml": "x: {b: in, c: in}\n",
			"charts/two/Chart.yaml":            meta("two", ""),
			"charts/two/values.yaml":           "exports: {other: 3, host: two}\n",
			"charts/two/templates/t.yaml":      "v: {{ toJson .Values }}\n",
		},
	}
}

func write(t *testing.T, files map[string]string) string {
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

// byHelm is what Helm's own engine makes of a chart.
func byHelm(t *testing.T, dir string, values map[string]any) map[string]string {
	t.Helper()
	c, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		t.Fatal(err)
	}
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = common.KubeVersion{Version: "v1.36.0", Major: "1", Minor: "36"}
	top, err := commonutil.ToRenderValuesWithSchemaValidation(c, values, common.ReleaseOptions{Name: "release-name", Namespace: "default", Revision: 1, IsInstall: true}, caps, true)
	if err != nil {
		t.Fatal(err)
	}
	out, err := engine.Engine{}.RenderWithContext(t.Context(), c, top)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func byVigie(t *testing.T, dir string, values map[string]any) map[string]string {
	t.Helper()
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Instance(values, "1.36")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string][]byte{}
	for _, tpl := range in.Templates {
		texts[tpl.Name] = tpl.Text
	}
	out, err := in.Render(texts, "")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestChartsAreRenderedAsHelmDoes renders charts by Helm's own engine too, and requires the same text of each template.
func TestChartsAreRenderedAsHelmDoes(t *testing.T) {
	for name, files := range charts() {
		for i, values := range []map[string]any{
			{},
			{"tags": map[string]any{"t": true}, "one": map[string]any{"enabled": false}, "global": map[string]any{"g": "user"}},
			{"a": map[string]any{"f": nil, "n": int64(3)}, "one": map[string]any{"deep": map[string]any{"a": nil, "c": "user"}}, "list": []any{"z"}, "other": map[string]any{"inner": map[string]any{"i": int64(9)}},
				"second": map[string]any{"on": false}},
			{"one": map[string]any{"deep": map[string]any{"er": map[string]any{"b": "user"}}}, "taken": map[string]any{"here": map[string]any{"c": "user"}}},
		} {
			t.Run(fmt.Sprintf("%s %d", name, i), func(t *testing.T) {
				dir := write(t, files)
				want, got := byHelm(t, dir, clone(values).(map[string]any)), byVigie(t, dir, clone(values).(map[string]any))
				for template, text := range want {
					if strings.TrimSpace(text) != strings.TrimSpace(got[template]) {
						t.Errorf("%s:\nhelm\n%s\nvigie\n%s", template, text, got[template])
					}
				}
				if len(want) != len(got) {
					t.Errorf("%d templates by helm, %d by vigie", len(want), len(got))
				}
			})
		}
	}
}
