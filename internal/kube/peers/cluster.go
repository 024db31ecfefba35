// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"errors"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// namespaceFile is where a pod's service account tells its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Cluster is a way to an API server.
type Cluster struct {
	// Namespace is that of the pod, or of the kubeconfig's context.
	Namespace string
	// Name is what a person calls it: the context.
	Name string

	config *rest.Config
	core   *rest.RESTClient
}

// InPod is the cluster that this process runs in, or, with a kubeconfig, that of its current context. version is told to the API
// server.
func InPod(kubeconfig, version string) (*Cluster, error) {
	if kubeconfig != "" {
		return Of(kubeconfig, "", version)
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) || errors.Is(err, os.ErrNotExist) {
		return nil, errNoCluster
	}
	if err != nil {
		return nil, fmt.Errorf("read the pod's service account (is it mounted?): %w", err)
	}
	namespace, err := os.ReadFile(namespaceFile)
	if err != nil {
		return nil, fmt.Errorf("read the pod's namespace: %w", err)
	}
	return open(config, strings.TrimSpace(string(namespace)), "", version)
}

// Of is the cluster of a context of a kubeconfig: of the current one when empty, in the files that kubectl looks in.
func Of(kubeconfig, context, version string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // $KUBECONFIG, then ~/.kube/config
	if kubeconfig != "" {
		rules.ExplicitPath = kubeconfig
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	name := context
	if name == "" {
		name = raw.CurrentContext
	}
	if len(raw.Contexts) == 0 {
		return nil, errors.New("there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a cluster; give one with --kubeconfig FILE")
	}
	if raw.Contexts[name] == nil {
		if name == "" {
			return nil, errors.New("the kubeconfig has no current context: choose one with --cluster=CONTEXT, or with kubectl config use-context")
		}
		return nil, fmt.Errorf("the kubeconfig has no context %q: kubectl config get-contexts lists them", name)
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read context %s of the kubeconfig: %w", name, err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the namespace of context %s: %w", name, err)
	}
	return open(config, namespace, name, version)
}

func open(config *rest.Config, namespace, name, version string) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "vigie/" + version
	scheme := runtime.NewScheme() // client-go's own would bring every API group there is
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register API types: %w", err)
	}
	of := rest.CopyConfig(config)
	of.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	of.APIPath, of.GroupVersion = "/api", &corev1.SchemeGroupVersion
	core, err := rest.RESTClientFor(of)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	return &Cluster{Namespace: namespace, Name: name, config: config, core: core}, nil
}
