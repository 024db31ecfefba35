// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is wrong with a text, the error says where and what, nothing of it comes in force, and what was in force goes on to
// act: by the API and by a file of the directory.
func TestWhatIsWrongChangesNothingInForce(t *testing.T) {
	p := newPolicyTrial(t)
	p.agent = startAgent(t, "--policy-dir", p.policies, "--enforce-backends", "execkill")
	policy, runs := p.forbids()
	p.write(p.file, policy)
	p.policy(0, p.asked("apply", "-f", p.file), "policy kills: in force, enforce")

	const head = "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: other}\nspec:\n  selector: {}\n  mode: enforce\n"
	var cidrs, wild strings.Builder
	for i := range 70_000 {
		fmt.Fprintf(&cidrs, "10.%d.%d.%d, ", i>>16, i>>8&0xff, i&0xff)
	}
	for i := range 40 {
		fmt.Fprintf(&wild, "    - /**/a%d/**/b%d/**\n", i, i)
	}
	for _, c := range []struct {
		name, text string
		code       int
		says       []string
	}{
		{"no YAML", head + "  processes: {allow: [\n", 2, []string{":7:", "not YAML"}},
		{"an unknown field", head + "  processes: {forbid: [/bin/a]}\n", 2, []string{":7:15: spec.processes.forbid"}},
		{"a wrong type", head + "  processes: {deny: {a: b}}\n", 2, []string{":7:21: spec.processes.deny"}},
		{"a wrong value", head + "  files:\n    deny: [{path: /a, access: wrote}]\n", 2, []string{":8:31: spec.files.deny[0].access", `"wrote" is not known`}},
		{"a glob", head + "  processes: {deny: [\"/a[z-b]\"]}\n", 2, []string{":7:22: spec.processes.deny[0]", "range z-b"}},
		{"too many wildcards", head + "  processes:\n    deny:\n" + wild.String(), 2, []string{"too large", "split the policy"}},
		{"too many rules", head + "  processes:\n    deny:\n" + strings.Repeat("    - /bin/a\n", 1<<14), 2, []string{"at most 16367"}},
		{"too many CIDRs", head + "  network: {egress: {deny: [{to: {cidr: [" + cidrs.String() + "]}}]}}\n", 2, []string{"at most 65536"}},
		{"what nothing here carries", head + "  operations: {deny: [mount]}\n", 1, []string{":3:18:", "spec.operations.deny[0]", "weaker: accept"}},
		{"a good one before a bad one", strings.Replace(head, "name: other", "name: good", 1) + "  processes: {deny: [/nowhere]}\n---\n" + head + "  nothing: {}\n", 2,
			[]string{":15:3: spec.nothing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.write(p.file, c.text)
			args := p.asked("policy", "apply", "-f", p.file)
			stdout, stderr, code := run(t, nil, args...)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, text := range append(c.says, p.file) {
				if !strings.Contains(stderr, text) {
					t.Errorf("it does not say %q: %.2000s%.2000s", text, stdout, stderr)
				}
			}
			if runs() {
				t.Error("what was in force acts no more")
			}
			if list, _, _ := run(t, nil, p.asked("policy", "list")...); !strings.Contains(list, "kills") || strings.Contains(list, "other") || strings.Contains(list, "good") {
				t.Errorf("in force is\n%s", list)
			}
		})
	}

	// The same of a directory, as a whole.
	p.policy(0, p.asked("delete", "kills"), "deleted")
	p.write(filepath.Join(p.policies, "kills.yaml"), policy)
	p.await("the file to act", func() bool { return !runs() })
	p.write(filepath.Join(p.policies, "other.yaml"), head+"  processes: {forbid: [/bin/a]}\n")
	p.await("the broken file to be told", func() bool { return p.call("Health")["ready"] != true })
	if runs() {
		t.Error("a broken file beside it took a policy out of force")
	}
	p.stop()
}
