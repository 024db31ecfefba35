// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"net/netip"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// Cluster is what is known of a cluster at one moment, seen from one of its nodes. It is immutable.
type Cluster struct {
	Node       string       // its name
	Pods       []*model.Pod // of all nodes
	Namespaces []*model.ClusterNamespace
	Nodes      []*model.ClusterNode
	Services   []*model.ClusterService
	// Host are the addresses of this node's own network, those of bridges to its pods among them. What comes from them may
	// always come in: so do the kubelet's probes.
	Host []netip.Addr
	// Names tells by which DNS names a pod asked for an address; nil: by none.
	Names func(pod *model.Pod, addr netip.Addr) []string
}

func (c *Cluster) namespace(name string) *model.ClusterNamespace {
	for _, n := range c.Namespaces {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// PodAt is the pod that has an address now; nil when none has. A pod in its node's network has none of its own.
func (c *Cluster) PodAt(addr netip.Addr) *model.Pod {
	for _, p := range c.Pods {
		if !p.Ended && !p.HostNetwork && slices.Contains(p.Addresses, addr) {
			return p
		}
	}
	return nil
}

// NodeAt is the node that has an address; nil when none has.
func (c *Cluster) NodeAt(addr netip.Addr) *model.ClusterNode {
	for _, n := range c.Nodes {
		if slices.Contains(n.Addresses, addr) {
			return n
		}
	}
	return nil
}

// host reports whether an address is of this node's own network.
func (c *Cluster) host(addr netip.Addr) bool {
	if slices.Contains(c.Host, addr) {
		return true
	}
	n := c.NodeAt(addr)
	return n != nil && n.Name == c.Node
}

// apiServer reports whether an address is one of the API server's: behind the service "kubernetes" of "default".
func (c *Cluster) apiServer(addr netip.Addr) bool {
	for _, s := range c.Services {
		if s.Namespace != "default" || s.Name != "kubernetes" {
			continue
		}
		for _, port := range s.Ports {
			for _, e := range port.Endpoints {
				if e.Addr() == addr {
					return true
				}
			}
		}
	}
	return false
}
