// SPDX-License-Identifier: Apache-2.0

// Package lifecycle tells in which order the containers of a pod started, listened and ended, and what is wrong with that.
//
// In: what is known of a pod (may be nothing: it can be gone), and its exec, exit and listen events, oldest first. Out: a Timeline, with
// its problems named and what to do about them. It is pure.
package lifecycle

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Timeline is what the containers of a pod did.
type Timeline struct {
	Namespace  string           `json:"namespace"`
	Name       string           `json:"name"`
	UID        string           `json:"uid"`
	Controller model.Controller `json:"controller,omitzero"`
	Containers []Container      `json:"containers"` // those that Kubernetes starts first come first
	Problems   []Problem        `json:"problems"`
}

// Container is one container of a pod.
type Container struct {
	Name string `json:"name"`
	// Role is app where Kubernetes has not told.
	Role  model.ContainerRole `json:"role"`
	Image string              `json:"image,omitzero"`
	Runs  []Run               `json:"runs"` // oldest first
}

// Run is one run of a container, from the start of its first program to the end of the process that runs it.
type Run struct {
	ID      string    `json:"id"`               // container id
	Binary  string    `json:"binary"`           // its first program
	Started time.Time `json:"started,omitzero"` // zero: before anybody looked
	Ended   time.Time `json:"ended,omitzero"`   // zero: it runs
	Code    int32     `json:"code"`             // exit status
	Signal  uint32    `json:"signal,omitzero"`  // that ended it; 0: none did
	Listens []Listen  `json:"listens,omitzero"`

	pid uint32
}

// Listen is the first time that a run listened on a port.
type Listen struct {
	At   time.Time      `json:"at"`
	Addr netip.AddrPort `json:"address"`
}

// Problem is something wrong with the order. Kind is one of the constants.
type Problem struct {
	Kind      string `json:"kind"`
	Container string `json:"container"`
	Text      string `json:"text"` // what is wrong, and what to do
}

// The kinds of problems.
const (
	SidecarOutlivesJob  = "sidecar-outlives-job"
	AppBeforeProxy      = "app-before-proxy"
	ProxyEndsBeforeApp  = "proxy-ends-before-app"
	InitContainerFailed = "init-container-failed"
	Restarted           = "restarted"
)

// Of makes the timeline of a pod, as of now. p may be nil.
func Of(p *model.Pod, events []*model.Event, now time.Time) Timeline {
	b := builder{runs: make(map[string]*Run), containers: make(map[string]*Container)}
	if p != nil {
		b.timeline.Namespace, b.timeline.Name, b.timeline.UID, b.timeline.Controller = p.Namespace, p.Name, p.UID, p.Controller
		for _, c := range p.Containers {
			b.container(c.Name, c.Role).Image = c.Image
		}
	}
	for _, ev := range events {
		b.add(ev)
	}
	return b.finish(now)
}

// builder gathers.
type builder struct {
	timeline   Timeline
	order      []*Container
	containers map[string]*Container
	runs       map[string]*Run // by container id
}

// container is the one with a name, made when it is new.
func (b *builder) container(name string, role model.ContainerRole) *Container {
	c := b.containers[name]
	if c == nil {
		c = &Container{Name: name, Role: role}
		b.containers[name] = c
		b.order = append(b.order, c)
	}
	return c
}

// sandbox is what holds the pod's network: no container of the user's.
const sandbox = "POD"

func (b *builder) add(ev *model.Event) {
	p := ev.Process
	if p == nil || p.Workload == nil || p.Workload.Kind != model.WorkloadPod || p.Workload.Container == "" || p.Workload.Container == sandbox {
		return
	}
	w := p.Workload
	if b.timeline.Name == "" {
		b.timeline.Namespace, b.timeline.Name, b.timeline.UID = w.Namespace, w.Name, w.PodUID
	}
	if b.timeline.Controller.Name == "" {
		b.timeline.Controller = w.Controller
	}
	c := b.container(w.Container, model.AppContainer)
	if c.Image == "" {
		c.Image = w.Image
	}
	run := b.runs[w.ID]
	if run == nil {
		if ev.Type != model.TypeExec || isRuntime(p) {
			return
		}
		run = &Run{ID: w.ID, Binary: p.Binary, Started: ev.Time, pid: p.Key.PID}
		if ev.PreExisting {
			run.Started = p.StartTime
		}
		b.runs[w.ID] = run
	}
	switch {
	case ev.Exit != nil && p.Key.PID == run.pid && run.Ended.IsZero():
		run.Ended, run.Code, run.Signal = ev.Time, ev.Exit.Code, ev.Exit.Signal
	case ev.Type == model.TypeListen && ev.Socket != nil && ev.Socket.Local.IsValid() &&
		!slices.ContainsFunc(run.Listens, func(l Listen) bool { return l.Addr == ev.Socket.Local }):
		run.Listens = append(run.Listens, Listen{At: ev.Time, Addr: ev.Socket.Local})
	}
	if !slices.ContainsFunc(c.Runs, func(r Run) bool { return r.ID == run.ID }) {
		c.Runs = append(c.Runs, Run{ID: run.ID})
	}
}

// isRuntime reports whether a process is still the container runtime, which becomes the container's first program by another exec.
func isRuntime(p *model.Process) bool {
	switch name := path.Base(p.Binary); {
	case name == "runc", name == "crun", name == "youki", strings.HasPrefix(name, "runc:"), p.File.Memfd && len(p.Args) > 1 && p.Args[1] == "init":
		return true
	}
	return false
}

func (b *builder) finish(now time.Time) Timeline {
	t := b.timeline
	for _, c := range b.order {
		for i := range c.Runs {
			c.Runs[i] = *b.runs[c.Runs[i].ID]
		}
		slices.SortStableFunc(c.Runs, func(x, y Run) int { return x.Started.Compare(y.Started) })
		t.Containers = append(t.Containers, *c)
	}
	rank := map[model.ContainerRole]int{model.InitContainer: 0, model.SidecarContainer: 0, model.AppContainer: 1}
	slices.SortStableFunc(t.Containers, func(x, y Container) int { return cmp.Compare(rank[x.Role], rank[y.Role]) })
	t.Problems = problems(&t, now)
	return t
}
