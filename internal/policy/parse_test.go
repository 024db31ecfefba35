// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

const everything = `# two documents
---
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web, labels: {team: "7"}}
spec:
  selector: {matchLabels: {app: web}, unit: "nginx*", container: web, user: 33, binary: /usr/sbin/nginx}
  mode: enforce
  processes:
    allow: [/usr/sbin/nginx, {path: "/usr/lib/**", by: /usr/sbin/nginx, parent: [/a, /b], weaker: accept}]
  files:
    allow: []
    deny: [{path: /etc/shadow, access: [write, read]}, {path: "/root/.ssh/**", access: all}]
  network:
    egress:
      allow:
      - {to: {cidr: 10.0.0.0/8, cidrs: [fd00::/8], except: 10.1.0.0/16}, ports: [443/tcp, 8000-8100/tcp, "53", 25, "*/udp", icmp]}
      - {to: {fqdn: "*.example.org"}}
      - to: {workload: {unit: db.service}}
    ingress: {deny: [{from: {cidr: 192.0.2.1}}], weaker: accept}
    listen: {allow: [{on: {cidr: "::1"}, ports: 80/tcp}]}
  capabilities: {allow: [CAP_CHOWN, {caps: [net_admin], by: /sbin/ip}]}
  operations: {deny: [ptrace, {ops: [bpf, module]}]}
  onDenied: kill
  weaker: accept
  onAgentExit: keep
  onTimeout: deny
---
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: b}
spec: {selector: {}, processes: {deny: [/bin/sh]}}
`

