// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ErrPolicies: policies would be deleted with their kinds, and nobody has said that they may.
var ErrPolicies = errors.New("with their kinds these policies would be deleted")

// Uninstall takes vigie out of the cluster: agents and relay first, then what they left on the nodes, then everything else. It returns when all
// is gone. Policies are objects of the user: where there are any and deletePolicies is false, it does nothing and gives ErrPolicies.
func (c *Cluster) Uninstall(ctx context.Context, deletePolicies bool) error {
	all, err := c.installed(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("`vigie install` has made nothing in this cluster; what Helm has installed Helm takes away: helm uninstall")
	}
	if policies, err := c.policies(ctx, all); err != nil || len(policies) > 0 && !deletePolicies {
		return errors.Join(err, fmt.Errorf("%w: %s", ErrPolicies, strings.Join(policies, ", ")))
	}
	workloads, rest := split(all)
	cleaner, err := c.keepCleaner(ctx, workloads)
	if err != nil {
		return err
	}
	workloads = slices.DeleteFunc(workloads, func(o unstructured.Unstructured) bool { return isCleaner(&o) })
	for _, o := range workloads {
		if err := c.delete(ctx, &o); err != nil {
			return err
		}
	}
	for _, o := range workloads {
		if err := c.gone(ctx, &o); err != nil {
			return err
		}
	}
	if cleaner != nil {
		if err := c.cleanNodes(ctx, cleaner); err != nil {
			return fmt.Errorf("clean the nodes: %w", err)
		}
	}
	for _, o := range rest {
		if err := c.delete(ctx, &o); err != nil {
			return err
		}
	}
	for _, o := range rest {
		if err := c.gone(ctx, &o); err != nil {
			return err
		}
	}
	return nil
}

// split takes agents and relay out of the rest, which is what goes when the nodes are clean. The cleaner of an uninstall that was
// interrupted is among the workloads.
func split(all []unstructured.Unstructured) (workloads, rest []unstructured.Unstructured) {
	for _, o := range all {
		if kind := o.GetKind(); kind == "DaemonSet" || kind == "Deployment" {
			workloads = append(workloads, o)
		} else {
			rest = append(rest, o)
		}
	}
	return workloads, rest
}

// policies names the objects of the installed kinds.
func (c *Cluster) policies(ctx context.Context, all []unstructured.Unstructured) ([]string, error) {
	var names []string
	for _, crd := range all {
		if crd.GetKind() != "CustomResourceDefinition" {
			continue
		}
		k, err := served(&crd)
		if err != nil {
			return nil, err
		}
		list, err := c.list(ctx, k, "")
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			names = append(names, nameOf(&o))
		}
	}
	return names, nil
}

