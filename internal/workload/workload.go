// SPDX-License-Identifier: Apache-2.0

// Package workload says what workload a process belongs to, by the cgroup that the kernel says it is in.
//
// In: the cgroup ids of processes (Lookup), cgroups being made and removed (CgroupCreated,
// CgroupRemoved), what Kubernetes knows of pods (Pods, PodChanged). Out: *model.Workload at once, with what the cgroup's path
// tells and what is known of its pod and container by then; and a change (OnChange) when a container runtime or
// Kubernetes has told the rest. A process whose cgroup tells nothing gets
// its workload from its ancestors (FromProcessTree).
//
// Of its parts, host knows cgroups and systemd, cri the container runtimes.
package workload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/workload/cri"
	"github.com/vigie-io/vigie/internal/workload/host"
)

// Cgroups finds the paths of cgroups; *host.Tree is one.
type Cgroups interface {
	// Path must be quick: Lookup calls it, once for each cgroup. host.ErrGone and host.ErrNoHierarchy
	// are told from other errors.
	Path(hierarchy uint32, id uint64) (string, error)
	Walk(ctx context.Context, hierarchy uint32, found func(id uint64, path string)) error
	Refresh() error
	Hierarchies() []host.Hierarchy
	Close() error
}

// Runtimes knows containers; *cri.Set is one.
type Runtimes interface {
	// Inspect may take as long as it bounds itself. cri.ErrNotFound and all other errors are asked again later.
	Inspect(ctx context.Context, q cri.Query) (cri.Info, error)
	// Watch tells of containers before they are started, until ctx ends; and when a runtime begins to tell.
	Watch(ctx context.Context, found func(id string, info cri.Info), connected func())
	Close() error
}

// Config is what a Resolver needs. Zero numbers take the defaults.
type Config struct {
	Cgroups  Cgroups
	Runtimes Runtimes
	Pods     Pods                    // what Kubernetes says; nil where there is none
	PodNames PodNames                // how pods are called that Pods does not know; may be nil
	Login    func(uid uint32) string // login names; nil shows numbers
	Logger   *slog.Logger
	Losses   *pipeline.Losses // losses are counted under the stage "workload"

	// AskNested: ask the runtimes about containers in containers. Right when the agent runs in the
	// outer one, as on a node that is itself a container; else the outer container could claim names.
	AskNested bool

	MaxCgroups  int           // remembered cgroups; 32,768, at 500 bytes each where each is another workload's
	KeepRemoved int           // of these, cgroups that are gone: exits come late; 4,096
	Queue       int           // containers waiting to be asked for; 1,024
	Askers      int           // runtimes asked at a time; 4
	RetryFirst  time.Duration // first wait before a container is asked for again, ×3 each time; 200 ms
	RetryMax    time.Duration // longest such wait; 10 min
	MaxTold     int           // containers that were told of and are remembered; 1,024
	WalkPause   time.Duration // shortest time between walks through a hierarchy; 1 s
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxCgroups, 1<<15)
	setDefault(&c.KeepRemoved, 4096)
	setDefault(&c.Queue, 1024)
	setDefault(&c.Askers, 4)
	setDefault(&c.MaxTold, 1024)
	setDefault(&c.RetryFirst, 200*time.Millisecond)
	setDefault(&c.RetryMax, 10*time.Minute)
	setDefault(&c.WalkPause, time.Second)
	if c.Losses == nil {
		c.Losses = new(pipeline.Losses)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// ForHost makes the Resolver of the host that root ("/") leads to, its cgroups read, its container
// runtimes where they usually are. A host without cgroups gets a Resolver that knows nothing until
// they are mounted, and a line in the log. pods is nil where no Kubernetes is configured. Close it after Run has ended.
func ForHost(root string, pods Pods, logger *slog.Logger, losses *pipeline.Losses) *Resolver {
	proc := filepath.Join(root, "proc")
	tree, err := host.Open(proc)
	if err != nil {
		logger.Warn("some cgroups cannot be read, workloads may be known by their processes only", "error", err)
	}
	r := New(Config{
		Cgroups:   tree,
		Runtimes:  cri.New(cri.ForHost(root)),
		Pods:      pods,
		PodNames:  host.NewPodLogs(root),
		Login:     host.NewPasswd(filepath.Join(root, "etc/passwd")).Name,
		AskNested: host.InContainer(proc),
		Logger:    logger,
		Losses:    losses,
	})
	r.Preload(context.Background())
	return r
}

// Preload reads all cgroups of the hierarchies that processes are looked up in: v2, and of v1 systemd's
// own, pids and memory. Those of others are found when they are asked for.
func (r *Resolver) Preload(ctx context.Context) {
	for _, h := range r.cfg.Cgroups.Hierarchies() {
		if !preloaded(h) {
			continue
		}
		if err := r.walk(ctx, h.ID); err != nil {
			r.cfg.Logger.Warn("cannot read the cgroups that are there", "hierarchy", h.ID, "error", err)
		}
	}
}

func preloaded(h host.Hierarchy) bool {
	if h.ID == 0 {
		return true
	}
	for _, c := range h.Controllers {
		if c == "name=systemd" || c == "pids" || c == "memory" {
			return true
		}
	}
	return false
}

// Close closes the files and connections. Only after Run has returned.
func (r *Resolver) Close() error {
	if err := errors.Join(r.cfg.Cgroups.Close(), r.cfg.Runtimes.Close()); err != nil {
		return fmt.Errorf("close the workload resolver: %w", err)
	}
	return nil
}
