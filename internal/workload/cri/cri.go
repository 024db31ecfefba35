// SPDX-License-Identifier: Apache-2.0

// Package cri asks container runtimes who a container is: its name, image, labels and pod.
//
// In: a container id and what the cgroup path said about its runtime. Out: Info, from the Docker API
// (Docker, Podman) or the Kubernetes container runtime interface (containerd, CRI-O) on the runtime's
// unix socket. A runtime that is not installed is normal and costs one stat a question. A runtime
// that does not answer is left alone for a while, so that it delays nobody.
package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

var (
	// ErrNotFound: every runtime that answered says that it has no such container (yet).
	ErrNotFound = errors.New("no runtime knows the container")
	// ErrUnavailable: no runtime that could know the container answers.
	ErrUnavailable = errors.New("container runtime does not answer")
)

// API is the protocol that a runtime speaks.
type API string

// The protocols.
const (
	DockerAPI API = "docker" // HTTP, the Docker Engine API
	KubeAPI   API = "cri"    // gRPC, runtime.v1.RuntimeService
)

// Endpoint is one runtime's socket.
type Endpoint struct {
	Runtime string // docker, containerd, cri-o, podman
	API     API
	Socket  string // path
}

// Query says which container is asked for.
type Query struct {
	ID      string // the whole container id
	Runtime string // as the cgroup path names it; empty asks all
	// Owner of a rootless container, whose own runtime alone is asked; model.NoUID for the system's.
	Owner uint32
}

// Info is what a runtime knows about a container.
type Info struct {
	Runtime string
	Name    string
	Image   string            // as the user wrote it, where the runtime keeps that
	Labels  map[string]string // the container's, over its pod's

	// Of a Kubernetes pod:
	PodName, Namespace, PodUID string
	Container                  string // the container's name in the pod; "POD" for the pod's sandbox
}

// Config is what a Set needs.
type Config struct {
	Endpoints []Endpoint
	UserDir   string        // parent of the users' runtime directories: /run/user
	Timeout   time.Duration // of one question to one runtime; 2 s when 0
	// Hold is how long a runtime that did not answer is left alone; 10 s when 0.
	Hold time.Duration
	Now  func() time.Time // time.Now when nil
}

// ForHost is the configuration of the host that root ("/") leads to: the sockets where the runtimes and
// the distributions put them.
func ForHost(root string) Config {
	cfg := Config{UserDir: filepath.Join(root, "run/user"), Endpoints: []Endpoint{
		// Docker first: the containerd below it has its containers, but not their names.
		{"docker", DockerAPI, "var/run/docker.sock"},
		{"podman", DockerAPI, "run/podman/podman.sock"},
		{"containerd", KubeAPI, "run/containerd/containerd.sock"},
		{"containerd", KubeAPI, "run/k3s/containerd/containerd.sock"},
		{"containerd", KubeAPI, "run/k0s/containerd.sock"},
		{"containerd", KubeAPI, "var/snap/microk8s/common/run/containerd.sock"},
		{"cri-o", KubeAPI, "run/crio/crio.sock"},
		{"docker", KubeAPI, "run/cri-dockerd.sock"},
	}}
	for i := range cfg.Endpoints {
		cfg.Endpoints[i].Socket = filepath.Join(root, cfg.Endpoints[i].Socket)
	}
	return cfg
}

// Set is the runtimes of a host. Safe for concurrent use.
type Set struct {
	cfg     Config
	clients []*guarded

	rootless chan struct{} // slots for questions to users' runtimes, of all users together
	mu       sync.Mutex
	users    map[uint32]*Set
}

const (
	// askAtOnce is how many questions one runtime gets at a time: one that hangs holds up no more askers.
	askAtOnce = 2
	// askWait is how long an asker waits for a place.
	askWait = 50 * time.Millisecond
	// maxUsers bounds the users whose runtimes are remembered.
	maxUsers = 64
)

var errBusy = errors.New("too many questions at once")

