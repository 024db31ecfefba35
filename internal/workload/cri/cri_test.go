// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/vigie-io/vigie/internal/model"
)

const (
	idWeb     = "3f4e1c5a9b7d2e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"
	idPod     = "b0c1d2e3f405162738495a6b7c8d9eaf0b1c2d3e4f5061728394a5b6c7d8e9f0"
	idUnknown = "00000000000000000000000000000000000000000000000000000000deadbeef"
	podUID    = "0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3"
)

func TestDocker(t *testing.T) {
	var asked atomic.Int32
	socket := serveHTTP(t, filepath.Join(t.TempDir(), "docker.sock"), func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch id := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/containers/"), "/json"); id {
		case idWeb:
			answerDocker(w, id, "/web", "nginx:1.27", map[string]string{"com.docker.compose.service": "web"})
		case idPod:
			answerDocker(w, id, "/k8s_api_api-0_prod", "sha256:12", map[string]string{"io.kubernetes.pod.name": "api-0",
				"io.kubernetes.pod.namespace": "prod", "io.kubernetes.pod.uid": podUID, "io.kubernetes.container.name": "api"})
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"message":"No such container: ` + id + `"}`))
		}
	})
	set := newTestSet(t, Config{Endpoints: []Endpoint{{"docker", DockerAPI, socket}}})
	check(t, set, Query{ID: idWeb, Runtime: "docker", Owner: model.NoUID}, Info{Runtime: "docker", Name: "web",
		Image: "nginx:1.27", Labels: map[string]string{"com.docker.compose.service": "web"}})
	info, err := set.Inspect(context.Background(), Query{ID: idPod, Owner: model.NoUID})
	if err != nil || info.PodName != "api-0" || info.Namespace != "prod" || info.PodUID != podUID || info.Container != "api" {
		t.Errorf("pod: %+v, %v", info, err)
	}
	checkError(t, set, Query{ID: idUnknown, Owner: model.NoUID}, ErrNotFound)
	checkError(t, set, Query{ID: idWeb, Runtime: "cri-o", Owner: model.NoUID}, ErrUnavailable)
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestDockerBadAnswers(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"error": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no space left", http.StatusInternalServerError)
		},
		"not JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"Id":"`)) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"Id":"`))
			for chunk := []byte(strings.Repeat("a", 1<<20)); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
	} {
		socket := serveHTTP(t, filepath.Join(t.TempDir(), "s"), handler)
		set := newTestSet(t, Config{Endpoints: []Endpoint{{"docker", DockerAPI, socket}}, Timeout: time.Minute})
		if info, err := set.Inspect(context.Background(), Query{ID: idWeb, Owner: model.NoUID}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	socket := serveHTTP(t, filepath.Join(t.TempDir(), "s"), func(w http.ResponseWriter, _ *http.Request) {
		answerDocker(w, idPod, "/"+idWeb, "evil", nil) // another container that bears the id as its name
	})
	checkError(t, newTestSet(t, Config{Endpoints: []Endpoint{{"docker", DockerAPI, socket}}}), Query{ID: idWeb, Owner: model.NoUID}, ErrNotFound)
}

func TestKube(t *testing.T) {
	socket := serveKube(t, &fakeKube{})
	set := newTestSet(t, Config{Endpoints: []Endpoint{{"containerd", KubeAPI, socket}}})
	check(t, set, Query{ID: idWeb, Runtime: "containerd", Owner: model.NoUID}, Info{
		Runtime: "containerd", Name: "nginx", Image: "docker.io/library/nginx:1.27",
		Labels:  map[string]string{"app": "web", "tier": "container", "io.kubernetes.container.name": "nginx"},
		PodName: "web-0", Namespace: "shop", PodUID: podUID, Container: "nginx"})
	check(t, set, Query{ID: idPod, Owner: model.NoUID}, Info{
		Runtime: "containerd", Name: "web-0", Labels: map[string]string{"app": "web", "tier": "pod"},
		PodName: "web-0", Namespace: "shop", PodUID: podUID, Container: "POD"})
	checkError(t, set, Query{ID: idUnknown, Owner: model.NoUID}, ErrNotFound)
}

// TestContainerdWithoutCRI: Docker's containerd answers, but has no such service.
func TestContainerdWithoutCRI(t *testing.T) {
	containerd := serveGRPC(t, grpc.NewServer(), filepath.Join(t.TempDir(), "s"))
	docker := serveHTTP(t, filepath.Join(t.TempDir(), "s"), func(w http.ResponseWriter, _ *http.Request) {
		answerDocker(w, idWeb, "/web", "nginx", nil)
	})
	set := newTestSet(t, Config{Endpoints: []Endpoint{{"containerd", KubeAPI, containerd}, {"docker", DockerAPI, docker}}})
	check(t, set, Query{ID: idWeb, Owner: model.NoUID}, Info{Runtime: "docker", Name: "web", Image: "nginx"})
	checkError(t, set, Query{ID: idWeb, Runtime: "containerd", Owner: model.NoUID}, ErrUnavailable)
}

func TestMissingSocket(t *testing.T) {
	dir := t.TempDir()
	set := newTestSet(t, Config{Endpoints: []Endpoint{
		{"docker", DockerAPI, filepath.Join(dir, "docker.sock")}, {"containerd", KubeAPI, filepath.Join(dir, "containerd.sock")}}})
	checkError(t, set, Query{ID: idWeb, Owner: model.NoUID}, ErrUnavailable)
	serveHTTP(t, filepath.Join(dir, "docker.sock"), func(w http.ResponseWriter, _ *http.Request) {
		answerDocker(w, idWeb, "/web", "nginx", nil)
	})
	check(t, set, Query{ID: idWeb, Owner: model.NoUID}, Info{Runtime: "docker", Name: "web", Image: "nginx"}) // at once: nothing is held
}

// TestRestart: a runtime that was not there answers again after the hold, on both protocols.
func TestRestart(t *testing.T) {
	for _, api := range []API{DockerAPI, KubeAPI} {
		path := filepath.Join(t.TempDir(), "s")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		listener.Close() // the socket stays and refuses
		var now atomic.Int64
		set := newTestSet(t, Config{Endpoints: []Endpoint{{"containerd", api, path}},
			Now: func() time.Time { return time.Unix(now.Load(), 0) }})
		checkError(t, set, Query{ID: idWeb, Owner: model.NoUID}, ErrUnavailable)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if api == DockerAPI {
			serveHTTP(t, path, func(w http.ResponseWriter, _ *http.Request) { answerDocker(w, idWeb, "/web", "nginx", nil) })
		} else {
			serveKubeAt(t, path, &fakeKube{})
		}
		checkError(t, set, Query{ID: idWeb, Owner: model.NoUID}, ErrUnavailable) // held
		var info Info
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			now.Add(11)
			if info, err = set.Inspect(context.Background(), Query{ID: idWeb, Owner: model.NoUID}); err == nil {
				break
			}
		}
		if err != nil || info.Name == "" {
			t.Errorf("%s: after the restart: %+v, %v", api, info, err)
		}
	}
}

