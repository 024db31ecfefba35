// SPDX-License-Identifier: Apache-2.0

// Package agent assembles the rooms into a running agent and stops them in order. In: a Config. Out: events
// to exporters and API clients, until the context ends. It is the only package that knows all the others.
package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/flow"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/process"
	"github.com/vigie-io/vigie/internal/sensor"
	"github.com/vigie-io/vigie/internal/sensor/all"
	"github.com/vigie-io/vigie/internal/sensor/dns"
	"github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/sensor/l7"
	"github.com/vigie-io/vigie/internal/server/compat/hubble"
	"github.com/vigie-io/vigie/internal/server/compat/tetragon"
	"github.com/vigie-io/vigie/internal/store"
	"github.com/vigie-io/vigie/internal/tracing"
	"github.com/vigie-io/vigie/internal/workload"
)

// Deps are what the agent is given from outside.
type Deps struct {
	Log *slog.Logger
	// LogLevel is the level of Log, where it can be changed while the agent runs. May be nil.
	LogLevel *slog.LevelVar
	Version  string
	// Now is the wall clock by which events have their time; time.Now when nil.
	Now func() time.Time
	// Ready is called once, when the sensors run and the API answers. May be nil.
	Ready func()
	// Serving is told the address of the web page, once it is open. May be nil.
	Serving func(page string)
	// Reload, when it delivers, has files reopened and what can be reloaded reloaded (SIGHUP). May be nil.
	Reload <-chan struct{}
}

// Agent is one running agent.
type Agent struct {
	config  Config
	deps    Deps
	log     *slog.Logger
	started time.Time

	boot      string // first eight digits of bootWhole
	bootWhole string
	clock     *clock
	memory    *store.Memory
	history   *store.History // nil when it is off
	store     *store.Store   // both as one
	exporters *exporters

	historyQueue *pipeline.Subscription // of history; nil when it is off
	isReady      atomic.Bool
	losses       *pipeline.Losses
	hub          *pipeline.Hub
	table        *process.Table
	flows        *flow.Table
	played       *playedFlows // of a capture; nil otherwise
	names        *dns.Names   // by which processes asked for addresses
	// countersRead is when the counters of sockets were read last, ns since boot.
	countersRead uint64
	resolver     *workload.Resolver
	river        *river
	host         *kernel.Host
	sensors      []*sensorState
	enforcer     *enforce.Enforcer
	tetragon     *tetragon.Service
	hubble       *hubble.Service
	tracer       *tracing.Manager
	rules        *detections // nil when they are off
	requests     *l7.Choice  // whose requests are looked at; nil when nobody's
	policies     *policyStore
	netpol       *podPolicies // nil where there is no Kubernetes
	cluster      *kube.Client // nil where there is no Kubernetes

	replayed capture.Header // of the capture that is played

	background sync.WaitGroup
}

// sensorState is a sensor and how it is doing.
type sensorState struct {
	sensor.Sensor
	state   string // on, off, failed
	message string
}

// Run runs an agent until ctx ends, and stops it cleanly. Errors: what keeps the agent from starting, with what
// to do about it (*RunningError when there is another agent), or the first thing that failed while it ran.
func Run(ctx context.Context, config Config, deps Deps) error {
	if err := config.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &Agent{config: config, deps: deps, log: deps.Log, started: time.Now(), losses: new(pipeline.Losses), clock: newClock(deps.Now, bootTime)}
	a.hub = pipeline.NewHub(a.losses)
	if config.Replay != "" {
		return a.replay(ctx)
	}
	if err := kernel.CheckPrivileges(); err != nil {
		return cannot{err}
	}
	release, err := takeLock(config.LockFile)
	if err != nil {
		return cannot{err}
	}
	defer release()
	if a.bootWhole, err = bootID(); err != nil {
		return err
	}
	a.boot = shortBoot(a.bootWhole)
	if err := os.MkdirAll(config.StateDir, 0o750); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return a.observe(ctx)
}

