// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// The parts of Gatekeeper's templates and constraints that decide.
type (
	gatekeeperTemplate struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			CRD struct {
				Spec struct {
					Names struct {
						Kind string `json:"kind"`
					} `json:"names"`
				} `json:"spec"`
			} `json:"crd"`
			Targets []struct {
				Rego string `json:"rego"`
				Code []struct {
					Engine string          `json:"engine"`
					Source json.RawMessage `json:"source"`
				} `json:"code"`
			} `json:"targets"`
		} `json:"spec"`
	}
	gatekeeperCEL struct {
		Variables       []admv1.Variable       `json:"variables"`
		Validations     []admv1.Validation     `json:"validations"`
		MatchConditions []admv1.MatchCondition `json:"matchCondition"`
	}
	gatekeeperConstraint struct {
		Kind     string            `json:"kind"`
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			EnforcementAction string          `json:"enforcementAction"`
			Match             gatekeeperMatch `json:"match"`
			Parameters        map[string]any  `json:"parameters"`
		} `json:"spec"`
	}
	gatekeeperMatch struct {
		Kinds []struct {
			APIGroups []string `json:"apiGroups"`
			Kinds     []string `json:"kinds"`
		} `json:"kinds"`
		Scope              string                `json:"scope"`
		Namespaces         []string              `json:"namespaces"`
		ExcludedNamespaces []string              `json:"excludedNamespaces"`
		LabelSelector      *metav1.LabelSelector `json:"labelSelector"`
		NamespaceSelector  *metav1.LabelSelector `json:"namespaceSelector"`
		Name               string                `json:"name"`
		Source             string                `json:"source"`
	}
)

