// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// ErrNotConfigured: nothing says that there is a cluster here.
var ErrNotConfigured = errors.New("no Kubernetes API server is configured: the agent runs in no pod; give --kube a kubeconfig file to follow one")

// Choices of --kube beside a file's name.
const (
	Auto = "auto" // the service account of the pod that the agent runs in, if it runs in one
	Off  = "off"
)

// How much is asked of the API server at most: watches are opened once and stay open, so this is for the start, for the owners of
// jobs, and for events.
const (
	queriesPerSecond = 5
	queriesAtOnce    = 20
)

// RestConfig is how to speak to the API server that a choice ("auto", "off" or a kubeconfig file) stands for. Errors:
// ErrNotConfigured for off, and for auto outside of a pod; else what is wrong with the file or the service account.
func RestConfig(choice, version string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	switch choice {
	case Off:
		return nil, ErrNotConfigured
	case Auto, "":
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) || errors.Is(err, os.ErrNotExist) {
			return nil, ErrNotConfigured
		}
		if err != nil {
			return nil, fmt.Errorf("read the pod's service account (is it mounted?): %w", err)
		}
	default:
		config, err = clientcmd.BuildConfigFromFlags("", choice)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", choice, err)
		}
	}
	config.UserAgent = "vigie/" + version
	config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(queriesPerSecond, queriesAtOnce)
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.ContentType = runtime.ContentTypeProtobuf
	return config, nil
}

// clients are one for each API group in use, over one connection.
type clients struct {
	core, discovery, events, batch *rest.RESTClient
}

func newClients(config *rest.Config, through func(http.RoundTripper) http.RoundTripper) (clients, error) {
	config = rest.CopyConfig(config)
	config.Wrap(through)
	connection, err := rest.HTTPClientFor(config)
	if err != nil {
		return clients{}, fmt.Errorf("prepare the connection to the API server: %w", err)
	}
	// A scheme of our own: client-go's would bring every API group there is.
	scheme := runtime.NewScheme()
	wireTypes(scheme)
	if err := eventsv1.AddToScheme(scheme); err != nil {
		return clients{}, fmt.Errorf("register API types: %w", err)
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	var c clients
	for _, g := range []struct {
		to      **rest.RESTClient
		path    string
		version schema.GroupVersion
	}{
		{&c.core, "/api", corev1.SchemeGroupVersion},
		{&c.discovery, "/apis", discoveryv1.SchemeGroupVersion},
		{&c.events, "/apis", eventsv1.SchemeGroupVersion},
		{&c.batch, "/apis", schema.GroupVersion{Group: "batch", Version: "v1"}},
	} {
		of := rest.CopyConfig(config)
		of.APIPath, of.GroupVersion = g.path, &g.version
		if *g.to, err = rest.RESTClientForConfigAndClient(of, connection); err != nil {
			return clients{}, fmt.Errorf("make a client for %s: %w", g.version, err)
		}
	}
	return c, nil
}
