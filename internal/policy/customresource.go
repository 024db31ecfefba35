// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// CustomResource is the definition (apiextensions.k8s.io/v1, YAML) of a kind of the cluster's objects whose spec is a
// WorkloadPolicy's: WorkloadPolicy in a namespace, ClusterWorkloadPolicy without. It is made from what the parser checks; where a
// field can be written in more than one form, the API server takes any, and the agent tells in the status what is wrong.
func CustomResource(kind string, namespaced bool) ([]byte, error) {
	plural := strings.TrimSuffix(strings.ToLower(kind), "y") + "ies"
	scope, about, short := "Cluster", "What workloads of every node may do.", []string{"cwlp"}
	if namespaced {
		scope, about, short = "Namespaced", "What the pods of a namespace may do.", []string{"wlp"}
	}
	column := func(name, typ, path, doc string) map[string]any {
		return map[string]any{"name": name, "type": typ, "jsonPath": path, "description": doc}
	}
	group, version, _ := strings.Cut(APIVersion, "/")
	definition := map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + "." + group},
		"spec": map[string]any{
			"group": group, "scope": scope,
			"names": map[string]any{"kind": kind, "listKind": kind + "List", "plural": plural, "singular": strings.ToLower(kind), "shortNames": short, "categories": []string{"vigie"}},
			"versions": []any{map[string]any{
				"name": version, "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"additionalPrinterColumns": []any{
					column("Mode", "string", ".spec.mode", "audit when empty"),
					column("State", "string", ".status.state", "the worst of all nodes"),
					column("In force", "string", ".status.inForce", "on how many nodes, of those that have read it"),
					column("Hits", "integer", ".status.hits", "how often rules denied, or would have"),
					column("Rungs", "string", ".status.rungs", "what carries the rules"),
					column("Age", "date", ".metadata.creationTimestamp", ""),
				},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "description": about, "required": []string{"spec"},
					"properties": map[string]any{
						"apiVersion": map[string]any{"type": "string"}, "kind": map[string]any{"type": "string"}, "metadata": map[string]any{"type": "object"},
						"spec": specSchema().structural(), "status": statusSchema(),
					},
				}},
			}},
		},
	}
	var b bytes.Buffer
	b.WriteString("# SPDX-License-Identifier: Apache-2.0\n# Made by go test ./internal/policy -run CustomResources -update; do not edit.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(definition); err != nil {
		return nil, fmt.Errorf("write the definition of %s: %w", kind, err)
	}
	return b.Bytes(), nil
}

// structural is a schema as the API server wants it: one type for each field.
func (s *schema) structural() map[string]any {
	out := map[string]any{"description": s.doc}
	if s.doc == "" {
		delete(out, "description")
	}
	switch {
	case s.short != "", s.kind == kindList && s.one:
		out["x-kubernetes-preserve-unknown-fields"] = true // a text, or more
	case s.kind == kindObject:
		properties := map[string]any{}
		var required []string
		for _, f := range s.fields {
			properties[f.name] = f.structural()
			if f.required {
				required = append(required, f.name)
			}
		}
		out["type"], out["properties"] = "object", properties
		if required != nil {
			out["required"] = required
		}
	case s.kind == kindList:
		out["type"], out["items"] = "array", s.items.structural()
	case s.kind == kindLabels:
		out["type"], out["additionalProperties"] = "object", map[string]any{"type": "string"}
	case s.number:
		out["x-kubernetes-int-or-string"] = true
	default:
		out["type"] = "string"
		if len(s.values) > 0 {
			out["enum"] = s.values
		}
	}
	return out
}

// statusSchema is api/crd/v1alpha1.Status.
func statusSchema() map[string]any {
	text, number := map[string]any{"type": "string"}, map[string]any{"type": "integer", "format": "int64"}
	object := func(properties map[string]any) map[string]any {
		return map[string]any{"type": "object", "properties": properties}
	}
	rule := object(map[string]any{"field": text, "rung": text, "guarantee": text, "hits": number})
	node := object(map[string]any{"name": text, "observedGeneration": number, "state": text, "mode": text, "message": text, "processes": number, "hits": number,
		"rules": map[string]any{"type": "array", "items": rule, "x-kubernetes-list-type": "atomic"}})
	node["required"] = []string{"name"}
	status := object(map[string]any{"state": text, "rungs": text, "hits": number, "inForce": text,
		"nodes": map[string]any{"type": "array", "items": node, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": []string{"name"}}})
	status["description"] = "What agents say of the policy."
	return status
}
