// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

func TestAdmitWithoutACluster(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	exception := write("exception.yaml", exceptionText("web", testNow.Add(time.Hour)))
	typo := write("typo.yaml", strings.Replace(exceptionText("web", testNow), "names:", "name:", 1))
	foreign := write("foreign.yaml", "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: theirs}\nspec:\n  matchConstraints: {resourceRules: "+
		"[{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}\n  validations: [{expression: 'object.spec.shiny()'}]\n")
	pod := write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\nspec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}\n")
	nowhere := filepath.Join(dir, "none")
	for _, c := range []struct {
		args string
		code int
		says string // on either stream
	}{
		{"admit render --control privileged", 0, "name: vigie-pods-audit"},
		{"admit render --control privileged --step deny", 0, "failurePolicy: Fail"},
		{"admit render --control privileged --control host-pid --step-of host-pid=warn", 0, "name: vigie-pods-warn"},
		{"admit render --control privileged --exceptions " + exception, 0, "vigieExcept_web"},
		{"admit render --control privileged --pod-security baseline --fix seccomp-default", 0, "kind: MutatingAdmissionPolicy"},
		{"admit render --control service-selects-nothing", 0, "not for admission, 1 control: it looks at several objects"},
		{"admit render --control image-registry --set image-registry.registries=mine/", 0, "''registries'': ''mine/''"},
		{"admit render --exceptions " + typo, 2, "unknown field"},
		{"admit render --step strict", 2, "the steps are audit, warn, deny"},
		{"admit render --control privileged --step-of host-pid=deny", 2, `no control "host-pid" is chosen`},
		{"admit render --control privileged --fix host-pid", 0, "the fix of host-pid overrules what a manifest says: what looks at the processes"},
		{"admit render --control privileged --fix read-only-root=overrule", 0, "the fix of read-only-root overrules"},
		{"admit render --fix image-digest", 2, `no fix for admission of control "image-digest": it has no fix`},
		{"admit render --fix api-removed-1-25", 2, "it changes the version of the API"},
		{"admit render --fix read-only-root=always", 2, "want CONTROL or CONTROL=overrule"},
		{"controls explain host-pid", 0, "vigie admit apply --fix host-pid: it overrules what a manifest says"},
		{"controls explain read-only-root", 0, "vigie admit apply --fix read-only-root=overrule: also where it says otherwise"},
		{"controls explain api-removed-1-25", 0, "not by an API server: it changes the version"},
		{"admit check --target 1.36 -f " + foreign, 1, "theirs: validations[0].expression"},
		{"admit check --target 1.99 -f " + exception, 0, "this build does not know Kubernetes 1.99"},
		{"admit check --target 2 -f " + foreign, 2, "want a version"},
		{"admit status --kubeconfig " + nowhere, 2, "find the cluster"},
		{"admit controller --rbac", 0, "verbs: [list, watch]"},
		{"scan cluster --rbac --control privileged", 0, "resources: [cronjobs, jobs]"},
		{"scan node --list", 0, "kubelet-anonymous-auth"},
		{"scan " + pod + " --control privileged --exceptions " + exception, 0, "excused web: 1 finding, by team until 2026-"},
		{"scan " + pod + " --control privileged", 1, "1 critical"},
		{"scan " + pod + " --control privileged --exceptions " + typo, 2, "unknown field"},
	} {
		code, out, errs := vigie(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("vigie %s: code %d, want %d with %q:\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
	if code, out, errs := vigie(t, "scan", "cluster", "--rbac"); code != 0 || strings.Contains(out, "secrets") {
		t.Errorf("a scan may read secrets by itself: %d\n%s%s", code, out, errs)
	}
}

// exceptionText excuses privileged pods whose names begin so.
func exceptionText(name string, expires time.Time) string {
	return "apiVersion: vigie.io/v1alpha1\nkind: PolicyException\nmetadata: {name: " + name + "}\nspec: {owner: team, reason: it must, expires: \"" +
		expires.UTC().Format(time.RFC3339) + "\", controls: [privileged], names: [\"" + name + "-*\"]}\n"
}

const twoPods = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: good, namespace: shop}
spec: {containers: [{name: a, image: b}]}
`

// TestAdmitOnAnAPIServer is a rollout as an administrator does it: by the commands, on a real API server.
func TestAdmitOnAnAPIServer(t *testing.T) {
	c := lab.API(t, "1.36", "--disable-admission-plugins=ServiceAccount")
	c.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
	c.Apply(t, twoPods)
	run := func(code int, says string, args ...string) string {
		t.Helper()
		got, out, errs := vigie(t, append(args, "--kubeconfig", c.Kubeconfig)...)
		if got != code || !strings.Contains(out+errs, says) {
			t.Fatalf("vigie %v: code %d, want %d with %q:\n%s%s", args, got, code, says, out, errs)
		}
		return out
	}
	run(1, "was never applied", "admit", "status")
	run(2, "was never applied", "admit", "rollout")
	run(0, "2 created, 0 changed", "admit", "apply", "--control", "privileged", "--control", "host-pid", "--dry-run")
	run(0, "2 created, 0 changed, 0 removed, 0 unchanged: 2 controls in 1 policy", "admit", "apply", "--control", "privileged", "--control", "host-pid")
	run(0, "controls: 2 at audit, 0 at warn, 0 at deny", "admit", "status")
	run(1, "refused privileged stays at audit: it is at audit for 0s, want 24h0m0s", "admit", "rollout")
	run(0, "2 steps taken, 0 refused", "admit", "rollout", "--soak", "0")
	out := run(1, "1 step taken, 1 refused", "admit", "rollout", "--soak", "0")
	for _, want := range []string{"privileged would deny Pod shop/web-1: privileged container: a", "refused privileged stays at warn: 1 objects", "step host-pid: warn to deny"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	c.Apply(t, exceptionText("web", testNow.Add(time.Hour)))
	run(0, "step privileged: warn to deny", "admit", "rollout", "--soak", "0")
	out = run(0, "vigie-pods-deny", "admit", "status")
	if !strings.Contains(out, "exception web holds until") || !strings.Contains(out, "2 at deny") {
		t.Errorf("status:\n%s", out)
	}
	run(0, "excused web: 1 finding, by team until", "scan", "cluster", "--control", "privileged")
	run(0, "step privileged: deny to warn", "admit", "rollout", "--back", "--control", "privileged")
	run(0, "0 created, 0 changed, 0 removed, 4 unchanged", "admit", "apply")
	run(0, "compiled for Kubernetes 1.37: 0 errors", "admit", "check", "--target", "1.37")
}
