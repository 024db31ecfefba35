// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/vigie-io/vigie/api/crd/v1alpha1"
)

// summaryManager owns what is about all nodes together: whoever reports last has seen all of them.
const summaryManager = "vigie-summary"

// Report writes how a policy is doing on a node into the object's status, beside what other nodes' agents say, and brings up to
// date what is about all nodes together. An object that is gone is no error.
func (w *Watcher) Report(ctx context.Context, o *Object, node v1alpha1.NodeStatus) error {
	at := slices.IndexFunc(w.options.Kinds, func(k Kind) bool { return k.Kind == o.Kind })
	if at < 0 {
		return fmt.Errorf("%s is no kind that is followed", o.Kind)
	}
	kind := w.options.Kinds[at]
	client := dynamic.ResourceInterface(w.client.Resource(kind.Resource))
	if o.Namespace != "" {
		client = w.client.Resource(kind.Resource).Namespace(o.Namespace)
	}
	apply := func(manager string, status map[string]any) (*unstructured.Unstructured, error) {
		meta := map[string]any{"name": o.Name}
		if o.Namespace != "" {
			meta["namespace"] = o.Namespace
		}
		patch, err := json.Marshal(map[string]any{"apiVersion": kind.Resource.GroupVersion().String(), "kind": kind.Kind, "metadata": meta, "status": status})
		if err != nil {
			return nil, err
		}
		force := true
		return client.Patch(ctx, o.Name, types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: manager, Force: &force}, "status")
	}
	now, err := apply("vigie-node-"+node.Name, map[string]any{"nodes": []v1alpha1.NodeStatus{node}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the status of %s %s/%s: %w", o.Kind, o.Namespace, o.Name, err)
	}
	var whole struct {
		Status v1alpha1.Status `json:"status"`
	}
	b, err := now.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(b, &whole)
	}
	if err != nil {
		return fmt.Errorf("read the status of %s %s/%s: %w", o.Kind, o.Namespace, o.Name, err)
	}
	was := whole.Status
	whole.Status.Summarize()
	if s := whole.Status; s.State == was.State && s.Rungs == was.Rungs && s.Hits == was.Hits && s.InForce == was.InForce {
		return nil
	}
	s := whole.Status
	if _, err = apply(summaryManager, map[string]any{"state": s.State, "rungs": s.Rungs, "hits": s.Hits, "inForce": s.InForce}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of %s %s/%s: %w", o.Kind, o.Namespace, o.Name, err)
	}
	return nil
}
