// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"time"
)

// Controller is what made a pod and would make it again: the Deployment, not its ReplicaSet; the CronJob, not its Job. A pod
// that nobody made again has none.
type Controller struct {
	Kind string `json:"kind"` // empty: none, or not known yet
	Name string `json:"name"`
}

// Pod is what is known of a pod, whether it runs here or on another node. It is immutable: a change makes a new one.
type Pod struct {
	UID             string
	Namespace, Name string
	Labels          map[string]string // never modified
	Controller      Controller        // the Job for a moment, where it is a CronJob's
	ServiceAccount  string
	Node            string
	Addresses       []netip.Addr // unmapped; none before it has a sandbox. Those of a pod in the host's network are its node's
	HostNetwork     bool
	Ports           []PodPort // named ports of its containers, which NetworkPolicy and Service may name
	Created         time.Time
	Ended           bool // succeeded or failed: its addresses may belong to another already
	// Of pods of this node alone: its containers in the order in which they are started, and the uid by which kubelet runs it
	// where that is another than UID, as it is of a static pod.
	Containers []PodContainer
	StaticUID  string
}

// PodContainer is one container of a pod.
type PodContainer struct {
	Name  string
	Role  ContainerRole
	Image string
	ID    string // of its current run, without the runtime's name; empty before it has one
}

// ContainerRole says when a container of a pod runs.
type ContainerRole string

// The roles of containers.
const (
	InitContainer    ContainerRole = "init"    // runs to its end before the next one starts
	SidecarContainer ContainerRole = "sidecar" // an init container with restartPolicy Always: beside those that follow, and after the app
	AppContainer     ContainerRole = "app"
)

// PodPort is a named port of a container.
type PodPort struct {
	Name     string
	Port     uint16
	Protocol uint8 // IPPROTO_*
}

// ClusterNamespace is a Kubernetes namespace. It is immutable.
type ClusterNamespace struct {
	Name   string
	Labels map[string]string // never modified
}

// ClusterNode is a node of the cluster. It is immutable.
type ClusterNode struct {
	Name      string
	Labels    map[string]string // never modified
	Addresses []netip.Addr      // internal and external ones
	PodCIDRs  []netip.Prefix
}

// ClusterService is a Kubernetes service: stable addresses in front of endpoints. It is immutable.
type ClusterService struct {
	Namespace, Name string
	Addresses       []netip.Addr // cluster, external and load balancer's addresses
	Ports           []ServicePort
}

// ServicePort is one port of a service, and what stands behind it.
type ServicePort struct {
	Name     string
	Port     uint16
	NodePort uint16 // 0: none
	Protocol uint8  // IPPROTO_*
	// Endpoints are those that are ready.
	Endpoints []netip.AddrPort
}
