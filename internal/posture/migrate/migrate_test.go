// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// verdict says how the controls that rules became judge an object: failed, passed or nothing.
func verdict(t *testing.T, rules []Rule, object string) string {
	t.Helper()
	var controls []*control.Control
	for _, r := range rules {
		if r.Control == "" {
			t.Fatalf("%s was not taken over: %v", r, r.Missing)
		}
		c, err := control.Parse(r.Control+".yaml", r.Text)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Text)
		}
		controls = append(controls, c)
	}
	j, err := scan.NewJudge(controls, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.Run(t.Context(), []string{scan.Stdin}, strings.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	out := "nothing"
	for _, tally := range r.Tallies {
		switch {
		case tally.Unevaluated > 0:
			return r.Problems[0].Message
		case tally.Failed > 0:
			out = "failed"
		case tally.Passed > 0 && out == "nothing":
			out = "passed"
		}
	}
	return out
}

func read(t *testing.T, from func(io.Reader, string) ([]Rule, error), text string) []Rule {
	t.Helper()
	rules, err := from(strings.NewReader(text), "f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// kyverno is a policy of one rule.
func kyverno(kinds, rule string) string {
	return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata:\n  name: p\n  annotations: {policies.kyverno.io/title: Title, policies.kyverno.io/severity: high}\nspec:\n  rules:\n" +
		"  - name: r\n    match: {any: [{resources: {kinds: [" + kinds + "]}}]}\n" + rule
}

func patternRule(p string) string { return "    validate: {message: nope, pattern: " + p + "}\n" }

func pod(spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: " + spec + "\n"
}

func deployment(spec string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: shop}\nspec: {template: {metadata: {labels: {app: web}}, spec: " + spec + "}}\n"
}

// sample is a policy, or a part of one, with an object that is bad and one that is good.
type sample struct{ name, kinds, policy, bad, good string }

// patternSamples are validate.pattern of a rule for pods, and specs of pods.
func patternSamples() []sample {
	return []sample{
		{"a value", "Pod", "{spec: {dnsPolicy: Default}}", "{dnsPolicy: None}", "{dnsPolicy: Default, containers: []}"},
		{"that may be absent", "Pod", "{spec: {=(hostNetwork): false}}", "{hostNetwork: true}", "{containers: []}"},
		{"in each container", "Pod", "{spec: {containers: [{image: '!*:latest'}]}}", "{containers: [{name: a, image: 'a:1'}, {name: b, image: 'b:latest'}]}", "{containers: [{name: a, image: 'a:1'}]}"},
		{"a wildcard", "Pod", "{spec: {containers: [{image: 'registry.example/* | other.example/?*'}]}}", "{containers: [{name: a, image: 'x/a'}]}", "{containers: [{name: a, image: 'other.example/a'}]}"},
		{"that must not be there", "Pod", "{spec: {X(hostPID): 'null'}}", "{hostPID: true}", "{containers: []}"},
		{"that must be there", "Pod", "{spec: {containers: [{resources: {limits: {memory: '?*'}}}]}}", "{containers: [{name: a, image: b}]}", "{containers: [{name: a, image: b, resources: {limits: {memory: 1Gi}}}]}"},
		{"an amount", "Pod", "{spec: {containers: [{resources: {limits: {memory: '<=1Gi'}}}]}}", "{containers: [{name: a, image: b, resources: {limits: {memory: 2000Mi}}}]}", "{containers: [{name: a, image: b, resources: {limits: {memory: 1000Mi}}}]}"},
		{"a condition", "Pod", "{spec: {containers: [{(name): 'web*', imagePullPolicy: Always}]}}", "{containers: [{name: web1, image: 'b:1'}]}", "{containers: [{name: other, image: 'b:1'}]}"},
		{"one of them", "Pod", "{spec: {^(containers): [{name: side}]}}", "{containers: [{name: a, image: b}]}", "{containers: [{name: a, image: b}, {name: side, image: b}]}"},
		{"a range", "Pod", "{spec: {priority: 1-5}}", "{priority: 9}", "{priority: 3}"},
		{"a label of the pods", "Pod", "{metadata: {labels: {app: 'w?b'}}, spec: {=(hostIPC): false}}", "{hostIPC: true}", "{containers: []}"},
	}
}

func TestKyvernoPatterns(t *testing.T) {
	for _, tt := range patternSamples() {
		t.Run(tt.name, func(t *testing.T) {
			rules := read(t, Kyverno, kyverno(tt.kinds, patternRule(tt.policy)))
			for object, want := range map[string]string{pod(tt.bad): "failed", pod(tt.good): "passed", deployment(tt.bad): "failed", deployment(tt.good): "passed"} {
				if got := verdict(t, rules, object); got != want {
					t.Errorf("%s, want %s of\n%s\nby\n%s", got, want, object, rules[0].Text)
				}
			}
			if !strings.Contains(string(rules[0].Text), "severity: high") || !strings.Contains(string(rules[0].Text), "title: Title") {
				t.Errorf("what describes it is lost:\n%s", rules[0].Text)
			}
		})
	}
}

// ruleSamples are of one rule each, with whole objects.
func ruleSamples() []sample {
	service := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: " + spec + "\n"
	}
	return []sample{
		{"deny", "Service", "    validate: {message: nope, deny: {conditions: {any: [{key: \"{{ request.object.spec.type || 'x' }}\", operator: Equals, value: NodePort}]}}}\n",
			service("{type: NodePort}"), service("{}")},
		{"deny by a list", "Service", "    validate: {message: nope, deny: {conditions: {all: [{key: \"{{ request.object.spec.ports[].port }}\", operator: AnyIn, value: ['22', '23']}]}}}\n",
			service("{ports: [{port: 80}, {port: 22}]}"), service("{ports: [{port: 80}]}")},
		{"deny by a label", "Service", "    validate: {message: nope, deny: {conditions: [{key: \"{{ request.object.metadata.labels.app || '' }}\", operator: NotIn, value: [db*]}]}}\n",
			service("{}"), strings.Replace(service("{}"), "app: web", "app: db1", 1)},
		{"cel", "Service", "    validate: {message: nope, cel: {expressions: [{expression: \"object.spec.type != 'NodePort'\", message: x}]}}\n",
			service("{type: NodePort}"), service("{type: ClusterIP}")},
		{"any of the patterns", "Service", "    validate: {message: nope, anyPattern: [{spec: {type: ClusterIP}}, {spec: {type: ExternalName}}]}\n",
			service("{type: NodePort}"), service("{type: ClusterIP}")},
		{"excluded", "Service", "    exclude: {any: [{resources: {namespaces: [shop*], selector: {matchLabels: {app: web}}}}]}\n    validate: {message: nope, pattern: {spec: {type: ClusterIP}}}\n",
			strings.Replace(service("{type: NodePort}"), "shop", "kube", 1), service("{type: NodePort}")},
	}
}

func TestKyvernoRules(t *testing.T) {
	for _, tt := range ruleSamples() {
		t.Run(tt.name, func(t *testing.T) {
			rules := read(t, Kyverno, kyverno(tt.kinds, tt.policy))
			if got := verdict(t, rules, tt.bad); got != "failed" {
				t.Errorf("the bad one: %s\n%s", got, rules[0].Text)
			}
			if got := verdict(t, rules, tt.good); got == "failed" || strings.Contains(got, "error") {
				t.Errorf("the good one: %s\n%s", got, rules[0].Text)
			}
		})
	}
}

func TestWhatKyvernoHasAndCELHasNot(t *testing.T) {
	for rule, want := range map[string]string{
		"    mutate: {patchStrategicMerge: {}}\n":                                                                   "changes objects",
		"    generate: {kind: Secret}\n":                                                                            "other objects",
		"    verifyImages: [{}]\n":                                                                                  "signatures",
		"    context: [{configMap: {name: a}}]\n    validate: {pattern: {a: b}}\n":                                  "context",
		"    validate: {foreach: [{list: x}]}\n":                                                                    "foreach",
		"    validate: {podSecurity: {level: baseline}}\n":                                                          "framework:pss",
		"    validate: {pattern: {metadata: {labels: {a: '{{ request.userInfo }}'}}}}\n":                            "variable",
		"    validate: {pattern: {metadata: {'a*': b}}}\n":                                                          "wildcard",
		"    validate: {deny: {conditions: [{key: '{{ length(request.object.spec) }}', operator: In, value: []}]}}": "path",
		"    validate: {deny: {conditions: [{key: '{{ request.object.spec.a }}', operator: Sounds, value: b}]}}":    "operator",
	} {
		rules := read(t, Kyverno, kyverno("Service", rule))
		if len(rules) != 1 || rules[0].Control != "" || !strings.Contains(strings.Join(rules[0].Missing, " "), want) || rules[0].Line != 8 {
			t.Errorf("%s: %+v", rule, rules)
		}
	}
	for _, text := range []string{"a: [", "kind: Pod\n", "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nspec: [1]\n"} {
		if _, err := Kyverno(strings.NewReader(text), "f.yaml"); err == nil || !strings.Contains(err.Error(), "f.yaml:1") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// constraint is one of Gatekeeper for pods and what makes them.
func constraint(kind, parameters string) string {
	return "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: " + kind + "\nmetadata: {name: c}\nspec:\n" +
		"  match: {kinds: [{apiGroups: ['', apps], kinds: [Pod, Deployment]}], excludedNamespaces: [kube-*]}\n  parameters: " + parameters + "\n"
}

// templateSamples are constraints by their kind, with their parameters.
func templateSamples() []sample {
	container := func(fields string) string {
		return pod("{containers: [{name: a, image: 'r.example/a:1', " + fields + "}]}")
	}
	return []sample{
		{"K8sRequiredLabels", "", "{labels: [{key: app, allowedRegex: '^[a-z]+$'}]}", strings.Replace(pod("{}"), "app: web", "app: WEB", 1), pod("{}")},
		{"K8sAllowedRepos", "", "{repos: [r.example/]}", pod("{containers: [{name: a, image: x}]}"), container("tty: true")},
		{"K8sDisallowedTags", "", "{tags: [latest]}", pod("{containers: [{name: a, image: 'r.example:5000/a'}]}"), container("tty: true")},
		{"K8sPSPPrivilegedContainer", "", "{exemptImages: ['sys.example/*']}", container("securityContext: {privileged: true}"), pod("{containers: [{name: a, image: sys.example/a, securityContext: {privileged: true}}]}")},
		{"K8sPSPAllowPrivilegeEscalationContainer", "", "{}", container("tty: true"), container("securityContext: {allowPrivilegeEscalation: false}")},
		{"K8sPSPReadOnlyRootFilesystem", "", "{}", container("tty: true"), container("securityContext: {readOnlyRootFilesystem: true}")},
		{"K8sPSPHostNamespace", "", "{}", pod("{hostPID: true}"), pod("{}")},
		{"K8sPSPVolumeTypes", "", "{volumes: [emptyDir]}", pod("{volumes: [{name: a, hostPath: {path: /}}]}"), pod("{volumes: [{name: a, emptyDir: {}}]}")},
		{"K8sRequiredProbes", "", "{probes: [livenessProbe], probeTypes: [exec, httpGet]}", container("livenessProbe: {tcpSocket: {port: 1}}"), container("livenessProbe: {exec: {command: [a]}}")},
		{"K8sReplicaLimits", "", "{ranges: [{min_replicas: 2, max_replicas: 5}]}", deployment("{}"), strings.Replace(deployment("{}"), "spec: {template", "spec: {replicas: 3, template", 1)},
		{"K8sImageDigests", "", "{}", container("tty: true"), pod("{containers: [{name: a, image: 'a@sha256:1'}]}")},
	}
}

func TestGatekeepersCommonTemplates(t *testing.T) {
	for _, tt := range templateSamples() {
		t.Run(tt.name, func(t *testing.T) {
			rules := read(t, Gatekeeper, constraint(tt.name, tt.policy))
			if got := verdict(t, rules, tt.bad); got != "failed" {
				t.Errorf("the bad one: %s\n%s", got, rules[0].Text)
			}
			if got := verdict(t, rules, tt.good); got != "passed" {
				t.Errorf("the good one: %s\n%s", got, rules[0].Text)
			}
			if got := verdict(t, rules, strings.Replace(tt.bad, "namespace: shop", "namespace: kube-system", 1)); got != "nothing" {
				t.Errorf("in an excluded namespace: %s", got)
			}
		})
	}
}

const native = "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: mine}\nspec:\n  crd: {spec: {names: {kind: Mine}, validation: {openAPIV3Schema: {type: object, properties: {strict: {type: boolean}, hosts: {type: array, items: {type: string}}}}}}}\n  targets:\n  - target: admission.k8s.gatekeeper.sh\n    code:\n" +
	"    - engine: K8sNativeValidation\n      source:\n        variables: [{name: hosts, expression: 'variables.params.hosts'}]\n        validations: [{expression: '!(variables.anyObject.spec.?nodeName.orValue(\"\") in variables.hosts)', message: nope}]\n---\n"

func TestGatekeepersTemplatesInCEL(t *testing.T) {
	rules := read(t, Gatekeeper, native+constraint("Mine", "{hosts: [n1, n2], strict: true}"))
	if got := verdict(t, rules, pod("{nodeName: n2}")); got != "failed" {
		t.Errorf("the bad one: %s\n%s", got, rules[0].Text)
	}
	if got := verdict(t, rules, pod("{nodeName: n3}")); got != "passed" {
		t.Errorf("the good one: %s", got)
	}
}

func TestWhatGatekeeperHasAndCELHasNot(t *testing.T) {
	rego := "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: other}\nspec:\n  crd: {spec: {names: {kind: Other}}}\n  targets: [{rego: package x}]\n---\n"
	for text, want := range map[string]string{
		rego + constraint("Other", "{}"): "Rego",
		rego:                             "no constraint",
		constraint("K8sRequiredLabels", "{labels: [], x: 1}"):        "parameter",
		constraint("K8sAllowedRepos", "{}"):                          "no repos",
		constraint("K8sRequiredProbes", "{probes: [livenessProbe]}"): "no probeTypes",
	} {
		rules := read(t, Gatekeeper, text)
		if len(rules) != 1 || rules[0].Control != "" || !slices.ContainsFunc(rules[0].Missing, func(m string) bool { return strings.Contains(m, want) }) {
			t.Errorf("want %q: %+v", want, rules)
		}
	}
	if _, err := Gatekeeper(strings.NewReader(pod("{}")), "f.yaml"); err == nil {
		t.Error("a pod was taken for a constraint")
	}
}
