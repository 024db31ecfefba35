// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Types are the schemas that an API server has of its kinds, custom resources among them. Each is asked for once. It serves one goroutine.
type Types struct {
	resolver resolver.SchemaResolver
	kinds    map[schema.GroupVersionResource]schema.GroupVersionKind
	known    map[schema.GroupVersionKind]resolved
}

type resolved struct {
	schema *spec.Schema
	err    error
}

// Types asks the API server what it serves. Its schemas are asked for when they are needed, by the OpenAPI document of their group.
func (c *Client) Types() (*Types, error) {
	served, _, err := c.served()
	if err != nil {
		return nil, err
	}
	t := &Types{resolver: &resolver.ClientDiscoveryResolver{Discovery: c.Discovery}, kinds: map[schema.GroupVersionResource]schema.GroupVersionKind{},
		known: map[schema.GroupVersionKind]resolved{}}
	for gvr, s := range served {
		t.kinds[gvr] = gvr.GroupVersion().WithKind(s.Kind)
	}
	return t, nil
}

// ResolveSchema is the schema of a kind; the error is resolver.ErrSchemaNotFound for one that the API server does not serve.
func (t *Types) ResolveSchema(kind schema.GroupVersionKind) (*spec.Schema, error) {
	have, ok := t.known[kind]
	if !ok {
		have.schema, have.err = t.resolver.ResolveSchema(kind)
		t.known[kind] = have
	}
	return have.schema, have.err
}

// KindOf is the kind of a resource; ok is false when the API server has none of that name.
func (t *Types) KindOf(resource schema.GroupVersionResource) (kind schema.GroupVersionKind, ok bool) {
	kind, ok = t.kinds[resource]
	return kind, ok
}