func TestParse(t *testing.T) {
	policies, err := Parse("web.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	if len(policies) != 2 {
		t.Fatalf("%d policies", len(policies))
	}
	got := *policies[0]
	if !strings.HasPrefix(got.Source, "apiVersion") || strings.Contains(got.Source, "name: b") {
		t.Errorf("the source is %q", got.Source)
	}
	got.Source = ""
	peer := Selector{Unit: "db.service"}
	want := Policy{
		Name: "web", Labels: map[string]string{"team": "7"}, Mode: Enforce, OnDenied: Kill, Weaker: true, OnAgentExit: Keep, OnTimeout: TimeoutDeny,
		Selector: Selector{MatchLabels: map[string]string{"app": "web"}, Unit: "nginx*", Container: "web", User: "33", Binary: "/usr/sbin/nginx"},
		Processes: &ProcessRules{HasAllow: true, Allow: []ProcessRule{{Path: "/usr/sbin/nginx"},
			{Path: "/usr/lib/**", By: []string{"/usr/sbin/nginx"}, Parent: []string{"/a", "/b"}, Weaker: true}}},
		Files: &FileRules{HasAllow: true, Allow: []FileRule{}, Deny: []FileRule{{Path: "/etc/shadow", Access: []FileOp{Read, Write}},
			{Path: "/root/.ssh/**", Access: []FileOp{Read, Write, Modify}}}},
		Network: &NetworkRules{
			Egress: &DirectionRules{HasAllow: true, Allow: []NetworkRule{
				{CIDRs: []Prefixed{{"10.0.0.0/8", []string{"10.1.0.0/16"}}, {CIDR: "fd00::/8"}},
					Ports: []PortRange{{443, 443, tcp}, {8000, 8100, tcp}, {53, 53, 0}, {25, 25, 0}, {0, 65535, udp}, {0, 65535, icmp}}},
				{FQDNs: []string{"*.example.org"}}, {Workload: &peer}}},
			Ingress: &DirectionRules{Weaker: true, Deny: []NetworkRule{{CIDRs: []Prefixed{{CIDR: "192.0.2.1"}}}}},
			Listen:  &DirectionRules{HasAllow: true, Allow: []NetworkRule{{CIDRs: []Prefixed{{CIDR: "::1"}}, Ports: []PortRange{{80, 80, tcp}}}}},
		},
		Capabilities: &CapabilityRules{HasAllow: true, Allow: []CapabilityRule{{Caps: []uint8{0}}, {Caps: []uint8{12}, By: []string{"/sbin/ip"}}}},
		Operations:   &OperationRules{Deny: []OperationRule{{Operations: []string{"ptrace"}}, {Operations: []string{"bpf", "module"}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	second := policies[1]
	if second.Mode != Audit || second.OnDenied != Deny || second.OnAgentExit != Release || second.OnTimeout != TimeoutAllow || second.Weaker {
		t.Errorf("the defaults are %+v", second)
	}
}

func TestParseOfNothing(t *testing.T) {
	for _, yaml := range []string{"", "\n", "# nothing\n", "---\n---\n...\n"} {
		if policies, err := Parse("x", []byte(yaml)); err != nil || len(policies) != 0 {
			t.Errorf("%q: %v, %v", yaml, policies, err)
		}
	}
}

// TestErrors: each line of a wrong spec ends with "# COLUMN FIELD: what the message has in it".
func TestErrors(t *testing.T) {
	for _, spec := range []string{
		"  selektor: {} # 3 spec.selektor: did you mean selector",
		"  mode: enforced # 9 spec.mode: write audit or enforce",
		"  mode: true # 9 spec.mode: true or false, not a text",
		"  selector: nginx # 13 spec.selector: is a text, not fields",
		"  selector: {user: 'A B'} # 20 spec.selector.user: is no user",
		"  selector: {unit: 'a/**'} # 20 spec.selector.unit: wildcards",
		"  selector: {matchLabels: {a: 1}} # 31 spec.selector.matchLabels.a: write it in quotes",
		"  selector: {unit: a, unit: b} # 23 spec.selector.unit: is there twice",
		"  weaker: yes # 11 spec.weaker: write refuse or accept",
		"  files: {} # 10 spec.files: is empty",
		"  files: # 9 spec.files: is empty",
		"  files: {weaker: accept} # 10 spec.files: is empty",
		"  files: {deny: /etc/shadow} # 17 spec.files.deny: not a list",
		"  files: {deny: [etc]} # 18 spec.files.deny[0]: no absolute path",
		"  files: {deny: [{}]} # 18 spec.files.deny[0].path: is missing",
		"  files: {deny: [{path: /a/../b}]} # 25 spec.files.deny[0].path: the component \"..\"",
		"  files: {deny: [/a, /b/]} # 22 spec.files.deny[1]: ends with '/'",
		"  files: {deny: ['/a***']} # 18 spec.files.deny[0]: 3 '*' in a row",
		"  files: {deny: ['/a[b']} # 18 spec.files.deny[0]: without its ']'",
		"  files: {deny: [{path: /a, access: [read, wrote]}]} # 44 spec.files.deny[0].access[1]: write read, write, modify or all",
		"  files: {deny: [{path: /a, acess: [read]}]} # 29 spec.files.deny[0].acess: did you mean access",
		"  files: {deny: [{path: /a, by: []}]} # 33 spec.files.deny[0].by: is an empty list",
		"  files: {deny: [\"/a\\u202eb\"]} # 18 spec.files.deny[0]: invisible character U+202E",
		"  files: {deny: [\"/a\\nb\"]} # 18 spec.files.deny[0]: control character U+000A",
		"  files: {deny: [!!binary aGk=]} # 18 spec.files.deny[0]: !!binary",
		"  network: {egress: {deny: [{}]}} # 29 spec.network.egress.deny[0]: names nothing",
		"  network: {egress: {deny: [{to: {}}]}} # 34 spec.network.egress.deny[0].to: is empty",
		"  network: {egress: {deny: [{to: {cidr: 10.0.0.1/8}}]}} # 41 spec.network.egress.deny[0].to.cidr: write 10.0.0.0/8",
		"  network: {egress: {deny: [{to: {cidr: 10.0.0}}]}} # 41 spec.network.egress.deny[0].to.cidr: is no CIDR",
		"  network: {egress: {deny: [{to: {cidr: 10.0.0.0/8, except: 11.0.0.0/8}}]}} # 61 spec.network.egress.deny[0].to.except: takes nothing away",
		"  network: {egress: {deny: [{to: {cidr: 10.0.0.0/8, fqdn: a.org}}]}} # 59 spec.network.egress.deny[0].to.fqdn: a rule of its own",
		"  network: {egress: {deny: [{to: {fqdn: A.org}}]}} # 41 spec.network.egress.deny[0].to.fqdn: lower case",
		"  network: {egress: {deny: [{ports: 443/tpc}]}} # 37 spec.network.egress.deny[0].ports: has no protocol",
		"  network: {egress: {deny: [{ports: 70000/tcp}]}} # 37 spec.network.egress.deny[0].ports: has no port from 0",
		"  network: {egress: {deny: [{ports: [9-1]}]}} # 38 spec.network.egress.deny[0].ports[0]: empty range",
		"  network: {ingress: {deny: [{to: {cidr: 10.0.0.0/8}}]}} # 31 spec.network.ingress.deny[0].to: is no field",
		"  network: {ingress: {deny: [{from: {fqdn: a.org}}]}} # 38 spec.network.ingress.deny[0].from.fqdn: is no field",
		"  capabilities: {deny: [CAP_NET_ADMN]} # 25 spec.capabilities.deny[0]: did you mean CAP_NET_ADMIN",
		"  operations: {deny: [reboot]} # 23 spec.operations.deny[0]: write ptrace, bpf, mount or module",
		"  <<: {} # 3 spec: merge keys",
	} {
		text, want, _ := strings.Cut(spec, " # ")
		column, want, _ := strings.Cut(want, " ")
		field, want, _ := strings.Cut(want, ": ")
		yaml := "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: p}\nspec:\n" + text + "\n"
		if !strings.Contains(text, " selector") {
			yaml += "  selector: {}\n"
		}
		if !strings.Contains(text, "files") {
			yaml += "  files: {deny: [/x]}\n"
		}
		_, err := Parse("p.yaml", []byte(yaml))
		prefix := "p.yaml:5:" + column + ": " + field + ": "
		if err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s … %s", text, err, prefix, want)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	policies, err := Parse("p.yaml", []byte(`kind: WorkloadPolicy
metadata: {name: p_1}
spec:
  selector: {}
  mode: x
---
apiVersion: vigie.io/v1alpha1
kind: TracingPolicy
---
a: [
---
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: q}
spec: {selector: {}, processes: {deny: [/a]}}
---
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: q}
spec: {selector: {}}
`))
	if policies != nil {
		t.Error("a part of what is wrong was returned")
	}
	var list Errors
	if !errors.As(err, &list) {
		t.Fatalf("%T", err)
	}
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%d:%d %s", e.Line, e.Column, e.Field))
	}
	want := "1:1 apiVersion, 2:18 metadata.name, 5:9 spec.mode, 8:7 kind, 10:1 , 20:7 spec"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s\n%v", strings.Join(got, ", "), want, err)
	}
	_, err = Parse("p.yaml", []byte(strings.Replace(everything, "name: b", "name: web", 1)))
	if err == nil || !strings.Contains(err.Error(), `p.yaml:31:18: metadata.name: "web" is also the name of the policy in line 5`) {
		t.Error(err)
	}
}

func TestParseIsBounded(t *testing.T) {
	header := "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: p}\nspec:\n  selector: {}\n  processes:\n"
	// Each line has ten times the one before: 10^9 values.
	bomb := "x0: &x0 [/a, /a, /a, /a, /a, /a, /a, /a, /a, /a]\n"
	for i := range 8 {
		bomb += fmt.Sprintf("x%d: &x%d [*x%d%s]\n", i+1, i+1, i, strings.Repeat(fmt.Sprintf(", *x%d", i), 9))
	}
	for name, yaml := range map[string]string{
		"bytes":   header + strings.Repeat("#", maxSource),
		"aliases": bomb + header + "    deny: [{path: /a, by: *x8}]\n",
		"self":    header + "    deny: &a [*a]\n",
		"rules":   header + "    deny:\n" + strings.Repeat("    - /a\n", maxRules+1),
		"depth":   header + "    deny: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n",
	} {
		if _, err := Parse("x", []byte(yaml)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "    - path%d\n", i)
	}
	_, err := Parse("x", []byte(header+"    deny:\n"+many.String()))
	var list Errors
	if !errors.As(err, &list) || len(list) != maxErrors+1 {
		t.Errorf("%d errors are told, not %d", len(list), maxErrors+1)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("-d: \r|inWQ"))
	f.Add([]byte("--\n...\n---\rP"))
	f.Add([]byte("--- {kind: WorkloadPolicy}\n...\n--- |\n x\n"))
	f.Fuzz(func(t *testing.T, yaml []byte) {
		policies, err := Parse("x", yaml)
		if err != nil {
			var list Errors
			if policies != nil || !errors.As(err, &list) || len(list) == 0 {
				t.Fatalf("%v, %v", policies, err)
			}
			lines := 1
			for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // YAML's line breaks
				lines += strings.Count(string(yaml), end)
			}
			for _, e := range list {
				if e.Line < 1 || e.Line > lines || e.Column < 1 || e.Problem == "" {
					t.Fatalf("%+v in a text of %d lines", e, lines)
				}
			}
			return
		}
		for _, p := range policies {
			if again, err := Parse("x", []byte(p.Source)); err != nil || len(again) != 1 || !reflect.DeepEqual(again[0].Selector, p.Selector) {
				t.Fatalf("the source of a policy is no policy: %v", err)
			}
			if _, err := Compile(p, testEnv()); err != nil && !errors.Is(err, errTooLarge) && !strings.Contains(err.Error(), "split") &&
				!strings.Contains(err.Error(), "selector.user") {
				t.Fatal(err)
			}
		}
	})
}

// TestDocs: the examples of docs/policy.md are policies.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var example strings.Builder
	for line := range strings.Lines(string(page)) {
		code, ok := strings.CutPrefix(line, "    ")
		if ok && (example.Len() > 0 || strings.HasPrefix(code, "apiVersion:")) {
			example.WriteString(code)
		} else if !ok && example.Len() > 0 {
			break
		}
	}
	if table := mustCompile(t, example.String()); len(table.Rules) < 8 {
		t.Errorf("the example has only %d rules", len(table.Rules)-1)
	}
}
