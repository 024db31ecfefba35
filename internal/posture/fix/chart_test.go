// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/render"
)

const chartMeta = "apiVersion: v2\nname: shop\nversion: 1.0.0\n"

// podOf is a template of a pod whose container has the security context of a value.
func podOf(name, value string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  hostPID: {{ .Values.hostPID | default false }}\n  containers:\n  - name: a\n    image: b\n" +
		"    securityContext: {{- toYaml " + value + " | nindent 6 }}\n"
}

// TestWhatAChartCanBeGiven proposes values of charts with schemas and with charts in them.
func TestWhatAChartCanBeGiven(t *testing.T) {
	const set = "securityContext.readOnlyRootFilesystem=true"
	schema := func(properties string) string {
		return `{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {` + properties + `}}`
	}
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no schema": {map[string]string{"values.yaml": "securityContext: {}\nhostPID: true\n"}, []string{"hostPID=false", set}},
		"a schema that allows it": {map[string]string{"values.yaml": "securityContext: {}\n",
			"values.schema.json": schema(`"securityContext": {"type": "object", "properties": {"readOnlyRootFilesystem": {"type": "boolean"}}}`)}, []string{set}},
		"another type": {map[string]string{"values.yaml": "securityContext: {}\n",
			"values.schema.json": schema(`"securityContext": {"type": "object", "properties": {"readOnlyRootFilesystem": {"type": "string"}}}`)}, nil},
		"one of others": {map[string]string{"values.yaml": "securityContext: {}\nhostPID: true\n", "values.schema.json": schema(`"hostPID": {"enum": [true]}`)}, []string{set}},
		"no other names": {map[string]string{"values.yaml": "securityContext: {}\n",
			"values.schema.json": `{"properties": {"securityContext": {"$ref": "#/definitions/c"}}, "definitions": {"c": {"properties": {"runAsUser": {}}, "additionalProperties": false}}}`}, nil},
		"only together": {map[string]string{"values.yaml": "securityContext: {}\n",
			"values.schema.json": schema(`"securityContext": {"dependentRequired": {"readOnlyRootFilesystem": ["runAsUser"]}, "dependencies": {"readOnlyRootFilesystem": ["runAsUser"]}}`)}, nil},
		"values that are wrong already": {map[string]string{"values.yaml": "securityContext: {}\nport: x\n", "values.schema.json": schema(`"port": {"type": "integer"}`)}, []string{set}},
		"only the schema has it":        {map[string]string{"values.yaml": "{}\n", "values.schema.json": schema(`"securityContext": {"type": "object"}, "hostPID": {"type": "boolean"}`)}, []string{set}},
		"a schema that needs another":   {map[string]string{"values.yaml": "securityContext: {}\n", "values.schema.json": schema(`"securityContext": {"$ref": "http://127.0.0.1:1/x.json"}`)}, []string{set}},
		"a chart in it": {map[string]string{"values.yaml": "securityContext: {readOnlyRootFilesystem: true}\n", "Chart.yaml": chartMeta + "dependencies: [{name: db, version: 1.0.0, alias: store}]\n",
			"charts/db/Chart.yaml": "apiVersion: v2\nname: db\nversion: 1.0.0\n", "charts/db/values.yaml": "securityContext: {}\n", "charts/db/templates/pod.yaml": podOf("db", ".Values.securityContext")},
			[]string{"store." + set}},
		"a chart in it with a schema": {map[string]string{"values.yaml": "securityContext: {readOnlyRootFilesystem: true}\n", "Chart.yaml": chartMeta + "dependencies: [{name: db, version: 1.0.0}]\n",
			"charts/db/Chart.yaml": "apiVersion: v2\nname: db\nversion: 1.0.0\n", "charts/db/values.yaml": "securityContext: {}\n", "charts/db/templates/pod.yaml": podOf("db", ".Values.securityContext"),
			"charts/db/values.schema.json": schema(`"securityContext": {"maxProperties": 0}`)}, nil},
		"values taken over": {map[string]string{"values.yaml": "{}\n", "Chart.yaml": chartMeta + "dependencies: [{name: lib, version: 1.0.0, import-values: [{child: hard, parent: mine}]}]\n",
			"templates/pod.yaml": podOf("web", ".Values.mine.securityContext"), "charts/lib/Chart.yaml": "apiVersion: v2\nname: lib\nversion: 1.0.0\ntype: library\n",
			"charts/lib/values.yaml": "hard: {securityContext: {runAsUser: 5}}\n"}, []string{"mine." + set}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"Chart.yaml": chartMeta, "templates/pod.yaml": podOf("web", ".Values.securityContext")}
			for file, text := range tt.files {
				files[file] = text
			}
			for file, text := range files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f := &Fixer{Judge: judge(t, "read-only-root", "host-pid")}
			proposals, before, err := f.Chart(t.Context(), dir, render.Values{Version: "1.36"})
			if err != nil || len(before.Problems) > 0 {
				t.Fatal(err, before)
			}
			var got []string
			for _, p := range proposals {
				got = append(got, p.Set)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
