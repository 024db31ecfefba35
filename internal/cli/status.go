// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// askTimeout bounds calls that an agent answers from memory.
const askTimeout = 10 * time.Second

// NewStatus is `vigie status`.
func NewStatus(env Env) *cobra.Command {
	var to target
	var out format
	var node string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the agent is doing, and whether it lost anything",
		Long: "Say how the agent is doing: its sensors, what it has seen, what was lost and where, its queues and its memory. A relay says\n" +
			"how each of its nodes is, and the sums of all; --node has the status of one node's agent.\n\n" +
			"The exit code is 0 when everything that was asked for works, 1 when something does not.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := to.dial()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			status, health, err := askStatus(ctx, client)
			if err == nil && node != "" {
				status, health, err = askNode(ctx, client, status, node)
			}
			if err != nil {
				return to.explain(err)
			}
			policies, err := client.ListPolicies(ctx, connect.NewRequest(&vigiev1.ListPoliciesRequest{}))
			if err != nil && connect.CodeOf(err) != connect.CodeUnimplemented { // an older agent
				return to.explain(err)
			}
			var list []*vigiev1.Policy
			if err == nil {
				list = policies.Msg.GetPolicies()
			}
			if err := printStatus(env, out, status, health, list); err != nil {
				return err
			}
			if !health.GetReady() {
				return exit(ExitFailed)
			}
			return nil
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	cmd.Flags().StringVar(&node, "node", "", "with a relay: the status of this node's agent")
	return cmd
}

// askNode asks a relay for the status of one of its nodes.
func askNode(ctx context.Context, client vigiev1connect.VigieClient, relay *vigiev1.Status, node string) (*vigiev1.Status, *vigiev1.HealthResponse, error) {
	if len(relay.GetNodes()) == 0 {
		return nil, nil, connect.NewError(connect.CodeInvalidArgument, errors.New("--node is for a relay: an agent has one node, its own"))
	}
	status, err := client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{Node: node}))
	if err != nil {
		return nil, nil, err
	}
	health := new(vigiev1.HealthResponse)
	for _, n := range relay.GetNodes() {
		if n.GetName() == node {
			health.Problems = n.GetProblems()
		}
	}
	health.Ready = len(health.GetProblems()) == 0
	return status.Msg.GetStatus(), health, nil
}

func askStatus(ctx context.Context, client vigiev1connect.VigieClient) (*vigiev1.Status, *vigiev1.HealthResponse, error) {
	status, err := client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{}))
	if err != nil {
		return nil, nil, err
	}
	health, err := client.Health(ctx, connect.NewRequest(&vigiev1.HealthRequest{}))
	if err != nil {
		return nil, nil, err
	}
	return status.Msg.GetStatus(), health.Msg, nil
}

func printStatus(env Env, out format, s *vigiev1.Status, h *vigiev1.HealthResponse, policies []*vigiev1.Policy) error {
	switch out {
	case formatJSON, formatYAML:
		json, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(s)
		if err != nil {
			return fmt.Errorf("write status as json: %w", err)
		}
		if out == formatYAML {
			return writeYAML(env.Out, json)
		}
		return writeJSON(env.Out, json)
	}
	p := statusPrinter{w: env.Out, screen: env.screen(), wide: out == formatWide, now: env.Now()}
	p.print(s, h, policies)
	return p.err
}

// kubernetes says what is known of the cluster, and from when.
func (p *statusPrinter) kubernetes(k *vigiev1.KubernetesStatus) {
	if k == nil {
		return
	}
	state := "followed"
	if !k.GetSynced() {
		state = "not read yet"
		if at := k.GetRestored(); at != nil {
			state = "as it was known at " + at.AsTime().Local().Format(time.DateTime)
		}
	}
	p.line("Kubernetes at %s, node %s: %s; %d pods, %d of them here; %d watches", term.Escape(k.GetServer()), p.screen.Style.Bold(term.Escape(k.GetNode())), state,
		k.GetPods(), k.GetOwnPods(), k.GetWatches())
	for _, problem := range k.GetProblems() {
		p.line("  %s %s", p.screen.Style.Red("!"), term.Escape(problem))
	}
}

// statusPrinter writes the sections of a status and keeps the first error.
type statusPrinter struct {
	w      io.Writer
	screen term.Screen
	wide   bool
	now    time.Time
	err    error
}