// TestHangingRuntime: one that takes questions and never answers delays only those who ask it, once.
func TestHangingRuntime(t *testing.T) {
	release := make(chan struct{})
	var asked atomic.Int32
	docker := serveHTTP(t, filepath.Join(t.TempDir(), "s"), func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-release
	})
	t.Cleanup(func() { close(release) })
	set := newTestSet(t, Config{Timeout: 100 * time.Millisecond, Hold: time.Hour, Endpoints: []Endpoint{
		{"docker", DockerAPI, docker}, {"containerd", KubeAPI, serveKube(t, &fakeKube{})}}})
	for range 3 {
		check(t, set, Query{ID: idPod, Owner: model.NoUID}, Info{
			Runtime: "containerd", Name: "web-0", Labels: map[string]string{"app": "web", "tier": "pod"},
			PodName: "web-0", Namespace: "shop", PodUID: podUID, Container: "POD"})
	}
	checkError(t, set, Query{ID: idWeb, Runtime: "docker", Owner: model.NoUID}, context.DeadlineExceeded)
	if n := asked.Load(); n != 1 {
		t.Errorf("the hanging runtime was asked %d times, want 1", n)
	}
}

// TestAskAtOnce: while a runtime hangs, no more than two wait for it.
func TestAskAtOnce(t *testing.T) {
	release := make(chan struct{})
	var asked atomic.Int32
	socket := serveHTTP(t, filepath.Join(t.TempDir(), "s"), func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-release
		answerDocker(w, idWeb, "/web", "nginx", nil)
	})
	for _, owner := range []uint32{model.NoUID, uint32(os.Getuid())} {
		asked.Store(0)
		user := filepath.Join(t.TempDir(), strconv.Itoa(os.Getuid()))
		if err := os.Mkdir(user, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(socket, filepath.Join(user, "docker.sock")); err != nil {
			t.Fatal(err)
		}
		set := newTestSet(t, Config{Timeout: time.Minute, UserDir: filepath.Dir(user), Endpoints: []Endpoint{{"docker", DockerAPI, socket}}})
		const callers = 6
		errs := make(chan error, callers)
		for range callers {
			go func() {
				_, err := set.Inspect(context.Background(), Query{ID: idWeb, Owner: owner})
				errs <- err
			}()
		}
		for range callers - askAtOnce {
			if err := <-errs; !errors.Is(err, errBusy) || !errors.Is(err, ErrUnavailable) {
				t.Errorf("owner %d: one too many got %v", owner, err)
			}
		}
		for range askAtOnce {
			release <- struct{}{}
			if err := <-errs; err != nil {
				t.Errorf("owner %d: %v", owner, err)
			}
		}
		if n := asked.Load(); n != askAtOnce {
			t.Errorf("owner %d: asked %d times, want %d", owner, n, askAtOnce)
		}
	}
}

