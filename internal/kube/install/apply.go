// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
)

// pace is how often a condition in the cluster is looked at.
const pace = 200 * time.Millisecond

// Apply puts the objects into the cluster as they are, by server-side apply: fields that others own and that are not in the objects stay. Then it
// deletes what an earlier version made and this one does not have.
func (c *Cluster) Apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if err := c.apply(ctx, o); err != nil {
			return fmt.Errorf("apply %s: %w", nameOf(o), err)
		}
		c.tell("applied", o)
	}
	return c.prune(ctx, objects)
}

func (c *Cluster) apply(ctx context.Context, o *unstructured.Unstructured) error {
	if err := c.patch(ctx, o); err != nil || o.GetKind() != "CustomResourceDefinition" {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, pace, time.Minute, true, func(ctx context.Context) (bool, error) {
		now, err := c.get(ctx, o)
		return err == nil && condition(now, "Established"), nil
	})
}

// condition reports whether a condition of an object's status is true.
func condition(o *unstructured.Unstructured, name string) bool {
	list, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, item := range list {
		if m, ok := item.(map[string]any); ok && m["type"] == name {
			return m["status"] == "True"
		}
	}
	return false
}

func (c *Cluster) prune(ctx context.Context, keep []*unstructured.Unstructured) error {
	all, err := c.installed(ctx)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, o := range keep {
		wanted[nameOf(o)] = true
	}
	var errs []error
	for _, o := range all {
		if !wanted[nameOf(&o)] {
			errs = append(errs, c.delete(ctx, &o))
		}
	}
	return errors.Join(errs...)
}

// gone waits until an object is no more.
func (c *Cluster) gone(ctx context.Context, o *unstructured.Unstructured) error {
	err := wait.PollUntilContextCancel(ctx, pace, true, func(ctx context.Context) (bool, error) {
		_, err := c.get(ctx, o)
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		return fmt.Errorf("wait for the end of %s: %w", nameOf(o), err)
	}
	return nil
}

// Ready waits until each DaemonSet and Deployment among the objects runs as it is now, everywhere.
func (c *Cluster) Ready(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if kind := o.GetKind(); kind != "DaemonSet" && kind != "Deployment" {
			continue
		}
		var last string
		err := wait.PollUntilContextCancel(ctx, pace, true, func(ctx context.Context) (bool, error) {
			now, err := c.get(ctx, o)
			if err != nil {
				last = err.Error()
				return false, nil
			}
			var ready bool
			ready, last = rolledOut(now)
			return ready, nil
		})
		if err != nil {
			return fmt.Errorf("wait for %s: %w: %s; `kubectl -n %s describe pods` says why", nameOf(o), err, last, o.GetNamespace())
		}
		c.tell("ready", o)
	}
	return nil
}

// rolledOut reports whether the controller of pods has seen the object, and all its pods are new and ready.
func rolledOut(o *unstructured.Unstructured) (bool, string) {
	number := func(path ...string) int64 {
		n, _, err := unstructured.NestedInt64(o.Object, path...)
		if err != nil {
			return 0
		}
		return n
	}
	seen := number("status", "observedGeneration") >= o.GetGeneration()
	if o.GetKind() == "DaemonSet" {
		want, updated, ready := number("status", "desiredNumberScheduled"), number("status", "updatedNumberScheduled"), number("status", "numberReady")
		return seen && updated >= want && ready >= want, fmt.Sprintf("%d of %d pods are new, %d ready", updated, want, ready)
	}
	want, updated, ready := number("spec", "replicas"), number("status", "updatedReplicas"), number("status", "availableReplicas")
	return seen && updated >= want && ready >= want, fmt.Sprintf("%d of %d pods are new, %d ready", updated, want, ready)
}
