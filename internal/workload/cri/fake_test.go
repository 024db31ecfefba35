// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func newTestSet(t *testing.T, cfg Config) *Set {
	t.Helper()
	set := New(cfg)
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return set
}

func check(t *testing.T, set *Set, q Query, want Info) {
	t.Helper()
	if got, err := set.Inspect(context.Background(), q); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v:\n got %+v, %v\nwant %+v", q, got, err, want)
	}
}

func checkError(t *testing.T, set *Set, q Query, want error) {
	t.Helper()
	if got, err := set.Inspect(context.Background(), q); !errors.Is(err, want) {
		t.Errorf("%+v: got %+v, %v; want error %v", q, got, err, want)
	}
}

// serveHTTP is a runtime that speaks HTTP on a unix socket.
func serveHTTP(t *testing.T, socket string, handler http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return socket
}

// answerDocker is the part of the Docker API's answer that matters, in its form.
func answerDocker(w http.ResponseWriter, id, name, image string, labels map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"Id": id, "Name": name, "Image": "sha256:feed", "State": map[string]any{"Pid": 1},
		"Config": map[string]any{"Image": image, "Labels": labels}})
}

// fakeKube has one pod with one container.
type fakeKube struct {
	runtimev1.UnimplementedRuntimeServiceServer
}

func (*fakeKube) ListContainers(_ context.Context, r *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	if r.GetFilter().GetId() != idWeb {
		return &runtimev1.ListContainersResponse{}, nil
	}
	return &runtimev1.ListContainersResponse{Containers: []*runtimev1.Container{{
		Id: idWeb, PodSandboxId: idPod, Metadata: &runtimev1.ContainerMetadata{Name: "nginx"},
		Image:  &runtimev1.ImageSpec{Image: "sha256:feed"},
		Labels: map[string]string{"io.kubernetes.container.name": "nginx", "tier": "container"}}}}, nil
}

func (*fakeKube) ContainerStatus(_ context.Context, r *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	if r.GetContainerId() != idWeb {
		return nil, status.Errorf(codes.NotFound, "container %q", r.GetContainerId())
	}
	return &runtimev1.ContainerStatusResponse{Status: &runtimev1.ContainerStatus{Id: idWeb,
		Image: &runtimev1.ImageSpec{Image: "docker.io/library/nginx:1.27"}, ImageRef: "docker.io/library/nginx@sha256:feed"}}, nil
}

func (*fakeKube) PodSandboxStatus(_ context.Context, r *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	if r.GetPodSandboxId() != idPod {
		return nil, status.Errorf(codes.NotFound, "sandbox %q", r.GetPodSandboxId())
	}
	return &runtimev1.PodSandboxStatusResponse{Status: &runtimev1.PodSandboxStatus{Id: idPod,
		Metadata: &runtimev1.PodSandboxMetadata{Name: "web-0", Namespace: "shop", Uid: podUID},
		Labels:   map[string]string{"app": "web", "tier": "pod"}}}, nil
}

func serveKube(t *testing.T, impl runtimev1.RuntimeServiceServer) string {
	t.Helper()
	return serveKubeAt(t, filepath.Join(t.TempDir(), "s"), impl)
}

func serveKubeAt(t *testing.T, socket string, impl runtimev1.RuntimeServiceServer) string {
	t.Helper()
	server := grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(server, impl)
	return serveGRPC(t, server, socket)
}

func serveGRPC(t *testing.T, server *grpc.Server, socket string) string {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return socket
}
