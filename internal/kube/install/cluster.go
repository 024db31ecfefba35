// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json" // of which numbers are integers, as the helpers of unstructured objects want them
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// mine selects what `vigie install` has made.
const mine = "app.kubernetes.io/part-of=vigie,app.kubernetes.io/managed-by=" + Service

// Cluster is a cluster into which vigie is put.
type Cluster struct {
	client *rest.RESTClient
	// Tell is told what has been done: "applied", "deleted", and the object's name. May be nil.
	Tell func(deed, object string)
}

// Connect finds a cluster as kubectl does: by this kubeconfig file, or $KUBECONFIG, or ~/.kube/config; and by the current context, or this one.
func Connect(kubeconfig, context string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a cluster; give one with --kubeconfig FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	// Objects pass as they are; of the API's own types only that of its errors is known.
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	return &Cluster{client: client}, nil
}

func (c *Cluster) tell(deed string, o *unstructured.Unstructured) {
	if c.Tell != nil {
		c.Tell(deed, nameOf(o))
	}
}

// nameOf is how people name an object: "DaemonSet vigie-system/vigie-agent".
func nameOf(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// kind is a kind of objects and where the API has them.
type kind struct {
	schema.GroupVersionKind
	plural     string
	namespaced bool
}

// kinds are those that vigie has ever installed, in the order in which they are to be deleted.
func kinds() []kind {
	of := func(group, name, plural string, namespaced bool) kind {
		return kind{schema.GroupVersionKind{Group: group, Version: "v1", Kind: name}, plural, namespaced}
	}
	const rbac = "rbac.authorization.k8s.io"
	return []kind{
		of("apps", "DaemonSet", "daemonsets", true), of("apps", "Deployment", "deployments", true),
		of("", "Service", "services", true), of("", "ConfigMap", "configmaps", true), of("", "Secret", "secrets", true),
		of(rbac, "RoleBinding", "rolebindings", true), of(rbac, "Role", "roles", true),
		of(rbac, "ClusterRoleBinding", "clusterrolebindings", false), of(rbac, "ClusterRole", "clusterroles", false),
		of("", "ServiceAccount", "serviceaccounts", true),
		of("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false),
		of("", "Namespace", "namespaces", false),
	}
}

func kindOf(o *unstructured.Unstructured) (kind, error) {
	all := kinds()
	at := slices.IndexFunc(all, func(k kind) bool { return k.GroupVersionKind == o.GroupVersionKind() })
	if at < 0 {
		return kind{}, fmt.Errorf("%s is of a kind that vigie does not install", nameOf(o))
	}
	return all[at], nil
}

// path is where the API has objects of the kind in a namespace, or in all.
func (k kind) path(namespace string) []string {
	path := []string{"/apis", k.Group, k.Version}
	if k.Group == "" {
		path = []string{"/api", k.Version}
	}
	if k.namespaced && namespace != "" {
		path = append(path, "namespaces", namespace)
	}
	return append(path, k.plural)
}

func (c *Cluster) get(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	k, err := kindOf(o)
	if err != nil {
		return nil, err
	}
	data, err := c.client.Get().AbsPath(k.path(o.GetNamespace())...).Name(o.GetName()).Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	now := &unstructured.Unstructured{}
	return now, json.Unmarshal(data, &now.Object)
}

// Lookup gives an object of a core kind as it is in the cluster, or nothing where it is not there.
func (c *Cluster) Lookup(ctx context.Context, kind, namespace, name string) (map[string]any, error) {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"namespace": namespace, "name": name}}}
	now, err := c.get(ctx, o)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("see what %s holds: %w", nameOf(o), err)
	}
	return now.Object, nil
}

// list gives the objects of a kind in all namespaces.
func (c *Cluster) list(ctx context.Context, k kind, labels string) ([]unstructured.Unstructured, error) {
	data, err := c.client.Get().AbsPath(k.path("")...).Param("labelSelector", labels).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.plural, err)
	}
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("list %s: %w", k.plural, err)
	}
	objects := make([]unstructured.Unstructured, len(list.Items))
	for i, item := range list.Items {
		objects[i].Object = item
		objects[i].SetGroupVersionKind(k.GroupVersionKind) // items of a list do not say it
	}
	return objects, nil
}

// patch is a server-side apply. What the chart says holds, whoever changed it.
func (c *Cluster) patch(ctx context.Context, o *unstructured.Unstructured) error {
	k, err := kindOf(o)
	if err != nil {
		return err
	}
	data, err := json.Marshal(o.Object)
	if err != nil {
		return err
	}
	return c.client.Patch(types.ApplyPatchType).AbsPath(k.path(o.GetNamespace())...).Name(o.GetName()).
		Param("fieldManager", Service).Param("force", "true").Body(data).Do(ctx).Error()
}

// delete deletes an object with what it owns: an agent has ended when its DaemonSet is gone.
func (c *Cluster) delete(ctx context.Context, o *unstructured.Unstructured) error {
	k, err := kindOf(o)
	if err != nil {
		return err
	}
	err = c.client.Delete().AbsPath(k.path(o.GetNamespace())...).Name(o.GetName()).
		Param("propagationPolicy", string(metav1.DeletePropagationForeground)).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", nameOf(o), err)
	}
	c.tell("deleted", o)
	return nil
}

// installed lists what `vigie install` has made, in the order in which it is to be deleted.
func (c *Cluster) installed(ctx context.Context) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	for _, k := range kinds() {
		list, err := c.list(ctx, k, mine)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	// What a cluster makes of one of ours may bear its labels too; it goes with it.
	return slices.DeleteFunc(all, func(o unstructured.Unstructured) bool { return len(o.GetOwnerReferences()) > 0 }), nil
}