func (p *statusPrinter) print(s *vigiev1.Status, h *vigiev1.HealthResponse, policies []*vigiev1.Policy) {
	st := p.screen.Style
	state := st.Green("ready")
	if !h.GetReady() {
		state = st.Alarm(" NOT READY ")
	}
	what := "sees"
	if s.GetReplay() {
		what = "replays a capture on"
	}
	if len(s.GetNodes()) > 0 {
		p.line("vigie %s relays %s from %s, up %s: %s", term.Escape(s.GetVersion()), st.Bold(show.Nodes(s.GetNodes())), term.Escape(s.GetHost()),
			show.Age(time.Duration(s.GetUptimeNs())), state)
	} else {
		p.line("vigie %s %s %s (Linux %s, %s), pid %d, up %s: %s", term.Escape(s.GetVersion()), what, st.Bold(term.Escape(s.GetHost())),
			term.Escape(s.GetKernel()), term.Escape(s.GetArch()), s.GetPid(), show.Age(time.Duration(s.GetUptimeNs())), state)
	}
	for _, problem := range h.GetProblems() {
		p.line("  %s %s", st.Red("!"), term.Escape(problem))
	}
	p.losses(s)
	p.kubernetes(s.GetKubernetes())
	if len(policies) > 0 {
		p.line("%s", policySummary(p.screen.Style, policies))
	}
	p.line("")
	p.table([]string{"NODE", "STATE", "SINCE", "AGENT", "CLOCK", "RTT", "EVENTS", "LOST", "NOTE"}, nodeTable(st, s.GetNodes(), p.now), 2, 4, 5, 6, 7)
	p.sensors(s.GetSensors())
	p.queues(s.GetQueues())
	p.exporters(s.GetSubscribers())
	p.subscribers(s.GetSubscribers())
	p.resources(s)
	if p.wide {
		p.programs(s.GetSensors())
		p.config(s.GetConfig())
	}
}

// losses is the headline: nothing was lost, or what was, largest first.
func (p *statusPrinter) losses(s *vigiev1.Status) {
	var seen uint64
	for _, n := range s.GetEvents() {
		seen += n
	}
	lost := slices.DeleteFunc(slices.Clone(s.GetLosses()), func(l *vigiev1.LossStatus) bool { return l.GetCount() == 0 && !p.wide })
	slices.SortStableFunc(lost, func(a, b *vigiev1.LossStatus) int {
		return int(min(b.GetCount(), 1<<40)) - int(min(a.GetCount(), 1<<40))
	})
	total, slow := show.Lost(s)
	st := p.screen.Style
	switch {
	case total > 0:
		p.line("%s beside %d seen events", st.Alarm(fmt.Sprintf(" LOST %d ", total)), seen)
	case slow > 0:
		p.line("%s of %d events; clients that read too slowly missed some", st.Green("lost nothing"), seen)
	default:
		p.line("%s of %d events", st.Green("lost nothing"), seen)
	}
	for _, l := range lost {
		p.line("  %12d  %s: %s", l.GetCount(), term.Escape(l.GetStage()), term.Escape(l.GetReason()))
	}
}

func (p *statusPrinter) sensors(sensors []*vigiev1.SensorStatus) {
	st := p.screen.Style
	var rows [][]string
	for _, s := range sensors {
		state := term.Escape(s.GetState())
		switch s.GetState() {
		case "on", "running":
			state = st.Green(state)
		case "failed":
			state = st.Red(state)
		default:
			state = st.Dim(state)
		}
		rung, note, _ := strings.Cut(s.GetRung(), "; ") // what the rung leaves out stands behind it
		if s.GetMessage() != "" {
			note = strings.TrimPrefix(note+"; "+s.GetMessage(), "; ")
		}
		rows = append(rows, []string{term.Escape(s.GetName()), state, term.Escape(rung), term.Escape(note)})
	}
	p.table([]string{"SENSOR", "STATE", "RUNG", "NOTE"}, rows)
}

func (p *statusPrinter) queues(queues []*vigiev1.QueueStatus) {
	var rows [][]string
	for _, q := range queues {
		full := ""
		if q.GetCapacity() > 0 {
			full = fmt.Sprintf("%d%%", q.GetLength()*100/q.GetCapacity())
		}
		length, capacity := fmt.Sprint(q.GetLength()), fmt.Sprint(q.GetCapacity())
		if q.GetUnit() == "bytes" {
			length, capacity = show.Bytes(q.GetLength()), show.Bytes(q.GetCapacity())
		}
		rows = append(rows, []string{term.Escape(q.GetName()), length, capacity, full, term.Escape(q.GetUnit())})
	}
	p.table([]string{"QUEUE", "WAITING", "OF", "FULL", "UNIT"}, rows, 1, 2, 3)
}

func (p *statusPrinter) subscribers(subs []*vigiev1.SubscriberStatus) {
	var rows [][]string
	for _, s := range subs {
		if s.GetExporter() {
			continue
		}
		lost := fmt.Sprint(s.GetLost())
		if s.GetLost() > 0 {
			lost = p.screen.Style.Red(lost)
		}
		rows = append(rows, []string{term.Escape(s.GetName()), fmt.Sprint(s.GetQueued()), lost, term.Escape(s.GetPeer())})
	}
	p.table([]string{"SUBSCRIBER", "WAITING", "LOST", "PEER"}, rows, 1, 2)
}