// Gatekeeper reads constraints, and the templates beside them. A template in CEL is taken over; one in Rego only if it is one of the
// common ones of Gatekeeper's library, which are known by the constraint's kind.
func Gatekeeper(in io.Reader, file string) ([]Rule, error) {
	templates := map[string]*gatekeeperTemplate{}
	var constraints []*gatekeeperConstraint
	var rules []Rule
	used := map[string]bool{}
	err := documents(in, file, func(d *manifest.Document) error {
		apiVersion, _ := d.Value["apiVersion"].(string)
		switch group, _, _ := strings.Cut(apiVersion, "/"); group {
		case "templates.gatekeeper.sh":
			t := &gatekeeperTemplate{}
			if err := into(d, t); err != nil {
				return err
			}
			templates[t.Spec.CRD.Spec.Names.Kind] = t
		case "constraints.gatekeeper.sh":
			c := &gatekeeperConstraint{}
			if err := into(d, c); err != nil {
				return err
			}
			constraints = append(constraints, c)
			rules = append(rules, Rule{Policy: c.Kind, Name: c.Metadata.Name, File: file, Line: d.Line})
		default:
			return fmt.Errorf("%s %v is nothing of Gatekeeper: want a ConstraintTemplate or a constraint", apiVersion, d.Value["kind"])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, c := range constraints {
		used[c.Kind] = true
		if rules[i], err = c.rule(templates[c.Kind], rules[i]); err != nil {
			return nil, err
		}
	}
	for _, kind := range sorted(templates) {
		if !used[kind] {
			rules = append(rules, Rule{Policy: kind, File: file, Line: 1, Missing: []string{"the template has no constraint in this file, which would say what it is for: put both into one"}})
		}
	}
	return rules, nil
}

func (c *gatekeeperConstraint) rule(t *gatekeeperTemplate, r Rule) (Rule, error) {
	d := &draft{id: identifier(c.Kind, c.Metadata.Name), title: c.Kind + " " + c.Metadata.Name, severity: control.Medium}
	if t != nil {
		d.why = t.Metadata.Annotations["description"]
	}
	if err := c.translate(t, d); err != nil {
		r.Missing = append(r.Missing, err.Error())
		return r, nil
	}
	return finish(r, d, "Gatekeeper's constraint "+r.String())
}

func (c *gatekeeperConstraint) translate(t *gatekeeperTemplate, d *draft) error {
	if err := c.Spec.Match.fill(d); err != nil {
		return err
	}
	if t != nil {
		for _, target := range t.Spec.Targets {
			for _, code := range target.Code {
				if code.Engine == "K8sNativeValidation" {
					return c.fromCEL(code.Source, d)
				}
			}
		}
	}
	return c.common(d)
}

// fromCEL takes over a template's CEL. Its variables.params are the constraint's parameters, variables.anyObject is the object.
func (c *gatekeeperConstraint) fromCEL(source json.RawMessage, d *draft) error {
	var code gatekeeperCEL
	if err := json.Unmarshal(source, &code); err != nil {
		return fmt.Errorf("read the template's CEL: %w", err)
	}
	params, err := celLiteral(c.Spec.Parameters)
	if err != nil {
		return err
	}
	d.spec.Variables = append([]admv1.Variable{{Name: "params", Expression: params}, {Name: "anyObject", Expression: "object != null ? object : oldObject"}}, code.Variables...)
	d.spec.Validations = code.Validations
	d.spec.MatchConditions = append(d.spec.MatchConditions, code.MatchConditions...)
	if len(d.spec.Validations) == 0 {
		return cannot("the template has no validations")
	}
	return nil
}

// celLiteral writes parameters as CEL. Numbers of JSON that are whole are integers.
func celLiteral(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "{}", nil
	case map[string]any:
		var parts []string
		for _, key := range sorted(v) {
			text, err := celLiteral(v[key])
			if err != nil {
				return "", err
			}
			parts = append(parts, quote(key)+": "+text)
		}
		text := "{" + strings.Join(parts, ", ") + "}"
		if mixed(v) {
			return "dyn(" + text + ")", nil
		}
		return text, nil
	case []any:
		var parts []string
		for _, item := range v {
			text, err := celLiteral(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	}
	return literalOf(v)
}

func mixed(m map[string]any) bool { return len(m) > 1 }

// fill makes a constraint's match into constraints and conditions of a policy.
func (m *gatekeeperMatch) fill(d *draft) error {
	switch {
	case m.Source == "Generated":
		return cannot("a match of what is generated only")
	case m.NamespaceSelector != nil && len(m.Namespaces)+len(m.ExcludedNamespaces) > 0:
		return cannot("a namespaceSelector beside names of namespaces")
	}
	mc := &admv1.MatchResources{NamespaceSelector: m.NamespaceSelector, ObjectSelector: m.LabelSelector}
	scope := admv1.AllScopes
	switch m.Scope {
	case "Namespaced":
		scope = admv1.NamespacedScope
	case "Cluster":
		scope = admv1.ClusterScope
	}
	ops := []admv1.OperationType{admv1.Create, admv1.Update}
	for _, k := range m.Kinds {
		for _, kind := range k.Kinds {
			_, _, resource, err := resourceOf(kind)
			if err != nil {
				return err
			}
			rule := admv1.NamedRuleWithOperations{RuleWithOperations: admv1.RuleWithOperations{Operations: ops,
				Rule: admv1.Rule{APIGroups: k.APIGroups, APIVersions: []string{"*"}, Resources: []string{resource}, Scope: &scope}}}
			mc.ResourceRules = append(mc.ResourceRules, rule)
		}
	}
	if len(m.Kinds) == 0 {
		mc.ResourceRules = []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{Operations: ops,
			Rule: admv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}, Scope: &scope}}}}
	}
	d.spec.MatchConstraints = mc
	condition := func(name, expression string) {
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: name, Expression: expression})
	}
	if tests := oneOf("request.namespace", m.Namespaces); tests != nil {
		condition("namespaces", strings.Join(tests, ""))
	}
	if tests := oneOf("request.namespace", m.ExcludedNamespaces); tests != nil {
		condition("excluded-namespaces", "!("+strings.Join(tests, "")+")")
	}
	if m.Name != "" {
		condition("name", strings.Join(oneOf("object.metadata.?name.orValue('')", []string{m.Name}), ""))
	}
	return nil
}

