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
		if _, err := c.applyOne(ctx, resource("", "v1", "namespaces"), ns); err != nil {
			return err
		}
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": SettingsName, "namespace": SettingsNamespace, "labels": labels}, "data": map[string]any{settingsKey: string(text)}}}
	_, err = c.applyOne(ctx, resource("", "v1", "configmaps"), u)
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

// AllPolicies are all ValidatingAdmissionPolicies and MutatingAdmissionPolicies of the cluster, whoever made them, as documents.
func (c *Client) AllPolicies(ctx context.Context) ([]map[string]any, error) {
	served, _, err := c.served()
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, wanted := range []struct {
		kind     string
		versions []string
	}{{"ValidatingAdmissionPolicy", []string{"v1", "v1beta1"}}, {"MutatingAdmissionPolicy", []string{"v1", "v1beta1", "v1alpha1"}}} {
		for _, v := range wanted.versions {
			gvr := schema.GroupVersionResource{Group: policies().Group, Version: v, Resource: strings.ToLower(strings.TrimSuffix(wanted.kind, "y")) + "ies"}
			if served[gvr].Kind == "" {
				continue
			}
			list, err := c.Dynamic.Resource(gvr).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", gvr.Resource, err)
			}
			for _, u := range list.Items {
				u.SetManagedFields(nil)
				u.SetAPIVersion(gvr.GroupVersion().String())
				u.SetKind(wanted.kind)
				out = append(out, u.Object)
			}
			break
		}
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
	_, err = c.applyOne(ctx, resource("apiextensions.k8s.io", "v1", "customresourcedefinitions"), u)
	return err
}
