// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files writes a tree and gives the path of its root.
func files(t *testing.T, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tree {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const privilegedPod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p} # kept\nspec:\n  containers:\n  - name: a\n    image: b\n    securityContext: {privileged: true}\n"

func TestFix(t *testing.T) {
	dir := files(t, map[string]string{"pod.yaml": privilegedPod, "broken.yaml": "a: [\n",
		"chart/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "chart/values.yaml": "web: {securityContext: {privileged: true}}\n",
		"chart/templates/pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n    image: b\n    securityContext: {{ toJson .Values.web.securityContext }}\n"})
	pod := filepath.Join(dir, "pod.yaml")
	fixed := strings.Replace(privilegedPod, "privileged: true", "privileged: false", 1)
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
		text string
	}{
		{"not asked for", []string{"--control", "privileged", pod}, 1, []string{"left", "ask for it with --only privileged", "0 fixed, 1 left"}, privilegedPod},
		{"shown", []string{"--only", "privileged", "--dry-run", pod}, 0, []string{"-    securityContext: {privileged: true}\n+    securityContext: {privileged: false}\n", "would fix", "1 would be fixed, 0 left"}, privilegedPod},
		{"made", []string{"--only", "privileged", pod}, 0, []string{"fixed", "1 fixed, 0 left"}, fixed},
		{"once more", []string{"--only", "privileged", pod}, 0, []string{"0 fixed, 0 left"}, fixed},
		{"a broken file beside it", []string{"--only", "privileged", pod, filepath.Join(dir, "broken.yaml")}, 2, []string{"not read", "broken.yaml:1:"}, fixed},
		{"a chart", []string{"--only", "privileged", filepath.Join(dir, "chart")}, 1, []string{"--set web.securityContext.privileged=false fixes 1 of 1 finding of privileged"}, fixed},
		{"no such control", []string{"--only", "none", pod}, 2, nil, fixed},
		{"no such file", []string{filepath.Join(dir, "none")}, 2, nil, fixed},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := vigie(t, append([]string{"fix"}, c.args...)...)
			if code != c.code {
				t.Errorf("code %d, want %d:\n%s%s", code, c.code, out, errs)
			}
			for _, says := range c.says {
				if !strings.Contains(out, says) {
					t.Errorf("%q is not said:\n%s%s", says, out, errs)
				}
			}
			text, err := os.ReadFile(pod)
			if err != nil || string(text) != c.text {
				t.Errorf("%v: the file is\n%s", err, text)
			}
			if info, err := os.Stat(pod); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("%v: its mode is %v", err, info.Mode())
			}
		})
	}
}

func TestScanOfAChart(t *testing.T) {
	dir := files(t, map[string]string{"Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "values.yaml": "x: false\n", "prod.yaml": "x: true\n",
		"templates/pod.yaml": strings.Replace(privilegedPod, "privileged: true", "privileged: {{ .Values.x }}", 1)})
	plain := filepath.Join(files(t, map[string]string{"p.yaml": privilegedPod}), "p.yaml")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{dir}, 0, "nothing found"},
		{[]string{dir, "--set", "x=true"}, 1, "templates/pod.yaml:8:35"},
		{[]string{dir, "-f", filepath.Join(dir, "prod.yaml")}, 1, "1 critical"},
		{[]string{dir, "-f", filepath.Join(dir, "prod.yaml"), "--set", "x=false"}, 0, "nothing found"},
		{[]string{dir, "-f", filepath.Join(dir, "none.yaml")}, 2, ""},
		{[]string{plain, "--set", "x=true"}, 2, ""}, // there is no chart to take it
		{[]string{dir, "-o", "prometheus", "--set", "x=true"}, 1, `vigie_scan_findings{severity="critical"} 1`},
	} {
		code, out, errs := vigie(t, append([]string{"scan", "--control", "privileged"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: code %d, want %d with %q:\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
}

func TestImport(t *testing.T) {
	dir := files(t, map[string]string{"kyverno.yaml": "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  rules:\n" +
		"  - name: good\n    match: {any: [{resources: {kinds: [Pod]}}]}\n    validate: {message: nope, pattern: {spec: {containers: [{image: 'r.example/*'}]}}}\n" +
		"  - name: other\n    match: {any: [{resources: {kinds: [Pod]}}]}\n    mutate: {}\n",
		"constraint.yaml": "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sBlockNodePort\nmetadata: {name: c}\nspec: {match: {kinds: [{apiGroups: [''], kinds: [Service]}]}}\n",
		"pod.yaml":        privilegedPod})
	out := filepath.Join(dir, "controls")
	code, _, errs := vigie(t, "import", "kyverno", filepath.Join(dir, "kyverno.yaml"), "-d", out)
	if code != 1 || !strings.Contains(errs, "1 of 2 rules taken over") || !strings.Contains(errs, "kyverno.yaml:9 p/other: it changes objects") {
		t.Errorf("code %d:\n%s", code, errs)
	}
	code, text, errs := vigie(t, "scan", "--controls", out, "--control", "p-good", filepath.Join(dir, "pod.yaml"))
	if code != 1 || !strings.Contains(text, "nope") {
		t.Errorf("code %d:\n%s%s", code, text, errs)
	}
	code, text, errs = vigie(t, "import", "gatekeeper", filepath.Join(dir, "constraint.yaml"))
	if code != 0 || !strings.Contains(text, "kind: ValidatingAdmissionPolicy") || !strings.Contains(errs, "1 of 1 rule taken over") {
		t.Errorf("code %d:\n%s%s", code, text, errs)
	}
	if code, _, errs = vigie(t, "import", "gatekeeper", filepath.Join(dir, "pod.yaml")); code != 2 || !strings.Contains(errs, "nothing of Gatekeeper") {
		t.Errorf("code %d:\n%s", code, errs)
	}
}