// New makes a Set. It connects to nothing until it is asked. Close it.
func New(cfg Config) *Set {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Hold == 0 {
		cfg.Hold = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return newSet(cfg, model.NoUID)
}

func newSet(cfg Config, owner uint32) *Set {
	s := &Set{cfg: cfg, rootless: make(chan struct{}, askAtOnce), users: make(map[uint32]*Set)}
	for _, e := range cfg.Endpoints {
		s.clients = append(s.clients, &guarded{endpoint: e, client: dial(e, owner), slots: make(chan struct{}, askAtOnce)})
	}
	return s
}

// Inspect asks the runtimes that can know the container, one after the other, until one does. Errors:
// ErrNotFound, or ErrUnavailable when one that might know did not answer or is not there.
func (s *Set) Inspect(ctx context.Context, q Query) (Info, error) {
	if q.Owner != model.NoUID {
		return s.inspectRootless(ctx, q)
	}
	var failed error
	asked := false
	for _, c := range s.clients {
		if q.Runtime != "" && c.endpoint.Runtime != q.Runtime {
			continue
		}
		info, err := c.inspect(ctx, q.ID, s.cfg)
		switch {
		case err == nil:
			return info, nil
		case errors.Is(err, ErrNotFound):
			asked = true
		case !errors.Is(err, fs.ErrNotExist):
			failed = errors.Join(failed, fmt.Errorf("ask %s at %s: %w", c.endpoint.Runtime, c.endpoint.Socket, err))
		}
	}
	if failed != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrUnavailable, failed)
	}
	if !asked {
		return Info{}, ErrUnavailable
	}
	return Info{}, ErrNotFound
}

// inspectRootless asks the runtimes in the owner's runtime directory. What they say about pods is not
// believed: a user has none.
func (s *Set) inspectRootless(ctx context.Context, q Query) (Info, error) {
	if !enter(ctx, s.rootless) {
		return Info{}, fmt.Errorf("%w: users' runtimes: %w", ErrUnavailable, errBusy)
	}
	defer leave(s.rootless)
	own := s.user(q.Owner)
	q.Owner = model.NoUID
	info, err := own.Inspect(ctx, q)
	info.PodName, info.Namespace, info.PodUID, info.Container = "", "", "", ""
	return info, err
}

// user is the Set of one user's runtimes, which remembers those that do not answer.
func (s *Set) user(uid uint32) *Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.users[uid]
	if own != nil {
		return own
	}
	if len(s.users) >= maxUsers {
		for other, set := range s.users { // any: it is only made anew when it is asked for again
			_ = set.Close()
			delete(s.users, other)
			break
		}
	}
	dir := filepath.Join(s.cfg.UserDir, strconv.FormatUint(uint64(uid), 10))
	cfg := s.cfg
	cfg.Endpoints = []Endpoint{
		{"podman", DockerAPI, filepath.Join(dir, "podman/podman.sock")},
		{"docker", DockerAPI, filepath.Join(dir, "docker.sock")},
	}
	own = newSet(cfg, uid)
	s.users[uid] = own
	return own
}

// Close closes the connections.
func (s *Set) Close() error {
	var err error
	for _, c := range s.clients {
		err = errors.Join(err, c.client.close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, own := range s.users {
		err = errors.Join(err, own.Close())
	}
	return err
}

// client speaks one protocol to one socket. Its inspect gives ErrNotFound when the runtime has
// answered that it has no such container.
type client interface {
	inspect(ctx context.Context, id string) (Info, error)
	close() error
}

func dial(e Endpoint, owner uint32) client {
	if e.API == KubeAPI {
		return newKube(e, owner)
	}
	return newDocker(e, owner)
}

// guarded keeps a runtime that hangs or refuses from being asked again and again.
type guarded struct {
	endpoint Endpoint
	client   client
	slots    chan struct{}

	mu   sync.Mutex
	held time.Time // not to be asked before
	last error     // why
}

func (g *guarded) inspect(ctx context.Context, id string, cfg Config) (Info, error) {
	if err := g.refused(cfg.Now()); err != nil {
		return Info{}, err
	}
	if _, err := os.Stat(g.endpoint.Socket); err != nil {
		return Info{}, err
	}
	if !enter(ctx, g.slots) {
		return Info{}, errBusy
	}
	defer leave(g.slots)
	asking, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	info, err := g.client.inspect(asking, id)
	if err != nil && !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
		g.mu.Lock()
		g.held, g.last = cfg.Now().Add(cfg.Hold), err
		g.mu.Unlock()
	}
	return info, err
}

// refused is why the runtime is not to be asked now; nil when it is.
func (g *guarded) refused(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.held) {
		return g.last
	}
	return nil
}

// enter takes a slot, waiting askWait at most.
func enter(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	wait := time.NewTimer(askWait)
	defer wait.Stop()
	select {
	case slots <- struct{}{}:
		return true
	case <-wait.C:
	case <-ctx.Done():
	}
	return false
}

func leave(slots chan struct{}) { <-slots }
