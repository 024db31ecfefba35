// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
)

// judgeOf takes some of the controls that come with vigie.
func judgeOf(t *testing.T, names ...string) *Judge {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := control.Select(all, names)
	if err != nil {
		t.Fatal(err)
	}
	_, newest := engine.Supported()
	j, err := NewJudge(picked, newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func scanText(t *testing.T, j *Judge, text string) *Report {
	t.Helper()
	r, err := j.Run(t.Context(), []string{Stdin}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func places(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s %d:%d %s=%s", f.Control, f.Line, f.Column, f.Path, f.Value))
	}
	slices.Sort(out)
	return out
}

const workload = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: good
        image: a
      - name: bad
        image: b
        securityContext: {privileged: true}
        ports:
        - containerPort: 80
        - {containerPort: 81, hostPort: 81}
      initContainers:
      - name: worse
        image: c
        securityContext:
          privileged: true
      volumes:
      - {name: a, emptyDir: {}}
      - name: b
        hostPath: {path: /etc}
`

func TestAFindingIsAtItsPlace(t *testing.T) {
	got := places(scanText(t, judgeOf(t, "privileged", "host-path-sensitive", "host-port"), workload))
	want := []string{
		"host-path-sensitive 26:26 spec.template.spec.volumes[1].hostPath.path=/etc",
		"host-port 17:41 spec.template.spec.containers[1].ports[1].hostPort=81",
		"privileged 14:39 spec.template.spec.containers[1].securityContext.privileged=true",
		"privileged 22:23 spec.template.spec.initContainers[0].securityContext.privileged=true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatIsNotThereIsPlacedWhereItShouldBe(t *testing.T) {
	got := places(scanText(t, judgeOf(t, "read-only-root"), workload))
	want := []string{
		"read-only-root 10:9 spec.template.spec.containers[0].securityContext.readOnlyRootFilesystem=",
		"read-only-root 14:9 spec.template.spec.containers[1].securityContext.readOnlyRootFilesystem=",
		"read-only-root 21:9 spec.template.spec.initContainers[0].securityContext.readOnlyRootFilesystem=",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestThePodsFaultIsNotEachContainers(t *testing.T) {
	text := strings.Replace(workload, "      containers:\n", "      securityContext: {seccompProfile: {type: Unconfined}}\n      containers:\n", 1)
	got := places(scanText(t, judgeOf(t, "seccomp-unconfined"), text))
	if want := []string{"seccomp-unconfined 9:48 spec.template.spec.securityContext.seccompProfile.type=Unconfined"}; !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestRemovedVersionsAreJudgedAsWhatTheyBecame(t *testing.T) {
	text := strings.Replace(workload, "apps/v1", "extensions/v1beta1", 1)
	r := scanText(t, judgeOf(t, "privileged", "api-removed-1-16"), text)
	got := places(r)
	if len(got) != 3 || !strings.HasPrefix(got[0], "api-removed-1-16 1:13 apiVersion=extensions/v1beta1") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	r := scanText(t, judgeOf(t, "plain-secret-in-env"), "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    env: [{name: A, value: b}, {name: DB_PASSWORD, value: hunter2}]\n")
	if len(r.Findings) != 1 || r.Findings[0].Line != 8 || r.Findings[0].Path != "spec.containers[0].env[1].value" {
		t.Fatalf("got %+v", r.Findings)
	}
	if r.Findings[0].Value != "" || strings.Contains(r.Findings[0].Message, "hunter2") {
		t.Errorf("the secret is shown: %+v", r.Findings[0])
	}
}

func TestBadInput(t *testing.T) {
	good := "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}\n---\n"
	for _, tt := range []struct{ name, text, want string }{
		{"broken yaml", "apiVersion: v1\nkind: [\n", "not YAML"},
		{"wrong type", "apiVersion: v1\nkind: Pod\nspec:\n  hostNetwork: [1]\n", "spec.hostNetwork: got a"},
		{"metadata is a list", "apiVersion: example.org/v1\nkind: Thing\nmetadata: [1]\n", "metadata: want an object"},
		{"no version", "apiVersion: a/b/c\nkind: Thing\n", "want group/version"},
		{"twice the same key", "apiVersion: v1\nkind: Pod\nkind: Pod\n", "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := scanText(t, judgeOf(t, "privileged"), good+tt.text+good)
			if len(r.Findings) != 2 {
				t.Errorf("%d findings beside it, want 2", len(r.Findings))
			}
			if !r.Incomplete() || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, tt.want) || r.Problems[0].Line < 7 {
				t.Errorf("problems: %+v", r.Problems)
			}
		})
	}
}

func TestAFieldThatTheKindDoesNotHaveIsNoted(t *testing.T) {
	r := scanText(t, judgeOf(t, "privileged"), "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - {name: a, image: b,\n     privileged: true}\n")
	if len(r.Problems) != 1 || !r.Problems[0].Note || r.Problems[0].Line != 6 || !strings.Contains(r.Problems[0].Message, "spec.containers[0].privileged") || r.Incomplete() {
		t.Errorf("problems: %+v", r.Problems)
	}
}

func TestEmptyObjectsOfEveryKindAreJudged(t *testing.T) {
	j := judgeOf(t)
	var b strings.Builder
	for _, gk := range []string{"v1/Pod", "v1/PodTemplate", "v1/ReplicationController", "v1/Service", "v1/ServiceAccount", "v1/Secret", "v1/ConfigMap", "v1/Endpoints",
		"v1/Namespace", "v1/Node", "v1/PersistentVolume", "v1/PersistentVolumeClaim", "v1/LimitRange", "v1/ResourceQuota", "apps/v1/Deployment", "apps/v1/StatefulSet",
		"apps/v1/DaemonSet", "apps/v1/ReplicaSet", "batch/v1/Job", "batch/v1/CronJob", "networking.k8s.io/v1/Ingress", "networking.k8s.io/v1/NetworkPolicy",
		"rbac.authorization.k8s.io/v1/Role", "rbac.authorization.k8s.io/v1/ClusterRole", "rbac.authorization.k8s.io/v1/RoleBinding", "example.org/v1/Thing",
		"autoscaling/v2/HorizontalPodAutoscaler", "policy/v1/PodDisruptionBudget", "storage.k8s.io/v1/StorageClass", "extensions/v1beta1/Ingress"} {
		i := strings.LastIndexByte(gk, '/')
		for _, spec := range []string{"", "spec: {}\n", "spec: null\n", "metadata: null\n"} {
			fmt.Fprintf(&b, "---\napiVersion: %s\nkind: %s\n%s", gk[:i], gk[i+1:], spec)
		}
	}
	r := scanText(t, j, b.String())
	for _, p := range r.Problems {
		if p.Control == "" && !p.Note {
			t.Errorf("line %d: %s", p.Line, p.Message)
		} else if !p.Note && !strings.Contains(p.Message, "could not be evaluated") {
			t.Errorf("%+v", p)
		}
	}
	if r.Objects != 120 {
		t.Errorf("%d objects", r.Objects)
	}
}

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/one.yaml", workload)
	write("a/notes.txt", "no: [manifest")
	write("a/values.yaml", "replicas: 2\n")
	write(".git/x.yaml", "broken: [")
	write("chart/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n")
	write("chart/templates/t.yaml", "\n{{ if }}")
	for from, to := range map[string]string{"a/loop": "..", "gone.yaml": "nowhere", "two.yaml": "a/one.yaml"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := judgeOf(t, "privileged").Run(t.Context(), []string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Files != 4 || r.Objects != 2 || r.Ignored != 1 || len(r.Findings) != 4 {
		t.Errorf("%d files, %d objects, %d ignored, %d findings", r.Files, r.Objects, r.Ignored, len(r.Findings))
	}
	if len(r.Problems) != 2 || r.Problems[0].Line != 2 || !strings.HasSuffix(r.Problems[0].File, "templates/t.yaml") || !strings.Contains(r.Problems[1].Message, "not there") {
		t.Errorf("problems: %+v", r.Problems)
	}
	if _, err := judgeOf(t, "privileged").Run(t.Context(), []string{filepath.Join(dir, "none")}, nil); err == nil {
		t.Error("a path that is not there was taken")
	}
}

func TestAControlThatCannotBeEvaluatedIsNotPassed(t *testing.T) {
	c, err := control.Parse("mine.yaml", []byte("apiVersion: vigie.io/v1alpha1\nkind: Control\nmetadata: {name: mine}\nspec: {title: t, why: w, remediation: r, severity: low, match: pods, frameworks: {nsa: [x]}}\n"+
		"---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: mine}\nspec:\n  failurePolicy: Ignore\n  validations: [{expression: object.spec.nothing == 1}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJudge([]*control.Control{c}, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := scanText(t, j, workload)
	if r.Tallies[0] != (Tally{Control: "mine", Unevaluated: 1}) || !r.Incomplete() || r.Problems[0].Control != "mine" {
		t.Errorf("tally %+v, problems %+v", r.Tallies, r.Problems)
	}
	if len(r.Frameworks) != 1 || r.Frameworks[0].Score != 0 {
		t.Errorf("scores: %+v", r.Frameworks)
	}
}

func TestABaselineTakesOutWhatItHas(t *testing.T) {
	r := scanText(t, judgeOf(t, "privileged"), workload)
	moved := scanText(t, judgeOf(t, "privileged"), "# a line\n"+workload+"---\n"+strings.ReplaceAll(workload, "name: web", "name: other"))
	known := map[string]int{}
	for _, f := range r.Findings {
		known[f.Fingerprint]++
	}
	moved.Subtract(known)
	if moved.Known != 2 || len(moved.Findings) != 2 || moved.Findings[0].Object.Name != "other" {
		t.Errorf("known %d, left %+v", moved.Known, moved.Findings)
	}
}