// observe is Run with the kernel as its source.
func (a *Agent) observe(ctx context.Context) error {
	gc := newCollector()
	defer gc.restore()
	if err := a.openKube(); err != nil {
		return cannot{err}
	}
	a.resolver = workload.ForHost("/", a.pods(), a.log, a.losses)
	a.newTable(a.resolver)
	a.resolver.OnChange(a.table.ReplaceWorkload)
	a.nameCluster()
	if err := a.chooseRequests(); err != nil {
		return err
	}

	host, err := kernel.Open(kernel.Options{Log: a.log, Losses: a.losses})
	if err != nil {
		return cannot{errors.Join(err, a.resolver.Close())}
	}
	a.host = host
	defer func() {
		var enforceErr, tracerErr error
		if a.enforcer != nil {
			enforceErr = a.enforcer.Close()
		}
		if a.tracer != nil {
			tracerErr = a.tracer.Close()
		}
		if err := errors.Join(enforceErr, tracerErr, a.netpol.close(), host.Close(), a.resolver.Close()); err != nil {
			a.log.Warn("not everything could be released", "error", err)
		}
	}()
	if a.config.ProgramStats {
		stats, err := kernel.EnableStats()
		if err != nil {
			a.log.Warn("run times of the programs are not measured", "error", err)
		} else {
			defer stats.Close()
		}
	}
	// Before the sensors: while rules are compiled nobody reads the rings.
	if err := a.startDetections(); err != nil {
		return err
	}
	a.newEnforcer()
	if err := a.newTracer(); err != nil {
		return err
	}
	if err := a.newPodPolicies(); err != nil {
		return err
	}
	if err := a.startSensors(ctx); err != nil {
		return err
	}
	a.policies = a.newPolicies(a.enforcer, tracingKind{a.tracer}, networkPolicies{a.netpol})
	// What loading needed goes back before a cluster is read, which needs some for a moment, too.
	debug.FreeOSMemory()
	giveProgramBack()
	return a.serve(ctx, func(ctx context.Context) error {
		a.background.Go(func() {
			if err := a.resolver.Run(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("container names are no longer looked up", "error", err)
			}
		})
		a.background.Go(func() { a.enforcer.Run(ctx) })
		a.background.Go(func() { a.tracer.Run(ctx) })
		a.background.Go(func() { a.runKube(ctx) })
		running := a.running()
		// In force before what an earlier agent left is taken back: there is no moment without policies.
		a.startPolicies(ctx)
		a.runPodPolicies(ctx)
		if err := a.enforcer.ReleaseEarlier(); err != nil {
			a.log.Warn("policies of an earlier agent may still be in force", "error", err)
		}
		inherited, err := host.Inherit(a.handoverDir())
		if err != nil {
			a.log.Warn("what the agent before left for this one could not all be taken over", "error", err)
		}
		a.awaitKube(ctx)
		a.river.settle(a.fillArgs)
		a.river.inherit(inherited)
		host.Loaded()
		debug.FreeOSMemory()
		a.river.tidied = gc.adjust
		a.ready()
		err = a.river.run(ctx, host, running)
		if a.config.Handover && err == nil {
			a.handover()
		}
		return err
	})
}

// fillArgs completes a process that the inventory found.
func (a *Agent) fillArgs(p *model.Process) {
	for _, s := range a.sensors {
		if f, ok := s.Sensor.(sensor.ArgsFiller); ok {
			f.FillArgs(p)
		}
	}
}

// handoverDir is where this agent's successor looks: the one that takes the same lock.
func (a *Agent) handoverDir() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(a.config.LockFile))
	return filepath.Join(kernel.HandoverDir, fmt.Sprintf("%08x", h.Sum32()))
}

// handover leaves the programs running for the next agent.
func (a *Agent) handover() {
	dir := a.handoverDir()
	if err := a.host.Handover(dir); err != nil {
		a.log.Warn("no handover: what happens until the next agent starts is not seen", "error", err)
		return
	}
	a.log.Info("programs go on for the next agent", "at", dir, "for", kernel.Lease)
}

func (a *Agent) newTable(w process.Workloads) {
	a.table = process.New(process.Options{Boot: a.boot, Exited: a.config.ExitedProcesses, Workloads: w,
		Losses: a.losses, Wall: a.clock.wall})
	a.names = dns.NewNames(dns.NamesOptions{})
	a.river = &river{log: a.log, clock: a.clock, table: a.table, losses: a.losses, annotate: nameAddresses(a.names),
		publish: a.hub.Publish, malformed: a.losses.Counter("decode", "malformed record"),
		reported: make(map[pipeline.LossKey]uint64), counts: newCounts()}
	a.newFlows()
}