// strings of a parameter: those of a list, or the key fields of objects in it.
func (c *gatekeeperConstraint) texts(name string) []string {
	list, _ := c.Spec.Parameters[name].([]any)
	var out []string
	for _, item := range list {
		switch v := item.(type) {
		case string:
			out = append(out, v)
		case map[string]any:
			if key, ok := v["key"].(string); ok {
				out = append(out, key)
			}
		}
	}
	return out
}

// common are the templates of Gatekeeper's library that are written in Rego and used most.
func (c *gatekeeperConstraint) common(d *draft) error {
	say := func(expression, message string) error {
		d.spec.Validations = append(d.spec.Validations, admv1.Validation{Expression: expression, Message: message})
		d.remediation = message
		return nil
	}
	each := func(test string) string { return "variables.containers.all(c, " + test + ")" }
	exempt := func(test string) string {
		if tests := oneOf("c.image", c.texts("exemptImages")); tests != nil {
			return strings.Join(tests, "") + " || " + test
		}
		return test
	}
	for name := range c.Spec.Parameters {
		if !slices.Contains(known(c.Kind), name) {
			return cannot("the parameter %q of %s", name, c.Kind)
		}
	}
	switch c.Kind {
	case "K8sRequiredLabels":
		return c.required("labels", say)
	case "K8sRequiredAnnotations":
		return c.required("annotations", say)
	case "K8sAllowedRepos", "K8sDisallowedRepos":
		repos := c.texts("repos")
		var tests []string
		for _, r := range repos {
			tests = append(tests, "c.image.startsWith("+quote(r)+")")
		}
		if len(tests) == 0 {
			return cannot("no repos")
		}
		test := "(" + strings.Join(tests, " || ") + ")"
		if c.Kind == "K8sDisallowedRepos" {
			test = "!" + test
		}
		return say(each(test), "the image's registry is not allowed")
	case "K8sDisallowedTags":
		var tests []string
		for _, tag := range c.texts("tags") {
			tests = append(tests, "!c.image.endsWith("+quote(":"+tag)+")")
		}
		tests = append(tests, "c.image.matches('(:|@)[^/]+$')")
		return say(each(exempt("("+strings.Join(tests, " && ")+")")), "the image has no tag, or one that is not allowed")
	case "K8sImageDigests":
		return say(each(exempt("c.image.contains('@')")), "the image has no digest")
	case "K8sPSPPrivilegedContainer":
		return say(each(exempt("!c.?securityContext.privileged.orValue(false)")), "privileged containers are not allowed")
	case "K8sPSPAllowPrivilegeEscalationContainer":
		return say(each(exempt("!c.?securityContext.allowPrivilegeEscalation.orValue(true)")), "privilege escalation is not allowed")
	case "K8sPSPReadOnlyRootFilesystem":
		return say(each(exempt("c.?securityContext.readOnlyRootFilesystem.orValue(false)")), "the root file system must be read-only")
	case "K8sPSPHostNamespace":
		return say("!variables.podSpec.?hostPID.orValue(false) && !variables.podSpec.?hostIPC.orValue(false)", "host namespaces are not allowed")
	case "K8sPSPProcMount":
		return say(each(exempt("c.?securityContext.procMount.orValue('Default') == 'Default'")), "procMount must be Default")
	case "K8sPSPVolumeTypes":
		volumes := c.texts("volumes")
		if slices.Contains(volumes, "*") {
			return cannot("it allows every type of volume: there is nothing to take over")
		}
		return say("variables.volumes.all(v, v.all(k, k == 'name' || k in "+quoteList(volumes)+"))", "a volume is of a type that is not allowed")
	case "K8sBlockNodePort":
		return say("object.?spec.type.orValue('') != 'NodePort'", "a Service of type NodePort is not allowed")
	case "K8sBlockLoadBalancer":
		return say("object.?spec.type.orValue('') != 'LoadBalancer'", "a Service of type LoadBalancer is not allowed")
	case "K8sBlockWildcardIngress":
		return say("object.?spec.rules.orValue([]).all(r, r.?host.orValue('') != '' && !r.host.contains('*'))", "the Ingress has no host, or one with a wildcard")
	case "K8sExternalIPs":
		return say("object.?spec.externalIPs.orValue([]).all(i, i in "+quoteList(c.texts("allowedIPs"))+")", "an external IP is not allowed")
	case "K8sRequiredProbes":
		var tests []string
		for _, probe := range c.texts("probes") {
			tests = append(tests, "has(c."+probe+")")
		}
		if len(tests) == 0 || len(c.texts("probeTypes")) > 0 && !slices.Equal(c.texts("probeTypes"), []string{"tcpSocket", "httpGet", "exec"}) {
			return cannot("probes of certain types")
		}
		return say("variables.appContainers.all(c, "+strings.Join(tests, " && ")+")", "a probe is missing")
	case "K8sReplicaLimits":
		return c.replicas(say)
	}
	return cannot("its template is in Rego, and none of the common ones: write the rule in CEL")
}

