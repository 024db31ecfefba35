// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/admission"
)

// Change is what an apply did with an object.
type Change struct {
	Kind, Name string
	What       string // created, changed, unchanged, removed
}

// Apply gives the API server a bundle, and takes away what vigie gave it before and is not in it. What is new stands before what is
// old goes: a control that moves is for a moment in two policies, and never in none. With dry nothing is kept.
func (c *Client) Apply(ctx context.Context, b *admission.Bundle, dry bool) ([]Change, error) {
	mutatingVersion, err := c.mutatingVersion()
	if err != nil {
		return nil, err
	}
	if len(b.Fixes) > 0 && mutatingVersion == "" {
		return nil, fmt.Errorf("apply fixes: %s serves no MutatingAdmissionPolicy, which Kubernetes has from 1.34 on when it is turned on, and always from 1.36 on: leave the fixes out", c.Name)
	}
	a := applier{client: c, ctx: ctx, dry: dry, wanted: map[schema.GroupVersionResource][]string{},
		have: map[schema.GroupVersionResource]map[string]string{}}
	mp, mb := mutating(mutatingVersion)
	for _, f := range b.Fixes {
		a.apply(mp, f.Policy)
		a.apply(mb, f.Binding)
	}
	for _, p := range b.Policies {
		a.apply(policies(), p)
	}
	for _, p := range b.Bindings {
		a.apply(bindings(), p)
	}
	if a.err != nil {
		return a.changes, a.err
	}
	a.prune(bindings())
	a.prune(policies())
	if mutatingVersion != "" {
		a.prune(mb)
		a.prune(mp)
	}
	return a.changes, a.err
}

// mutatingVersion is the version in which MutatingAdmissionPolicy is served; empty when it is not.
func (c *Client) mutatingVersion() (string, error) {
	for _, v := range []string{"v1", "v1beta1"} {
		p, _ := mutating(v)
		ok, err := c.Serves(p)
		if err != nil {
			return "", err
		}
		if ok {
			return v, nil
		}
	}
	return "", nil
}

// applier keeps the first error.
type applier struct {
	client  *Client
	ctx     context.Context // of Apply, that the applier is a part of
	dry     bool
	wanted  map[schema.GroupVersionResource][]string
	have    map[schema.GroupVersionResource]map[string]string // what vigie owns already: name → resource version
	changes []Change
	err     error
}

func (a *applier) apply(gvr schema.GroupVersionResource, o runtime.Object) {
	if a.err != nil {
		return
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		a.err = fmt.Errorf("apply: %w", err)
		return
	}
	u := &unstructured.Unstructured{Object: fields}
	u.SetAPIVersion(gvr.GroupVersion().String())
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	a.wanted[gvr] = append(a.wanted[gvr], u.GetName())
	a.look(gvr)
	if a.err != nil {
		return
	}
	what, err := a.client.send(a.ctx, gvr, u, a.dry, a.have[gvr][u.GetName()])
	if err != nil {
		a.err = err
		return
	}
	a.changes = append(a.changes, Change{u.GetKind(), u.GetName(), what})
}

// applyOne is a server-side apply of an object, and what it did.
func (c *Client) applyOne(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) (string, error) {
	client := c.Dynamic.Resource(gvr).Namespace(u.GetNamespace())
	before := ""
	if have, err := client.Get(ctx, u.GetName(), metav1.GetOptions{}); err == nil {
		before = have.GetResourceVersion()
	} else if !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("read %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return c.send(ctx, gvr, u, false, before)
}

// send is a server-side apply of an object that was at a version before; empty: it was not there.
func (c *Client) send(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, dry bool, before string) (string, error) {
	client := c.Dynamic.Resource(gvr).Namespace(u.GetNamespace())
	options := metav1.ApplyOptions{FieldManager: manager, Force: true}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	now, err := client.Apply(ctx, u.GetName(), u, options)
	switch {
	case err != nil:
		return "", fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
	case before == "":
		return "created", nil
	case before != now.GetResourceVersion():
		return "changed", nil
	}
	return "unchanged", nil
}

// look finds once what vigie owns of a resource.
func (a *applier) look(gvr schema.GroupVersionResource) {
	if a.have[gvr] != nil || a.err != nil {
		return
	}
	list, err := a.client.Dynamic.Resource(gvr).List(a.ctx, metav1.ListOptions{LabelSelector: admission.OwnerLabel + "=" + admission.Owner})
	if err != nil {
		a.err = fmt.Errorf("list %s: %w", gvr.Resource, err)
		return
	}
	a.have[gvr] = map[string]string{}
	for _, u := range list.Items {
		a.have[gvr][u.GetName()] = u.GetResourceVersion()
	}
}

func kindOf(gvr schema.GroupVersionResource) string {
	kind := "ValidatingAdmissionPolicy"
	if strings.HasPrefix(gvr.Resource, "mutating") {
		kind = "MutatingAdmissionPolicy"
	}
	if strings.HasSuffix(gvr.Resource, "bindings") {
		kind += "Binding"
	}
	return kind
}

// prune removes what vigie owns and does not want.
func (a *applier) prune(gvr schema.GroupVersionResource) {
	if a.err != nil {
		return
	}
	if a.look(gvr); a.err != nil {
		return
	}
	client := a.client.Dynamic.Resource(gvr)
	for _, name := range slices.Sorted(maps.Keys(a.have[gvr])) {
		if slices.Contains(a.wanted[gvr], name) {
			continue
		}
		options := metav1.DeleteOptions{}
		if a.dry {
			options.DryRun = []string{metav1.DryRunAll}
		}
		if err := client.Delete(a.ctx, name, options); err != nil && !apierrors.IsNotFound(err) {
			a.err = fmt.Errorf("remove %s %s: %w", gvr.Resource, name, err)
			return
		}
		a.changes = append(a.changes, Change{kindOf(gvr), name, "removed"})
	}
}
