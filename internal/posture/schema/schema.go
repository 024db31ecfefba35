// SPDX-License-Identifier: Apache-2.0

// Package schema says whether an object has the fields and types that the OpenAPI schema of Kubernetes gives its kind. In: fields. Out:
// what the schema does not allow. Schemas of the built-in kinds are embedded, without descriptions; custom resources have theirs in a cluster.
package schema

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the schemas
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
)

//go:embed schema.json.gz
var packed []byte

// Set are the schemas of one version of Kubernetes. It is safe for concurrent use.
type Set struct {
	Kubernetes string // the version, as in v1.37.2
	schemas    map[string]*spec.Schema
	names      map[schema.GroupVersionKind]string
	resources  map[schema.GroupVersionResource]schema.GroupVersionKind

	mu   sync.Mutex
	made map[schema.GroupVersionKind]*validate.SchemaValidator
}

// Builtin are the schemas of the kinds of the newest version that this build knows. They are read when first asked for.
var Builtin = sync.OnceValues(read)

func read() (*Set, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("read the embedded schemas: %w", err)
	}
	var file struct {
		Kubernetes string                  `json:"kubernetes"`
		Schemas    map[string]*spec.Schema `json:"schemas"`
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		return nil, fmt.Errorf("read the embedded schemas: %w", err)
	}
	s := &Set{Kubernetes: file.Kubernetes, schemas: file.Schemas, names: map[schema.GroupVersionKind]string{}, made: map[schema.GroupVersionKind]*validate.SchemaValidator{},
		resources: map[schema.GroupVersionResource]schema.GroupVersionKind{}}
	for name, one := range file.Schemas {
		var kinds []schema.GroupVersionKind
		if err := one.Extensions.GetObject("x-kubernetes-group-version-kind", &kinds); err != nil {
			return nil, fmt.Errorf("read the embedded schema %s: %w", name, err)
		}
		if len(kinds) == 1 { // several: what is in every group, such as DeleteOptions
			s.names[kinds[0]] = name
			resource, _ := meta.UnsafeGuessKindToResource(kinds[0]) // right for all built-in kinds
			s.resources[resource] = kinds[0]
		}
	}
	return s, nil
}

var _ resolver.SchemaResolver = (*Set)(nil)

// ResolveSchema implements resolver.SchemaResolver: a kind that is not built in is resolver.ErrSchemaNotFound.
func (s *Set) ResolveSchema(kind schema.GroupVersionKind) (*spec.Schema, error) {
	name, ok := s.names[kind]
	if !ok {
		return nil, fmt.Errorf("%s: %w", kind, resolver.ErrSchemaNotFound)
	}
	const prefix = "#/components/schemas/"
	return resolver.PopulateRefs(func(ref string) (*spec.Schema, bool) {
		one, ok := s.schemas[strings.TrimPrefix(ref, prefix)]
		return one, ok
	}, prefix+name)
}

// Has reports whether there is a schema for a kind.
func (s *Set) Has(kind schema.GroupVersionKind) bool { return s.names[kind] != "" }

// HasGroup reports whether a group of the API is built in.
func (s *Set) HasGroup(group string) bool {
	for kind := range s.names {
		if kind.Group == group {
			return true
		}
	}
	return false
}

// KindOf is the kind of a resource; ok is false when there is none built in.
func (s *Set) KindOf(resource schema.GroupVersionResource) (kind schema.GroupVersionKind, ok bool) {
	kind, ok = s.resources[resource]
	return kind, ok
}

// Minor is the minor version of Kubernetes whose kinds these are.
func (s *Set) Minor() (minor uint, err error) {
	if _, err := fmt.Sscanf(s.Kubernetes, "v1.%d.", &minor); err != nil {
		return 0, fmt.Errorf("read the version of the embedded schemas, %q: %w", s.Kubernetes, err)
	}
	return minor, nil
}

// Kinds are all of those that there are schemas for, in order.
func (s *Set) Kinds() []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for kind := range s.names {
		out = append(out, kind)
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// Validate says what of an object its schema does not allow, in order: values of a wrong type, and what is missing that must be there. Fields that
// are null count as absent, as they do for an API server. ok is false when there is no schema for the kind: then nothing is known.
func (s *Set) Validate(fields map[string]any) (faults []string, ok bool, err error) {
	apiVersion, _ := fields["apiVersion"].(string)
	kind, _ := fields["kind"].(string)
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	if !s.Has(gvk) {
		return nil, false, nil
	}
	validator, err := s.validator(gvk)
	if err != nil {
		return nil, false, err
	}
	for _, fault := range validator.Validate(present(fields)).Errors {
		faults = append(faults, fault.Error())
	}
	slices.Sort(faults)
	return slices.Compact(faults), true, nil
}

func (s *Set) validator(kind schema.GroupVersionKind) (*validate.SchemaValidator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.made[kind]; have != nil {
		return have, nil
	}
	whole, err := s.ResolveSchema(kind)
	if err != nil {
		return nil, err
	}
	made := validate.NewSchemaValidator(whole, nil, "", strfmt.Default)
	s.made[kind] = made
	return made, nil
}

// present is a value without the fields that are null.
func present(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, in := range v {
			if in != nil {
				out[k] = present(in)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, in := range v {
			out[i] = present(in)
		}
		return out
	}
	return v
}