func TestRootless(t *testing.T) {
	self := uint32(os.Getuid())
	dir := t.TempDir()
	home := filepath.Join(dir, strconv.Itoa(int(self)))
	if err := os.MkdirAll(filepath.Join(home, "podman"), 0o755); err != nil {
		t.Fatal(err)
	}
	pretend := map[string]string{"io.kubernetes.pod.name": "api-0", "team": "a"}
	real := serveHTTP(t, filepath.Join(home, "podman/podman.sock"), func(w http.ResponseWriter, _ *http.Request) {
		answerDocker(w, idWeb, "/mine", "alpine", pretend)
	})
	system := serveHTTP(t, filepath.Join(dir, "system.sock"), func(w http.ResponseWriter, _ *http.Request) {
		answerDocker(w, idWeb, "/systems", "alpine", nil)
	})
	set := newTestSet(t, Config{UserDir: dir, Endpoints: []Endpoint{{"podman", DockerAPI, system}}})
	check(t, set, Query{ID: idWeb, Runtime: "podman", Owner: self}, Info{Runtime: "podman", Name: "mine", Image: "alpine", Labels: pretend})
	check(t, set, Query{ID: idWeb, Runtime: "podman", Owner: model.NoUID}, Info{Runtime: "podman", Name: "systems", Image: "alpine"})

	// Another user's directory that leads to a socket which that user did not make.
	other := filepath.Join(dir, strconv.Itoa(int(self)+1))
	if err := os.MkdirAll(filepath.Join(other, "podman"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(other, "podman/podman.sock")); err != nil {
		t.Fatal(err)
	}
	checkError(t, set, Query{ID: idWeb, Runtime: "podman", Owner: self + 1}, ErrUnavailable)
}
