// SPDX-License-Identifier: Apache-2.0

// Package reports keeps PolicyReports of what already runs in a cluster. In: changes of objects, as a watch tells them. Out: a
// report for each object that is judged, in the form whose definition the cluster has: openreports.io or wgpolicyk8s.io.
package reports

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
)

// Outcome is how one control judged an object.
type Outcome struct {
	Control   *control.Control
	Result    string // pass, fail, error, skip
	Message   string
	Exception string // of skip: its name
}

// Results that a report knows.
const (
	Pass  = "pass"
	Fail  = "fail"
	Error = "error" // the control could not be evaluated
	Skip  = "skip"  // it fails, and an exception says that it may
)

// source is what reports say of who made them.
const source = "vigie"

// Form is a kind of reports.
type Form struct {
	Namespaced, Cluster         schema.GroupVersionResource
	NamespacedKind, ClusterKind string
	hasSource                   bool // beside the results
}

// Forms are those in use, the newer first.
func Forms() []Form {
	var out []Form
	for _, f := range model.ReportForms() {
		of := schema.GroupVersion{Group: f.Group, Version: f.Version}
		out = append(out, Form{of.WithResource(f.Resource), of.WithResource("cluster" + f.Resource), f.Kind, "Cluster" + f.Kind, f.Source})
	}
	return out
}

// Of is the resource and kind of a report about an object.
func (f Form) Of(namespace string) (schema.GroupVersionResource, string) {
	if namespace == "" {
		return f.Cluster, f.ClusterKind
	}
	return f.Namespaced, f.NamespacedKind
}

// Make writes the report of an object. It is named by the object's uid and owned by it, so that it goes when the object
// goes. What passed is counted and not listed: a report of all controls for each object would fill etcd.
func (f Form) Make(o *unstructured.Unstructured, outcomes []Outcome, now time.Time) *unstructured.Unstructured {
	resource, kind := f.Of(o.GetNamespace())
	count := map[string]int64{}
	results := []any{}
	sorted := slices.SortedStableFunc(slices.Values(outcomes), func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.Control.Severity.Rank(), b.Control.Severity.Rank()), cmp.Compare(a.Control.ID, b.Control.ID))
	})
	for _, r := range sorted {
		count[r.Result]++
		if r.Result == Pass {
			continue
		}
		one := map[string]any{"source": source, "policy": r.Control.ID, "rule": r.Control.ID, "category": category(r.Control), "severity": string(r.Control.Severity),
			"result": r.Result, "scored": true, "message": r.Message, "timestamp": map[string]any{"seconds": now.Unix(), "nanos": int64(0)},
			"properties": map[string]any{"title": r.Control.Title, "remediation": r.Control.Remediation}}
		if r.Exception != "" {
			one["properties"].(map[string]any)["exception"] = r.Exception //nolint:forcetypeassert // made above
		}
		results = append(results, one)
	}
	metadata := map[string]any{"name": string(o.GetUID()), "labels": map[string]any{admission.OwnerLabel: admission.Owner},
		"ownerReferences": []any{map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "name": o.GetName(), "uid": string(o.GetUID())}}}
	if o.GetNamespace() != "" {
		metadata["namespace"] = o.GetNamespace()
	}
	scope := map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "name": o.GetName(), "uid": string(o.GetUID())}
	if o.GetNamespace() != "" {
		scope["namespace"] = o.GetNamespace()
	}
	fields := map[string]any{"apiVersion": resource.GroupVersion().String(), "kind": kind, "metadata": metadata, "scope": scope, "results": results,
		"summary": map[string]any{"pass": count[Pass], "fail": count[Fail], "error": count[Error], "skip": count[Skip], "warn": int64(0)}}
	if f.hasSource {
		fields["source"] = source
	}
	return &unstructured.Unstructured{Object: fields}
}

// category is the first framework that a control is part of.
func category(c *control.Control) string {
	for _, name := range control.FrameworkNames() {
		if len(c.Frameworks[name]) > 0 {
			return control.Frameworks()[name]
		}
	}
	return "vigie"
}
