// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
)

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
		var kinds []string
		for _, of := range c.texts("probeTypes") {
			if !slices.Contains([]string{"tcpSocket", "httpGet", "exec", "grpc"}, of) {
				return cannot("a probe of type %s", of)
			}
			kinds = append(kinds, of)
		}
		for _, probe := range c.texts("probes") {
			var any []string
			for _, of := range kinds {
				any = append(any, "has(c."+probe+"."+of+")")
			}
			tests = append(tests, "has(c."+probe+") && ("+strings.Join(any, " || ")+")")
		}
		if len(tests) == 0 || len(kinds) == 0 {
			return cannot("no probes or no probeTypes: the template refuses every pod then")
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
