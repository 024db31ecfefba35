// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/store"
)

// Agent is the server's backend.
var _ server.Backend = (*Agent)(nil)

// Subscribe implements server.Backend.
func (a *Agent) Subscribe(o pipeline.SubscribeOptions) *pipeline.Subscription {
	return a.hub.Subscribe(o)
}

// Events implements server.Backend.
func (a *Agent) Events(ctx context.Context, q server.EventQuery) (server.EventPage, error) {
	past := search(q.Filter)
	past.NewestFirst, past.Recent, past.Limit, past.Cursor = q.NewestFirst, q.Recent, q.Limit, store.Position(q.Cursor)
	page, err := a.store.Query(ctx, past)
	return server.EventPage{Events: page.Events, Next: server.EventCursor(page.Next), LastSeq: page.LastSeq, CompleteSince: page.CompleteSince}, err
}

// Processes implements server.Backend.
func (a *Agent) Processes(ended bool) []*model.Process { return a.table.List(ended) }

// Process implements server.Backend.
func (a *Agent) Process(execID string) *model.Process { return a.table.ByExecID(execID) }

// ProcessByPID implements server.Backend.
func (a *Agent) ProcessByPID(pid uint32) *model.Process { return a.table.ByPID(pid) }

// Ancestors implements server.Backend.
func (a *Agent) Ancestors(p *model.Process) []*model.Process { return a.table.Ancestors(p) }

// Children implements server.Backend.
func (a *Agent) Children(p *model.Process) []*model.Process {
	return slices.DeleteFunc(a.table.Children(p), func(c *model.Process) bool { return !c.EndTime.IsZero() })
}

// Descends implements server.Backend.
func (a *Agent) Descends(p *model.Process, pid uint32) bool { return a.table.Descends(p, pid) }

// Problems implements server.Backend.
func (a *Agent) Problems() []string {
	var out []string
	if !a.isReady.Load() {
		out = append(out, "the agent is starting: the start-up inventory is not complete; try again in a second")
	}
	for _, s := range a.sensors {
		if s.state == "failed" {
			out = append(out, fmt.Sprintf("sensor %s does not run: %s; `vigie doctor` says what this kernel can do", s.Name(), s.message))
		}
	}
	if a.rules != nil {
		out = append(out, a.rules.problems()...)
	}
	if a.history != nil {
		out = append(out, a.history.Problems()...)
	}
	return append(append(out, a.policies.trouble.problems()...), a.netpol.problems()...)
}

// Status implements server.Backend.
func (a *Agent) Status() server.Status {
	table, held := a.table.Stats(), a.memory.Stats()
	s := server.Status{Version: a.deps.Version, BootID: a.bootWhole, Started: a.started, Replay: a.config.Replay != "",
		Arch: runtime.GOARCH, Losses: a.losses.Snapshot(), Events: a.river.eventCounts(),
		ProcessTable: server.ProcessTable{Live: uint64(table.Live), Ended: uint64(table.Exited),
			Capacity: uint64(a.config.ExitedProcesses), Evictions: table.Evictions},
		Store: server.Store{Events: uint64(held.Events), MaxEvents: uint64(held.MaxEvents), Bytes: uint64(held.Bytes),
			MaxBytes: uint64(held.MaxBytes), CompleteSince: held.CompleteSince},
		History: a.historyStatus(), Config: a.config.inUse()}
	s.Host, s.Kernel = a.hostNames()
	s.Node = cmp.Or(a.config.NodeName, s.Host)
	if a.host != nil {
		for _, q := range a.host.Queues() {
			s.Queues = append(s.Queues, server.Queue{Name: q.Name, Length: q.Used, Capacity: q.Size, Unit: "bytes"})
		}
		s.MapBytes = a.host.MapMemory()
	}
	programs := a.programs()
	for _, st := range a.sensors {
		state := server.Sensor{Name: st.Name(), State: st.state, Message: st.message, Programs: programs[st.Name()]}
		if st.state == "on" {
			state.Rung = st.Rung()
		}
		s.Sensors = append(s.Sensors, state)
	}
	s.Kubernetes = a.kubeStatus()
	s.Subscribers = slices.Concat(a.historySubscriber(), a.exporters.list(), a.tetragon.Subscribers(), a.hubble.Subscribers())
	return s
}

// programs are the run statistics by sensor. The dispatcher of system calls counts with the process sensor.
func (a *Agent) programs() map[string][]server.Program {
	if a.host == nil {
		return nil
	}
	out := make(map[string][]server.Program)
	for _, p := range a.host.Stats() {
		sensor := p.Sensor
		if sensor == kernel.DispatcherSensor {
			sensor = "exec"
		}
		out[sensor] = append(out[sensor], server.Program{Name: p.Name, ID: p.ID, RunCount: p.RunCount, RunTime: p.RunTime})
	}
	return out
}

func (a *Agent) hostNames() (host, release string) {
	if a.config.Replay != "" {
		return a.replayed.Host, a.replayed.Kernel
	}
	host, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	return host, release
}

// inUse is the configuration by option name, without what is secret: of the token, the file's name only.
func (c *Config) inUse() map[string]string {
	m := map[string]string{
		"state-dir": c.StateDir, "policy-dir": c.PolicyDir, "socket": c.Socket, "socket-group": c.SocketGroup, "http": c.HTTP, "tls-cert": c.TLSCert,
		"tls-key": c.TLSKey, "client-ca-file": c.ClientCA, "token-file": c.TokenFile, "tetragon-api": c.TetragonAPI, "hubble-api": c.HubbleAPI, "sensors": strings.Join(c.Sensors, ","),
		"args-limit": strconv.Itoa(c.ArgsLimit), "memory-events": strconv.Itoa(c.MemoryEvents),
		"history": cmp.Or(c.historyDir(), Off), "history-max-size": c.HistoryMaxSize.String(), "history-max-age": c.HistoryMaxAge.String(),
		"history-interval": c.HistoryInterval.String(),
		"exited-processes": strconv.Itoa(c.ExitedProcesses), "program-stats": strconv.FormatBool(c.ProgramStats),
		"flows": c.Flows, "max-flows": strconv.Itoa(c.MaxFlows), "flow-interval": c.FlowInterval.String(),
		"max-policies": strconv.Itoa(c.MaxPolicies), "enforce-backends": strings.Join(c.EnforceBackends, ","),
		"fanotify-mounts": strings.Join(c.FanotifyMounts, ","),
		"kube":            c.Kube, "node-name": c.NodeName, "kube-pods": c.KubePods, "kube-events": c.KubeEvents, "kube-reports": c.KubeReports,
		"rules": c.Rules, "rules-dir": c.RulesDir,
		"handover": strconv.FormatBool(c.Handover), "replay": c.Replay, "speed": strconv.FormatFloat(c.Speed, 'g', -1, 64),
	}
	maps.Copy(m, c.ExportsInUse())
	return m
}