// nameAddresses gives a conversation the name by which its process asked for the other end's address.
func nameAddresses(names *dns.Names) func(*model.Event) {
	return func(ev *model.Event) {
		switch {
		case ev.DNS != nil:
			names.Learn(ev)
		case ev.Socket != nil && ev.Socket.Remote.IsValid() && ev.Socket.Direction != "inbound":
			if name, ok := names.Lookup(ev.Key, ev.Socket.NetNS, ev.Socket.Remote.Addr(), ev.BootTime); ok {
				ev.Socket.RemoteName = name
			}
		case ev.Request != nil && ev.Request.Remote.IsValid() && ev.Request.Role == "client":
			if name, ok := names.Lookup(ev.Key, ev.Request.NetNS, ev.Request.Remote.Addr(), ev.BootTime); ok {
				ev.Request.RemoteName = name
			}
		}
	}
}

// chooseRequests reads whose requests are to be looked at.
func (a *Agent) chooseRequests() error {
	choice, err := l7.ParseChoice(a.config.L7, a.resolver)
	if err != nil {
		return fmt.Errorf("configuration: l7: %w", err)
	}
	if a.requests = choice; choice != nil {
		a.resolver.OnChange(func(_, _ *model.Workload) { choice.NoticeWorkloads() })
		a.river.observers = append(a.river.observers, choice.Observe)
	}
	return nil
}

// startSensors starts all that are configured. Without the process sensor there is no agent; any other may fail
// alone, and the agent says so in its log and status.
func (a *Agent) startSensors(ctx context.Context) error {
	for _, s := range a.allSensors() {
		st := &sensorState{Sensor: s, state: "on"}
		a.sensors = append(a.sensors, st)
		if len(a.config.Sensors) > 0 && !slices.Contains(a.config.Sensors, s.Name()) && s.Name() != "exec" {
			st.state, st.message = "off", "not among the configured sensors"
			continue
		}
		if o, ok := s.(sensor.Optional); ok && o.Off() != "" {
			st.state, st.message = "off", o.Off()
			continue
		}
		if err := s.Start(ctx, a.host); err != nil {
			if s.Name() == "exec" {
				return fmt.Errorf("start the process sensor: %w", err)
			}
			st.state, st.message = "failed", err.Error()
			if err := a.host.Detach(s.Name()); err != nil {
				a.log.Warn("a sensor that failed left something attached", "sensor", s.Name(), "error", err)
			}
			a.log.Error("a sensor does not run: its events are missing", "sensor", s.Name(), "error", err)
			continue
		}
		if err := a.river.register(s); err != nil {
			return err
		}
		if err := a.river.inventory(ctx, a.host, s); err != nil {
			st.message = err.Error()
			a.log.Error("what existed before the agent is not complete", "sensor", s.Name(), "error", err)
		}
		a.log.Info("sensor runs", "sensor", s.Name(), "rung", s.Rung())
	}
	return nil
}

func (a *Agent) allSensors() []sensor.Sensor {
	return all.Sensors(all.Options{ArgsLimit: uint32(a.config.ArgsLimit), Losses: a.losses, Requests: a.requests, NoFlows: a.config.Flows == Off, OnCgroup: func(c exec.CgroupChange) {
		a.netpol.cgroup(c)
		if c.Removed {
			a.resolver.CgroupRemoved(c.Hierarchy, c.ID)
		} else {
			a.resolver.CgroupCreated(c.Hierarchy, c.ID, c.Path)
			a.enforcer.NoticeWorkloads()
			a.tracer.NoticeWorkloads()
			a.requests.NoticeWorkloads()
		}
	}})
}

func (a *Agent) running() []sensor.Sensor {
	var out []sensor.Sensor
	for _, s := range a.sensors {
		if s.state == "on" {
			out = append(out, s.Sensor)
		}
	}
	return out
}

func sensorNames() []string {
	var names []string
	for _, s := range all.Sensors(all.Options{}) {
		names = append(names, s.Name())
	}
	return names
}

// cannot is an error of what could not even be tried here: exit code 2.
type cannot struct{ error }

func (c cannot) Unwrap() error { return c.error }

// ExitCode is what the command ends with.
func (cannot) ExitCode() int { return 2 }
