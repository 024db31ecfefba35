// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"strings"
	"unique"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/model"
)

// configHash is what kubelet puts on the pod that stands in the API for a static one: the uid by which it runs it
// (kubetypes.ConfigHashAnnotationKey).
const configHash = "kubernetes.io/config.hash"

// podOf is the pod that an API object describes. own: it is of this node, whose pods' containers are of interest.
func podOf(o *corev1.Pod, own bool) *model.Pod {
	p := &model.Pod{UID: string(o.UID), Namespace: shared(o.Namespace), Name: o.Name, Labels: o.Labels, Controller: controllerOf(o),
		ServiceAccount: shared(o.Spec.ServiceAccountName), Node: shared(o.Spec.NodeName), HostNetwork: o.Spec.HostNetwork,
		Created: o.CreationTimestamp.Time, Ended: o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed}
	for _, a := range o.Status.PodIPs {
		if addr, err := netip.ParseAddr(a.IP); err == nil {
			p.Addresses = append(p.Addresses, addr.Unmap())
		}
	}
	if len(p.Addresses) == 0 {
		if addr, err := netip.ParseAddr(o.Status.PodIP); err == nil {
			p.Addresses = []netip.Addr{addr.Unmap()}
		}
	}
	for _, list := range [][]corev1.Container{o.Spec.InitContainers, o.Spec.Containers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if port.Name != "" && port.ContainerPort > 0 && port.ContainerPort <= 65535 {
					p.Ports = append(p.Ports, model.PodPort{Name: shared(port.Name), Port: uint16(port.ContainerPort), Protocol: protocolOf(port.Protocol)})
				}
			}
		}
	}
	if own {
		p.Containers = containersOf(o)
		p.StaticUID = o.Annotations[configHash]
	}
	return p
}

// containersOf are a pod's containers in the order in which kubelet starts them.
func containersOf(o *corev1.Pod) []model.PodContainer {
	ids := make(map[string]string)
	for _, list := range [][]corev1.ContainerStatus{o.Status.InitContainerStatuses, o.Status.ContainerStatuses} {
		for i := range list {
			_, ids[list[i].Name], _ = strings.Cut(list[i].ContainerID, "://")
		}
	}
	out := make([]model.PodContainer, 0, len(o.Spec.InitContainers)+len(o.Spec.Containers))
	for i := range o.Spec.InitContainers {
		c := &o.Spec.InitContainers[i]
		role := model.InitContainer
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			role = model.SidecarContainer
		}
		out = append(out, model.PodContainer{Name: shared(c.Name), Role: role, Image: shared(c.Image), ID: ids[c.Name]})
	}
	for i := range o.Spec.Containers {
		c := &o.Spec.Containers[i]
		out = append(out, model.PodContainer{Name: shared(c.Name), Role: model.AppContainer, Image: shared(c.Image), ID: ids[c.Name]})
	}
	return out
}

// controllerOf is what would make a pod again: of a ReplicaSet that a Deployment made, which gave its pods a label with the hash
// that ends the ReplicaSet's name, the Deployment.
func controllerOf(o *corev1.Pod) model.Controller {
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil || owner.Kind == "Node" {
		return model.Controller{}
	}
	c := model.Controller{Kind: shared(owner.Kind), Name: owner.Name}
	if hash := o.Labels["pod-template-hash"]; owner.Kind == "ReplicaSet" && hash != "" {
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && name != "" {
			c.Kind, c.Name = "Deployment", name
		}
	}
	c.Name = shared(c.Name)
	return c
}

func nodeOf(o *corev1.Node) *model.ClusterNode {
	n := &model.ClusterNode{Name: o.Name, Labels: o.Labels}
	for _, a := range o.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			n.Addresses = append(n.Addresses, addr.Unmap())
		}
	}
	cidrs := o.Spec.PodCIDRs
	if len(cidrs) == 0 && o.Spec.PodCIDR != "" {
		cidrs = []string{o.Spec.PodCIDR}
	}
	for _, c := range cidrs {
		if prefix, err := netip.ParsePrefix(c); err == nil {
			n.PodCIDRs = append(n.PodCIDRs, prefix.Masked())
		}
	}
	return n
}

// serviceOf is a service without its endpoints.
func serviceOf(o *corev1.Service) *model.ClusterService {
	s := &model.ClusterService{Namespace: shared(o.Namespace), Name: o.Name}
	add := func(text string) {
		if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(s.Addresses, addr.Unmap()) {
			s.Addresses = append(s.Addresses, addr.Unmap())
		}
	}
	add(o.Spec.ClusterIP)
	for _, list := range [][]string{o.Spec.ClusterIPs, o.Spec.ExternalIPs} {
		for _, a := range list {
			add(a)
		}
	}
	for _, in := range o.Status.LoadBalancer.Ingress {
		add(in.IP)
	}
	for _, p := range o.Spec.Ports {
		s.Ports = append(s.Ports, model.ServicePort{Name: p.Name, Port: uint16(p.Port), NodePort: uint16(p.NodePort), Protocol: protocolOf(p.Protocol)})
	}
	return s
}

// endpoints are those of one EndpointSlice that are ready, by the name of the service's port.
type endpoints map[string][]netip.AddrPort

func endpointsOf(o *discoveryv1.EndpointSlice) endpoints {
	out := make(endpoints, len(o.Ports))
	for _, p := range o.Ports {
		if p.Port == nil {
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		var list []netip.AddrPort
		for i := range o.Endpoints {
			e := &o.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				if addr, err := netip.ParseAddr(a); err == nil {
					list = append(list, netip.AddrPortFrom(addr.Unmap(), uint16(*p.Port)))
				}
			}
		}
		out[name] = list
	}
	return out
}

// protocolOf is the IP protocol's number; TCP where nothing is said, as in the API.
func protocolOf(p corev1.Protocol) uint8 {
	switch p {
	case corev1.ProtocolUDP:
		return unix.IPPROTO_UDP
	case corev1.ProtocolSCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// shared is one string for all that are equal: names of namespaces, nodes and controllers come with every pod.
func shared(s string) string { return unique.Make(s).Value() }