// known are the parameters of a template that are taken over.
func known(kind string) []string {
	return map[string][]string{"K8sRequiredLabels": {"labels", "message"}, "K8sRequiredAnnotations": {"annotations", "message"}, "K8sAllowedRepos": {"repos"}, "K8sDisallowedRepos": {"repos"},
		"K8sDisallowedTags": {"tags", "exemptImages"}, "K8sImageDigests": {"exemptImages"}, "K8sPSPPrivilegedContainer": {"exemptImages"},
		"K8sPSPAllowPrivilegeEscalationContainer": {"exemptImages"}, "K8sPSPReadOnlyRootFilesystem": {"exemptImages"}, "K8sPSPProcMount": {"exemptImages"},
		"K8sPSPVolumeTypes": {"volumes"}, "K8sExternalIPs": {"allowedIPs"}, "K8sRequiredProbes": {"probes", "probeTypes"}, "K8sReplicaLimits": {"ranges"}}[kind]
}

func (c *gatekeeperConstraint) required(what string, say func(expression, message string) error) error {
	list, _ := c.Spec.Parameters[what].([]any)
	for _, item := range list {
		m, _ := item.(map[string]any)
		key, _ := m["key"].(string)
		if key == "" {
			return cannot("%s without a key", what)
		}
		value := "object.metadata.?" + what + "[?" + quote(key) + "]"
		test := value + ".hasValue()"
		if pattern, ok := m["allowedRegex"].(string); ok {
			test += " && " + value + ".orValue('').matches(" + quote(pattern) + ")"
		}
		message, _ := c.Spec.Parameters["message"].(string)
		if message == "" {
			message = "it must have the " + strings.TrimSuffix(what, "s") + " " + key
		}
		if err := say(test, message); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return cannot("no %s", what)
	}
	return nil
}

func (c *gatekeeperConstraint) replicas(say func(expression, message string) error) error {
	ranges, _ := c.Spec.Parameters["ranges"].([]any)
	var tests []string
	for _, item := range ranges {
		m, _ := item.(map[string]any)
		low, okLow := m["min_replicas"].(float64)
		high, okHigh := m["max_replicas"].(float64)
		if !okLow || !okHigh {
			return cannot("a range without both ends")
		}
		tests = append(tests, fmt.Sprintf("(variables.replicas >= %d && variables.replicas <= %d)", int(low), int(high)))
	}
	if len(tests) == 0 {
		return cannot("no ranges")
	}
	test := strings.ReplaceAll(strings.Join(tests, " || "), "variables.replicas", "object.?spec.replicas.orValue(1)")
	return say(test, "the number of replicas is not allowed")
}
