// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// Wanted are the resources that controls look at: by resource, the versions that they name, the most named first. Secrets are
// only among them when they are asked for: who may list them has every password of the cluster.
type Wanted map[schema.GroupResource][]string

// secrets is the resource that a scan leaves alone unless it is told.
func secrets() schema.GroupResource { return schema.GroupResource{Resource: "secrets"} }

// WantedBy finds what controls need. left are the controls that cannot judge everything because secrets are left out.
func WantedBy(controls []*control.Control, withSecrets bool) (w Wanted, left []string) {
	count := map[schema.GroupVersionResource]int{}
	decoder := object.NewDecoder()
	kind := func(apiVersion, name string) {
		if o, err := decoder.Decode(map[string]any{"apiVersion": apiVersion, "kind": name}); err == nil {
			count[o.Resource]++
		}
	}
	// Every scan needs these: the labels of namespaces, and who may do what.
	kind("v1", "Namespace")
	for _, name := range []string{"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} {
		kind("rbac.authorization.k8s.io/v1", name)
	}
	for _, c := range controls {
		looks := false
		for _, r := range c.Policy.Spec.MatchConstraints.ResourceRules {
			for _, g := range r.APIGroups {
				for _, v := range r.APIVersions {
					for _, res := range r.Resources {
						res, _, _ = strings.Cut(res, "/")
						gvr := schema.GroupVersionResource{Group: g, Version: v, Resource: res}
						if strings.Contains(g+v+res, "*") {
							continue
						}
						if gvr.GroupResource() == secrets() && !withSecrets {
							looks = true
							continue
						}
						count[gvr]++
					}
				}
			}
		}
		for _, r := range c.Related {
			for _, k := range r.Kinds {
				if k == "pods" {
					for _, name := range control.PodKinds() {
						kind(podVersion(name), name)
					}
					continue
				}
				i := strings.LastIndexByte(k, '/')
				kind(k[:max(i, 0)], k[i+1:])
			}
		}
		if looks {
			left = append(left, c.ID)
		}
	}
	w = Wanted{}
	for gvr := range count {
		if gvr.GroupResource() != secrets() || withSecrets {
			w[gvr.GroupResource()] = append(w[gvr.GroupResource()], gvr.Version)
		}
	}
	for gr, versions := range w {
		slices.SortFunc(versions, func(a, b string) int {
			return cmp.Or(count[gr.WithVersion(b)]-count[gr.WithVersion(a)], cmp.Compare(b, a))
		})
	}
	return w, left
}

func podVersion(kind string) string {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet":
		return "apps/v1"
	case "Job", "CronJob":
		return "batch/v1"
	}
	return "v1"
}

// Resources are those wanted in order.
func (w Wanted) Resources() []schema.GroupResource {
	return slices.SortedFunc(maps.Keys(w), func(a, b schema.GroupResource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource))
	})
}

// RBAC is the least that a scan may: to list what it wants, and exceptions. name is that of the role, the binding and the service account.
func (w Wanted) RBAC(name, namespace string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}\n---\n", name, namespace)
	fmt.Fprintf(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: %s}\nrules:\n", name)
	byGroup := map[string][]string{}
	for gr := range w {
		byGroup[gr.Group] = append(byGroup[gr.Group], gr.Resource)
	}
	for _, g := range slices.Sorted(maps.Keys(byGroup)) {
		slices.Sort(byGroup[g])
		fmt.Fprintf(&b, "- apiGroups: [%q]\n  resources: [%s]\n  verbs: [list]\n", g, strings.Join(byGroup[g], ", "))
	}
	fmt.Fprintf(&b, "- apiGroups: [%q]\n  resources: [%s]\n  verbs: [list]\n", Exceptions().Group, Exceptions().Resource)
	fmt.Fprintf(&b, "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: %s}\n", name)
	fmt.Fprintf(&b, "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %s}\n", name)
	fmt.Fprintf(&b, "subjects: [{kind: ServiceAccount, name: %s, namespace: %s}]\n", name, namespace)
	return b.String()
}
