// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const triedPolicy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web}
spec:
  selector: {unit: nginx.service, user: www-data}
  mode: audit
  processes:
    allow: [{path: /usr/sbin/nginx}]
  files:
    deny: [{path: /etc/shadow}, {path: "/usr/sbin/*", access: [write]}]
  network:
    egress:
      allow:
      - {to: {cidr: 10.0.0.0/8}, ports: [5432/tcp]}
      - {to: {fqdn: "*.example.org"}, ports: [443/tcp]}
    listen:
      allow: [{ports: [443/tcp]}]
  capabilities:
    deny: [{caps: [CAP_NET_RAW]}]
  operations:
    deny: [{ops: [mount]}]
---
apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: other}
`

const casesHead = `apiVersion: vigie.io/v1alpha1
kind: PolicyTest
metadata: {name: web}
as: {unit: nginx.service, binary: /usr/sbin/nginx, user: www-data}
cases:
`

func TestPolicyTestHoldsPoliciesToCases(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("web.yaml", triedPolicy)
	cases := write("web_test.yaml", casesHead+`- name: serves
  allow: [exec /usr/sbin/nginx, read /var/www/index.html, "connect 10.1.2.3:5432", "connect www.example.org:443/tcp",
    "connect www.example.org=192.0.2.1:443", listen 443, "listen [::]:443/tcp", capability CAP_NET_BIND_SERVICE, ptrace]
- name: nothing else
  deny: [exec /bin/sh, read /etc/shadow, write /usr/sbin/nginx, "connect 10.1.2.3:22", "connect 192.0.2.1:443", "send 10.0.0.1:5432",
    listen 8080/tcp, capability net_raw, mount, socket]
- name: what root starts by hand is not meant, but its children are
  as: {user: root, parent: /bin/x}
  allow: [exec /bin/sh]
`)
	code, out, stderr := vigie(t, "policy", "test", "-f", dir)
	want := "FAIL " + cases + ":14: what root starts by hand is not meant, but its children are: exec /bin/sh: no policy selects /usr/sbin/nginx, unit nginx.service, user root: see `as` and the policies' selectors\n" +
		"FAIL: 1 of 20 accesses in 3 cases against 1 policy went wrong\n"
	if code != 1 || out != want || stderr != "" {
		t.Errorf("exit %d: %s\n%s\nwant\n%s", code, stderr, out, want)
	}
	write("web_test.yaml", casesHead+"- {name: one, allow: [read /etc/shadow], deny: [read /x, exec /bin/sh]}\n")
	_, out, _ = vigie(t, "policy", "test", "-f", dir)
	want = "FAIL " + cases + ":6: one: read /etc/shadow: must be allowed: denied by files.deny[0] of policy web\n" +
		"FAIL " + cases + ":6: one: read /x: must be denied: no rule speaks of it\n" +
		"FAIL: 2 of 3 accesses in 1 case against 1 policy went wrong\n"
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	_, out, _ = vigie(t, "policy", "test", "-f", dir, "-o", "json")
	var r caseResult
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[2]), &r); err != nil || len(lines) != 3 || !r.Holds || r.Rule != "processes.allow" || r.Policy != "web" || r.Want != "deny" {
		t.Errorf("%v: %s", err, out)
	}
	write("web_test.yaml", casesHead+"- {name: one, deny: [exec /bin/sh]}\n")
	code, out, _ = vigie(t, "policy", "test", "-f", filepath.Join(dir, "web.yaml"), "-f", cases, "-o", "wide")
	if code != 0 || out != "ok   "+cases+":6: one: exec /bin/sh: denied by processes.allow of policy web\nok: 1 access in 1 case against 1 policy\n" {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestPolicyTestNamesMistakes(t *testing.T) {
	for text, want := range map[string]string{
		casesHead + "- {name: x}\n":                                     ":6:3: cases[0]: tries nothing",
		casesHead + "- {allow: [fly /x]}\n":                             `:6:12: cases[0].allow[0]: "fly /x": begin with one of exec, read`,
		casesHead + "- {allow: [read x]}\n":                             `"read x": write an absolute path behind read`,
		casesHead + "- {allow: [{a: b}]}\n":                             `cases[0].allow[0]: want a text`,
		casesHead + "- {allow: \"read /x\"}\n":                          `cases[0].allow: want a list`,
		casesHead + "- {allow: [\"connect x\"]}\n":                      `want ADDRESS:PORT, NAME:PORT or NAME=ADDRESS:PORT`,
		casesHead + "- {allow: [\"connect x:1/icmp\"]}\n":               `protocol "icmp": write tcp, udp or sctp`,
		casesHead + "- {allow: [listen x]}\n":                           `want PORT or ADDRESS:PORT`,
		casesHead + "- {allow: [capability CAP_FLY]}\n":                 `there is no such capability`,
		casesHead + "- {allow: [mount /x]}\n":                           `mount stands alone`,
		casesHead + "- {allow: [mount], as: {binary: sh, uid: 3}}\n":    `cases[0].as.uid: there is no such field: known are unit, container`,
		casesHead + "- {allow: [mount], as: {binary: sh, unit: [1]}}\n": `cases[0].as.unit: want a text`,
		casesHead + "- {allow: [mount], as: {binary: sh}}\n":            `cases[0].as.binary: "sh" is no absolute path`,
		casesHead: "cases: write a list of cases",
		strings.Replace(casesHead, "v1alpha1", "v9", 1) + "- {allow: [mount]}\n": "apiVersion: write vigie.io/v1alpha1",
		"kind: Zebra\n":                    `kind: "Zebra" cannot be tested`,
		"kind: [\n":                        "not YAML",
		"# nothing\n":                      "there are no cases in",
		triedPolicy:                        "there are no cases in",
		casesHead + "- {allow: [mount]}\n": "there are no policies in",
	} {
		code, _, stderr := vigie(t, "policy", "test", "-f", policyFileOf(t, text))
		if code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s\nwant %s", text, code, stderr, want)
		}
	}
}
