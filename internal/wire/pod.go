// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/netip"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// PodToProto is the message for p. What no client asks for is left out: named ports, and the uid of a static pod.
func PodToProto(p *model.Pod) *pb.Pod {
	m := &pb.Pod{Uid: text(p.UID), Namespace: text(p.Namespace), Name: text(p.Name), ServiceAccount: text(p.ServiceAccount), Node: text(p.Node),
		HostNetwork: p.HostNetwork, Ended: p.Ended}
	if len(p.Labels) > 0 {
		m.Labels = make(map[string]string, len(p.Labels))
		for k, v := range p.Labels {
			m.Labels[text(k)] = text(v)
		}
	}
	if c := p.Controller; c != (model.Controller{}) {
		m.Controller = &pb.Controller{Kind: text(c.Kind), Name: text(c.Name)}
	}
	for _, a := range p.Addresses {
		m.Addresses = append(m.Addresses, a.String())
	}
	if !p.Created.IsZero() {
		m.Created = timestamppb.New(p.Created)
	}
	for _, c := range p.Containers {
		m.Containers = append(m.Containers, &pb.PodContainer{Name: text(c.Name), Role: text(string(c.Role)), Image: text(c.Image), Id: text(c.ID)})
	}
	return m
}

// PodFromProto is the pod that m stands for.
func PodFromProto(m *pb.Pod) *model.Pod {
	p := &model.Pod{UID: m.GetUid(), Namespace: m.GetNamespace(), Name: m.GetName(), Labels: m.GetLabels(), ServiceAccount: m.GetServiceAccount(), Node: m.GetNode(),
		Controller: model.Controller{Kind: m.GetController().GetKind(), Name: m.GetController().GetName()}, HostNetwork: m.GetHostNetwork(), Ended: m.GetEnded()}
	for _, a := range m.GetAddresses() {
		if addr, err := netip.ParseAddr(a); err == nil {
			p.Addresses = append(p.Addresses, addr)
		}
	}
	if m.GetCreated() != nil {
		p.Created = m.GetCreated().AsTime()
	}
	for _, c := range m.GetContainers() {
		p.Containers = append(p.Containers, model.PodContainer{Name: c.GetName(), Role: model.ContainerRole(c.GetRole()), Image: c.GetImage(), ID: c.GetId()})
	}
	return p
}
