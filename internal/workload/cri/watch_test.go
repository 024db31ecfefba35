// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// tellingKube tells of a container that has been made, and ends the stream when it is told to.
type tellingKube struct {
	fakeKube
	end chan struct{}
}

func (k *tellingKube) GetContainerEvents(_ *runtimev1.GetEventsRequest, stream grpc.ServerStreamingServer[runtimev1.ContainerEventResponse]) error {
	for _, ev := range []*runtimev1.ContainerEventResponse{
		{ContainerId: idUnknown, ContainerEventType: runtimev1.ContainerEventType_CONTAINER_DELETED_EVENT},
		{ContainerId: idWeb, ContainerEventType: runtimev1.ContainerEventType_CONTAINER_CREATED_EVENT,
			PodSandboxStatus: &runtimev1.PodSandboxStatus{Id: idPod, Metadata: &runtimev1.PodSandboxMetadata{Name: "web-0", Namespace: "shop", Uid: podUID},
				Labels: map[string]string{"app": "web", "tier": "pod"}},
			ContainersStatuses: []*runtimev1.ContainerStatus{{Id: idWeb, Metadata: &runtimev1.ContainerMetadata{Name: "nginx"},
				Image: &runtimev1.ImageSpec{Image: "sha256:feed", UserSpecifiedImage: "nginx:1.27"}, Labels: map[string]string{"tier": "container"}}}},
	} {
		if err := stream.Send(ev); err != nil {
			return err
		}
	}
	select {
	case <-k.end:
	case <-stream.Context().Done():
	}
	return nil
}

// TestWatch: a runtime tells of containers and pods by itself, again after it was away; one that cannot is left alone.
func TestWatch(t *testing.T) {
	runtime := &tellingKube{end: make(chan struct{})}
	telling := serveKube(t, runtime)
	silent := serveKube(t, &fakeKube{})
	set := newTestSet(t, Config{Endpoints: []Endpoint{{"containerd", KubeAPI, telling}, {"cri-o", KubeAPI, silent},
		{"containerd", KubeAPI, filepath.Join(t.TempDir(), "none")}, {"docker", DockerAPI, filepath.Join(t.TempDir(), "none")}}})
	type told struct {
		id   string
		info Info
	}
	found, connected := make(chan told, 16), make(chan struct{}, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		set.Watch(ctx, func(id string, info Info) { found <- told{id, info} }, func() { connected <- struct{}{} })
	}()
	defer func() { cancel(); <-done }()
	next := func() told {
		t.Helper()
		select {
		case f := <-found:
			return f
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was told")
			return told{}
		}
	}
	for range 2 {
		if f := next(); f.id != idPod || f.info.PodName != "web-0" || f.info.Container != "POD" || f.info.PodUID != podUID {
			t.Errorf("the pod: %+v", f)
		}
		f := next()
		if f.id != idWeb || f.info.Container != "nginx" || f.info.Image != "nginx:1.27" || f.info.Runtime != "containerd" || f.info.Namespace != "shop" ||
			f.info.Labels["app"] != "web" || f.info.Labels["tier"] != "container" {
			t.Errorf("the container: %+v", f)
		}
		runtime.end <- struct{}{}
	}
	if len(connected) < 2 {
		t.Errorf("connected %d times", len(connected))
	}
}
