// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sigs.k8s.io/yaml"

	"github.com/vigie-io/vigie/api/crd/v1alpha1"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

// Where the settings of admission stand in a cluster.
const (
	SettingsNamespace = "vigie-system"
	SettingsName      = "vigie-admission"
	settingsKey       = "settings.json"
	manager           = "vigie-admit" // of fields, in server-side apply
)

const registration = "admissionregistration.k8s.io"

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

// Exceptions is the resource of PolicyException.
func Exceptions() schema.GroupVersionResource {
	return resource("vigie.io", "v1alpha1", "policyexceptions")
}

func policies() schema.GroupVersionResource {
	return resource(registration, "v1", "validatingadmissionpolicies")
}

func bindings() schema.GroupVersionResource {
	return resource(registration, "v1", "validatingadmissionpolicybindings")
}

func mutating(version string) (policies, bindings schema.GroupVersionResource) {
	return resource(registration, version, "mutatingadmissionpolicies"), resource(registration, version, "mutatingadmissionpolicybindings")
}

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
	a := applier{client: c, ctx: ctx, dry: dry, wanted: map[schema.GroupVersionResource][]string{}}
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
	what, err := a.client.applyOne(a.ctx, gvr, u, a.dry)
	if err != nil {
		a.err = err
		return
	}
	a.changes = append(a.changes, Change{u.GetKind(), u.GetName(), what})
}

// applyOne is a server-side apply of an object, and what it did.
func (c *Client) applyOne(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, dry bool) (string, error) {
	client := c.Dynamic.Resource(gvr).Namespace(u.GetNamespace())
	before := ""
	if have, err := client.Get(ctx, u.GetName(), metav1.GetOptions{}); err == nil {
		before = have.GetResourceVersion()
	} else if !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("read %s %s: %w", u.GetKind(), u.GetName(), err)
	}
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

// prune removes what vigie owns and does not want.
func (a *applier) prune(gvr schema.GroupVersionResource) {
	if a.err != nil {
		return
	}
	client := a.client.Dynamic.Resource(gvr)
	list, err := client.List(a.ctx, metav1.ListOptions{LabelSelector: admission.OwnerLabel + "=" + admission.Owner})
	if err != nil {
		a.err = fmt.Errorf("list %s: %w", gvr.Resource, err)
		return
	}
	for _, u := range list.Items {
		if slices.Contains(a.wanted[gvr], u.GetName()) {
			continue
		}
		options := metav1.DeleteOptions{}
		if a.dry {
			options.DryRun = []string{metav1.DryRunAll}
		}
		if err := client.Delete(a.ctx, u.GetName(), options); err != nil && !apierrors.IsNotFound(err) {
			a.err = fmt.Errorf("remove %s %s: %w", u.GetKind(), u.GetName(), err)
			return
		}
		a.changes = append(a.changes, Change{u.GetKind(), u.GetName(), "removed"})
	}
}

// Settings are those that were noted; nil when admission was never applied here.
func (c *Client) Settings(ctx context.Context) (*admission.Settings, error) {
	u, err := c.Dynamic.Resource(resource("", "v1", "configmaps")).Namespace(SettingsNamespace).Get(ctx, SettingsName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings of admission: %w", err)
	}
	text, _, err := unstructured.NestedString(u.Object, "data", settingsKey)
	if err != nil {
		return nil, fmt.Errorf("read the settings of admission: %w", err)
	}
	s := &admission.Settings{}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, fmt.Errorf("read the settings of admission in ConfigMap %s/%s: %w", SettingsNamespace, SettingsName, err)
	}
	return s, nil
}

// SaveSettings notes them, in a namespace that is made when it is not there.
func (c *Client) SaveSettings(ctx context.Context, s *admission.Settings) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the settings of admission: %w", err)
	}
	labels := map[string]any{admission.OwnerLabel: admission.Owner}
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": SettingsNamespace}}}
	if _, err := c.Dynamic.Resource(resource("", "v1", "namespaces")).Get(ctx, SettingsNamespace, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		if _, err := c.applyOne(ctx, resource("", "v1", "namespaces"), ns, false); err != nil {
			return err
		}
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": SettingsName, "namespace": SettingsNamespace, "labels": labels}, "data": map[string]any{settingsKey: string(text)}}}
	_, err = c.applyOne(ctx, resource("", "v1", "configmaps"), u, false)
	return err
}

