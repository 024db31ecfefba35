// SPDX-License-Identifier: Apache-2.0

// Package cluster is posture's way to a Kubernetes API server. In: a kubeconfig, or the service account of the pod. Out:
// the objects that controls want, page by page and no faster than the server answers at ease, and the few writes of admission.
package cluster

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/vigie-io/vigie/internal/posture/engine"
)

// Access says which API server, and as whom.
type Access struct {
	Kubeconfig string // file; empty: KUBECONFIG, ~/.kube/config, or the pod's service account
	Context    string // of the file; empty: its current one
	Agent      string // user agent
}

// Requests a second beyond which the client waits, and how many it may make at once after a rest.
const (
	qps   = 20
	burst = 20
)

// Client is a connection to one API server.
type Client struct {
	Config    *rest.Config
	Dynamic   dynamic.Interface
	Discovery discovery.DiscoveryInterface
	Name      string // of the context or the address, for people
}

// Connect reads the configuration. Nothing is sent yet.
func Connect(a Access) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.Context})
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a cluster; give one with --kubeconfig FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w: give --kubeconfig or --context", err)
	}
	config.UserAgent = a.Agent
	name := a.Context
	if name == "" {
		name = config.Host
		if raw, err := loader.RawConfig(); err == nil && raw.CurrentContext != "" {
			name = raw.CurrentContext
		}
	}
	return NewClient(config, name)
}

// NewClient connects by a configuration.
func NewClient(config *rest.Config, name string) (*Client, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = qps, burst
	config.WarningHandler = rest.NoWarnings{} // of deprecated versions: a control tells them
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	return &Client{Config: config, Dynamic: dyn, Discovery: disco, Name: name}, nil
}

// Version is the minor version of the API server.
func (c *Client) Version() (major, minor uint, err error) {
	v, err := c.Discovery.ServerVersion()
	if err != nil {
		return 0, 0, fmt.Errorf("ask %s for its version: %w", c.Name, err)
	}
	if _, err := fmt.Sscanf(v.Major+" "+v.Minor, "%d %d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("ask %s for its version: it says %s.%s", c.Name, v.Major, v.Minor)
	}
	return major, minor, nil
}

// Served is a resource that the API server has.
type Served struct {
	Resource   schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// served asks which resources there are. A group whose own server does not answer is in broken.
func (c *Client) served() (found map[schema.GroupVersionResource]Served, broken error, err error) {
	_, lists, err := c.Discovery.ServerGroupsAndResources()
	if err != nil {
		if !discovery.IsGroupDiscoveryFailedError(err) {
			return nil, nil, fmt.Errorf("ask %s what it serves: %w", c.Name, err)
		}
		broken = err
	}
	found = map[schema.GroupVersionResource]Served{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range l.APIResources {
			gvr := gv.WithResource(r.Name)
			found[gvr] = Served{gvr, r.Kind, r.Namespaced}
		}
	}
	return found, broken, nil
}

// Resources are those wanted that the cluster has, each in one version.
func (c *Client) Resources(w Wanted) ([]Served, error) {
	served, _, err := c.served()
	if err != nil {
		return nil, err
	}
	var out []Served
	for _, gr := range w.Resources() {
		for _, v := range w[gr] {
			if s, ok := served[gr.WithVersion(v)]; ok {
				out = append(out, s)
				break
			}
		}
	}
	return out, nil
}

// Target is the version of the API server, or the nearest whose CEL this build knows.
func (c *Client) Target() (engine.Version, error) {
	major, minor, err := c.Version()
	if err != nil {
		return engine.Version{}, err
	}
	oldest, newest := engine.Supported()
	v := engine.Version{Major: major, Minor: minor}
	switch {
	case v.Minor > newest.Minor:
		v = newest
	case v.Minor < oldest.Minor:
		v = oldest
	}
	return v, nil
}

// Serves reports whether a resource is there.
func (c *Client) Serves(gvr schema.GroupVersionResource) (bool, error) {
	list, err := c.Discovery.ServerResourcesForGroupVersion(gvr.GroupVersion().String())
	if err != nil {
		if meta.IsNoMatchError(err) || isNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("ask %s what it serves: %w", c.Name, err)
	}
	for _, r := range list.APIResources {
		if r.Name == gvr.Resource {
			return true, nil
		}
	}
	return false, nil
}