// exporters are the subscribers that take events to places outside.
func (p *statusPrinter) exporters(subs []*vigiev1.SubscriberStatus) {
	var rows [][]string
	for _, s := range subs {
		if !s.GetExporter() {
			continue
		}
		lost, note := fmt.Sprint(s.GetLost()), term.Escape(s.GetTrouble())
		if s.GetLost() > 0 {
			lost = p.screen.Style.Red(lost)
		}
		if note != "" {
			note = p.screen.Style.Red(note)
		}
		full := "-"
		if s.GetQueueBytes() > 0 {
			full = fmt.Sprintf("%d%%", s.GetQueuedBytes()*100/s.GetQueueBytes())
		}
		rows = append(rows, []string{term.Escape(strings.TrimPrefix(s.GetName(), "export ")), fmt.Sprint(s.GetQueued()), full, fmt.Sprint(s.GetSent()),
			fmt.Sprint(s.GetRetried()), lost, note})
	}
	p.table([]string{"EXPORTER", "WAITING", "FULL", "SENT", "RETRIED", "LOST", "TROUBLE"}, rows, 1, 2, 3, 4, 5)
}

func (p *statusPrinter) resources(s *vigiev1.Status) {
	types := slices.SortedFunc(maps.Keys(s.GetEvents()), func(a, b string) int {
		return slices.Index(typeNames(), a) - slices.Index(typeNames(), b)
	})
	var counts []string
	for _, t := range types {
		if n := s.GetEvents()[t]; n > 0 || p.wide {
			counts = append(counts, fmt.Sprintf("%s %d", term.Escape(t), n))
		}
	}
	if len(counts) > 0 {
		p.line("events     %s", strings.Join(counts, ", "))
	}
	t := s.GetProcessTable()
	p.line("processes  %d running, %d ended, room for %d, %d evicted", t.GetLive(), t.GetEnded(), t.GetCapacity(), t.GetEvictions())
	store := fmt.Sprintf("%d of %d events, %s of %s", s.GetStore().GetEvents(), s.GetStore().GetMaxEvents(),
		show.Bytes(s.GetStore().GetBytes()), show.Bytes(s.GetStore().GetMaxBytes()))
	if since := s.GetStore().GetCompleteSince(); since != nil {
		store += ", complete since " + since.AsTime().Local().Format(time.DateTime)
	}
	p.line("recent     %s", store)
	if h := s.GetHistory(); h != nil {
		history := fmt.Sprintf("%s events in %d files, %s of %s", show.Count(h.GetEvents()), h.GetSegments(), show.Bytes(h.GetBytes()), show.Bytes(h.GetMaxBytes()))
		if h.GetOldest() != nil {
			history += ", since " + h.GetOldest().AsTime().Local().Format(time.DateTime)
		}
		p.line("history    %s, in %s", history, term.Escape(h.GetDirectory()))
	}
	cpu := ""
	if up := s.GetUptimeNs(); up > 0 {
		cpu = fmt.Sprintf("; CPU %s, %.1f%% of one core", show.Duration(time.Duration(s.GetCpuTimeNs())), float64(s.GetCpuTimeNs())*100/float64(up))
	}
	m := s.GetMemory()
	p.line("memory     %s resident, %s of it heap; BPF maps %s%s", show.Bytes(m.GetRss()), show.Bytes(m.GetHeap()), show.Bytes(m.GetMaps()), cpu)
}

func (p *statusPrinter) programs(sensors []*vigiev1.SensorStatus) {
	var rows [][]string
	for _, s := range sensors {
		for _, prog := range s.GetPrograms() {
			mean := "-"
			if n := prog.GetRunCount(); n > 0 {
				mean = show.Duration(time.Duration(prog.GetRunTimeNs() / n))
			}
			rows = append(rows, []string{term.Escape(s.GetName()), term.Escape(prog.GetName()), fmt.Sprint(prog.GetId()),
				fmt.Sprint(prog.GetRunCount()), mean})
		}
	}
	p.line("")
	p.table([]string{"SENSOR", "PROGRAM", "ID", "RUNS", "MEAN"}, rows, 2, 3, 4)
}

func (p *statusPrinter) config(config map[string]string) {
	var rows [][]string
	for _, k := range slices.Sorted(maps.Keys(config)) {
		rows = append(rows, []string{term.Escape(k), term.Escape(config[k])})
	}
	p.table([]string{"OPTION", "VALUE"}, rows)
}

// table prints a section; one without rows is left out.
func (p *statusPrinter) table(header []string, rows [][]string, right ...int) {
	if p.err != nil || len(rows) == 0 {
		return
	}
	t := term.Table{Header: header, Rows: rows, Right: right, Width: p.screen.Width, Style: p.screen.Style}
	p.err = t.Write(p.w)
	p.line("")
}

func (p *statusPrinter) line(f string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, f+"\n", args...)
	}
}
