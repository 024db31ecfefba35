// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"maps"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandboxContainer is what Kubernetes calls the container that only holds a pod's namespaces.
const sandboxContainer = "POD"

// kube speaks the container runtime interface of Kubernetes.
type kube struct {
	runtime string
	conn    *grpc.ClientConn
	api     runtimev1.RuntimeServiceClient
	err     error // of making the client
}

func newKube(e Endpoint, owner uint32) *kube {
	// passthrough: the dialer below knows the way, the target is only a name for messages.
	conn, err := grpc.NewClient("passthrough:///"+e.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a local socket, which the file system protects
		grpc.WithAuthority("localhost"),
		// A runtime that was restarted is found again about as soon as a Set asks again.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, MaxDelay: 5 * time.Second}}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return connect(ctx, e.Socket, owner)
		}))
	if err != nil {
		return &kube{err: fmt.Errorf("make a gRPC client for %s: %w", e.Socket, err)}
	}
	return &kube{runtime: e.Runtime, conn: conn, api: runtimev1.NewRuntimeServiceClient(conn)}
}

// inspect takes three questions: the list has the pod's sandbox, the status the image as the user
// wrote it, and the sandbox the pod's labels. An id that is no container's may be a sandbox's.
func (k *kube) inspect(ctx context.Context, id string) (Info, error) {
	if k.err != nil {
		return Info{}, k.err
	}
	list, err := k.api.ListContainers(ctx, &runtimev1.ListContainersRequest{Filter: &runtimev1.ContainerFilter{Id: id}})
	if err != nil {
		return Info{}, fmt.Errorf("list containers: %w", err)
	}
	for _, c := range list.GetContainers() {
		if c.GetId() == id {
			return k.container(ctx, c)
		}
	}
	return k.sandbox(ctx, id)
}

func (k *kube) container(ctx context.Context, c *runtimev1.Container) (Info, error) {
	info, err := k.sandbox(ctx, c.GetPodSandboxId())
	if err != nil {
		return Info{}, err
	}
	answer, err := k.api.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: c.GetId()})
	if err != nil {
		return Info{}, notFound("read container status", err)
	}
	image := answer.GetStatus().GetImage()
	for _, ref := range []string{image.GetUserSpecifiedImage(), image.GetImage(), c.GetImage().GetImage(), answer.GetStatus().GetImageRef()} {
		if ref != "" {
			info.Image = ref
			break
		}
	}
	info.Name = c.GetMetadata().GetName()
	info.Container = info.Name
	labels := maps.Clone(info.Labels)
	if labels == nil {
		labels = make(map[string]string, len(c.GetLabels()))
	}
	maps.Copy(labels, c.GetLabels())
	info.Labels = labels
	return info, nil
}

func (k *kube) sandbox(ctx context.Context, id string) (Info, error) {
	answer, err := k.api.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return Info{}, notFound("read pod status", err)
	}
	pod := answer.GetStatus()
	return Info{
		Runtime: k.runtime, Name: pod.GetMetadata().GetName(), Labels: pod.GetLabels(),
		PodName: pod.GetMetadata().GetName(), Namespace: pod.GetMetadata().GetNamespace(),
		PodUID: pod.GetMetadata().GetUid(), Container: sandboxContainer,
	}, nil
}

func notFound(what string, err error) error {
	if status.Code(err) == codes.NotFound {
		return ErrNotFound
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (k *kube) close() error {
	if k.conn == nil {
		return nil
	}
	return k.conn.Close()
}