// Exceptions are the PolicyExceptions of the cluster. errs are those that say nothing that can be understood; they excuse nothing.
func (c *Client) Exceptions(ctx context.Context) (found []*exception.Exception, errs []error, err error) {
	list, err := c.Dynamic.Resource(Exceptions()).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, nil // the kind is not there
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list PolicyExceptions: %w", err)
	}
	for _, u := range list.Items {
		u.SetManagedFields(nil)
		e, err := exception.Parse(u.Object)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, e)
	}
	return found, errs, nil
}

// InForce is a policy of vigie's as the API server has it.
type InForce struct {
	Policy   string
	Step     admission.Step
	Controls []string
	Since    time.Time // when the API server took it first
	Bound    bool
	Checked  bool     // its types were checked, in the form that it has now
	Warnings []string // of that check
}

// InForce are the policies that vigie owns.
func (c *Client) InForce(ctx context.Context) ([]InForce, error) {
	owned := metav1.ListOptions{LabelSelector: admission.OwnerLabel + "=" + admission.Owner}
	list, err := c.Dynamic.Resource(policies()).List(ctx, owned)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	bound, err := c.Dynamic.Resource(bindings()).List(ctx, owned)
	if err != nil {
		return nil, fmt.Errorf("list bindings: %w", err)
	}
	var out []InForce
	for _, u := range list.Items {
		p := InForce{Policy: u.GetName(), Step: admission.Step(u.GetLabels()[admission.StepLabel]), Since: u.GetCreationTimestamp().Time}
		if ids := u.GetAnnotations()[admission.ControlsAnnotation]; ids != "" {
			p.Controls = strings.Split(ids, ",")
		}
		p.Bound = slices.ContainsFunc(bound.Items, func(b unstructured.Unstructured) bool {
			name, _, _ := unstructured.NestedString(b.Object, "spec", "policyName")
			return name == u.GetName()
		})
		observed, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
		p.Checked = observed == u.GetGeneration()
		warnings, _, _ := unstructured.NestedSlice(u.Object, "status", "typeChecking", "expressionWarnings")
		for _, w := range warnings {
			if m, ok := w.(map[string]any); ok {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%v: %v", m["fieldRef"], m["warning"]))
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b InForce) int { return cmp.Compare(a.Policy, b.Policy) })
	return out, nil
}

// AllPolicies are all ValidatingAdmissionPolicies of the cluster, whoever made them, as documents.
func (c *Client) AllPolicies(ctx context.Context) ([]map[string]any, error) {
	list, err := c.Dynamic.Resource(policies()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	var out []map[string]any
	for _, u := range list.Items {
		u.SetManagedFields(nil)
		u.SetAPIVersion(policies().GroupVersion().String())
		u.SetKind("ValidatingAdmissionPolicy")
		out = append(out, u.Object)
	}
	return out, nil
}

// SetExceptionState tells whoever reads a PolicyException whether it holds.
func (c *Client) SetExceptionState(ctx context.Context, name string, expired bool) error {
	state := "Active"
	if expired {
		state = "Expired"
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": Exceptions().GroupVersion().String(), "kind": exception.Kind,
		"metadata": map[string]any{"name": name}, "status": map[string]any{"state": state}}}
	if _, err := c.Dynamic.Resource(Exceptions()).ApplyStatus(ctx, name, u, metav1.ApplyOptions{FieldManager: manager, Force: true}); err != nil {
		return fmt.Errorf("write the state of PolicyException %s: %w", name, err)
	}
	return nil
}

// Define makes the kind PolicyException known to the cluster, or brings its definition up to date.
func (c *Client) Define(ctx context.Context) error {
	text, err := v1alpha1.PolicyExceptionDefinition()
	if err != nil {
		return fmt.Errorf("read the definition of PolicyException: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &u.Object); err != nil {
		return fmt.Errorf("read the definition of PolicyException: %w", err)
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	_, err = c.applyOne(ctx, resource("apiextensions.k8s.io", "v1", "customresourcedefinitions"), u, false)
	return err
}