// served is the kind that a definition defines, in its stored version.
func served(crd *unstructured.Unstructured) (kind, error) {
	var spec struct {
		Spec struct {
			Group string `json:"group"`
			Names struct {
				Kind   string `json:"kind"`
				Plural string `json:"plural"`
			} `json:"names"`
			Versions []struct {
				Name    string `json:"name"`
				Storage bool   `json:"storage"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(crd.Object, &spec); err != nil {
		return kind{}, fmt.Errorf("read %s: %w", nameOf(crd), err)
	}
	for _, v := range spec.Spec.Versions {
		if v.Storage {
			return kind{schema.GroupVersionKind{Group: spec.Spec.Group, Version: v.Name, Kind: spec.Spec.Names.Kind}, spec.Spec.Names.Plural, true}, nil
		}
	}
	return kind{}, fmt.Errorf("%s has no stored version", nameOf(crd))
}

// parked is a label that no node has: a cleaner that selects it waits.
const parked = "vigie.io/uninstall-waits"

// keepCleaner takes the cleaner out of the workloads, or makes it of the agents' DaemonSet: it is in the cluster, and waits, before the
// agents go. Whoever comes after an uninstall that was interrupted finds there which nodes are to be cleaned, and with what image. nil where
// there are neither.
func (c *Cluster) keepCleaner(ctx context.Context, workloads []unstructured.Unstructured) (*unstructured.Unstructured, error) {
	var source *unstructured.Unstructured
	for i, o := range workloads {
		if o.GetKind() == "DaemonSet" && (source == nil || !isCleaner(&o)) { // the agents' is the newer word
			source = &workloads[i]
		}
	}
	if source == nil {
		return nil, nil
	}
	cleaner, err := cleanerOf(source)
	if err == nil && !isCleaner(source) {
		waiting := cleaner.DeepCopy()
		if err = unstructured.SetNestedField(waiting.Object, "true", append(selectorPath(), parked)...); err == nil {
			err = c.apply(ctx, waiting)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("prepare to clean the nodes: %w", err)
	}
	return cleaner, nil
}

func isCleaner(o *unstructured.Unstructured) bool { return o.GetName() == cleanerName }

func selectorPath() []string { return []string{"spec", "template", "spec", "nodeSelector"} }

// cleanNodes has a pod on each node that had an agent remove what the agent left there: pins, history, sockets.
func (c *Cluster) cleanNodes(ctx context.Context, cleaner *unstructured.Unstructured) error {
	if err := c.apply(ctx, cleaner); err != nil {
		return err
	}
	if err := c.Ready(ctx, []*unstructured.Unstructured{cleaner}); err != nil {
		return err
	}
	if err := c.delete(ctx, cleaner); err != nil {
		return err
	}
	return c.gone(ctx, cleaner)
}

// cleanerName is the name of the DaemonSet that cleans nodes.
const cleanerName = "vigie-cleaner"

// cleanerOf is a DaemonSet that takes the place, image and reach of another, which is the agents' or a cleaner, and none of its powers.
func cleanerOf(agent *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	pod, _, err := unstructured.NestedMap(agent.Object, "spec", "template", "spec")
	if err != nil {
		return nil, err
	}
	containers, _, err := unstructured.NestedSlice(pod, "containers")
	if err != nil || len(containers) == 0 {
		return nil, fmt.Errorf("the DaemonSet of the agent has no container: %w", err)
	}
	old, ok := containers[0].(map[string]any)
	if !ok {
		return nil, errors.New("the container of the agent's DaemonSet is no object")
	}
	container := func(name string, args ...any) map[string]any {
		return map[string]any{"name": name, "image": old["image"], "imagePullPolicy": old["imagePullPolicy"], "args": args,
			"securityContext": map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
				"capabilities": map[string]any{"drop": []any{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"}}}
	}
	var volumes, mounts []any
	for name, dir := range map[string]string{"bpffs": "/sys/fs/bpf", "state": "/var/lib", "run": "/run"} {
		volumes = append(volumes, map[string]any{"name": name, "hostPath": map[string]any{"path": dir, "type": "Directory"}})
		mounts = append(mounts, map[string]any{"name": name, "mountPath": "/host" + dir})
	}
	clean := container("clean", "cleanup", "--root=/host")
	clean["volumeMounts"] = mounts
	spec := map[string]any{"initContainers": []any{clean}, "containers": []any{container("done", "cleanup", "--wait")}, "volumes": volumes,
		"automountServiceAccountToken": false, "terminationGracePeriodSeconds": int64(1)}
	for _, same := range []string{"nodeSelector", "tolerations", "imagePullSecrets", "priorityClassName"} {
		if v, ok := pod[same]; ok {
			spec[same] = v
		}
	}
	if selector, ok := spec["nodeSelector"].(map[string]any); ok {
		delete(selector, parked)
	}
	labels := map[string]any{"app.kubernetes.io/name": "vigie", "app.kubernetes.io/part-of": "vigie", "app.kubernetes.io/component": "cleaner",
		"app.kubernetes.io/managed-by": Service}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet",
		"metadata": map[string]any{"name": cleanerName, "namespace": agent.GetNamespace(), "labels": labels},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "vigie", "app.kubernetes.io/component": "cleaner"}},
			"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": "100%"}},
			"template":       map[string]any{"metadata": map[string]any{"labels": labels}, "spec": spec}}}}, nil
}
