// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// ListPods implements the API.
func (s *service) ListPods(_ context.Context, r *connect.Request[pb.ListPodsRequest]) (*connect.Response[pb.ListPodsResponse], error) {
	if s.config.Pods == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the agent follows no Kubernetes: start it in a pod, or with --kube FILE"))
	}
	node := ""
	if st := s.backend.Status().Kubernetes; st != nil {
		node = st.Node
	}
	var wanted []*model.Pod
	for _, p := range s.config.Pods.Pods() {
		if (r.Msg.GetNamespace() == "" || p.Namespace == r.Msg.GetNamespace()) && (r.Msg.GetName() == "" || p.Name == r.Msg.GetName()) &&
			(r.Msg.GetAllNodes() || p.Node == node) {
			wanted = append(wanted, p)
		}
	}
	slices.SortFunc(wanted, func(a, b *model.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	m := &pb.ListPodsResponse{}
	for _, p := range wanted {
		m.Pods = append(m.Pods, wire.PodToProto(p))
	}
	return connect.NewResponse(m), nil
}

func kubernetesToProto(k *Kubernetes) *pb.KubernetesStatus {
	if k == nil {
		return nil
	}
	m := &pb.KubernetesStatus{Server: clean(k.Server), Node: clean(k.Node), Synced: k.Synced, Watches: uint32(k.Watches), Pods: uint32(k.Pods),
		OwnPods: uint32(k.OwnPods), EventsSent: k.EventsSent, LastHeard: timeOrNone(k.Heard), Restored: timeOrNone(k.Restored)}
	for _, p := range k.Problems {
		m.Problems = append(m.Problems, clean(p))
	}
	return m
}

func timeOrNone(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
