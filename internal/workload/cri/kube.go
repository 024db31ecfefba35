// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"cmp"
	"context"
	"errors"
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
	pod, err := k.sandbox(ctx, c.GetPodSandboxId())
	if err != nil {
		return Info{}, err
	}
	answer, err := k.api.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: c.GetId()})
	if err != nil {
		return Info{}, notFound("read container status", err)
	}
	status := answer.GetStatus()
	return inPod(pod, c.GetMetadata().GetName(), c.GetLabels(), status.GetImage().GetUserSpecifiedImage(), status.GetImage().GetImage(), c.GetImage().GetImage(), status.GetImageRef()), nil
}

// inPod is a container of a pod. The first of the images that is named counts.
func inPod(pod Info, name string, own map[string]string, images ...string) Info {
	info := pod
	info.Image = cmp.Or(images...)
	info.Name, info.Container = name, name
	info.Labels = make(map[string]string, len(pod.Labels)+len(own))
	maps.Copy(info.Labels, pod.Labels)
	maps.Copy(info.Labels, own)
	return info
}

func (k *kube) sandbox(ctx context.Context, id string) (Info, error) {
	answer, err := k.api.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return Info{}, notFound("read pod status", err)
	}
	return k.pod(answer.GetStatus()), nil
}

// pod is a pod's sandbox.
func (k *kube) pod(pod *runtimev1.PodSandboxStatus) Info {
	return Info{
		Runtime: k.runtime, Name: pod.GetMetadata().GetName(), Labels: pod.GetLabels(),
		PodName: pod.GetMetadata().GetName(), Namespace: pod.GetMetadata().GetNamespace(),
		PodUID: pod.GetMetadata().GetUid(), Container: sandboxContainer,
	}
}

// watch implements watcher.
func (k *kube) watch(ctx context.Context, found func(id string, info Info), connected func()) error {
	if k.err != nil {
		return k.err
	}
	stream, err := k.api.GetContainerEvents(ctx, &runtimev1.GetEventsRequest{})
	if err != nil {
		return fmt.Errorf("follow container events: %w", err)
	}
	connected() // the stream has a connection; its header may come with the first event only
	for {
		ev, err := stream.Recv()
		if status.Code(err) == codes.Unimplemented {
			return fmt.Errorf("follow container events: %w", errors.ErrUnsupported)
		}
		if err != nil {
			return fmt.Errorf("follow container events: %w", err)
		}
		if ev.GetPodSandboxStatus() == nil {
			continue // of one that is gone
		}
		pod := k.pod(ev.GetPodSandboxStatus())
		found(ev.GetPodSandboxStatus().GetId(), pod)
		for _, c := range ev.GetContainersStatuses() {
			found(c.GetId(), inPod(pod, c.GetMetadata().GetName(), c.GetLabels(), c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage(), c.GetImageRef()))
		}
	}
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
