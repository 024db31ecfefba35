// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/posture/facts"
)

// unseen stands for the capabilities of a container where the agent's kernel does not tell which are used.
const unseen = "what capabilities are used is not seen on this kernel"

// Source asks one agent, once about each container. It serves one goroutine.
type Source struct {
	ctx          context.Context // of the scan, whose source this is
	client       vigiev1connect.VigieClient
	now          func() time.Time
	capabilities bool // are seen
	cache        map[key]answer
	err          error // the first that happened: what was asked afterwards is not known
}

type key struct {
	workload  facts.Workload
	container string
}

type answer struct {
	seen facts.Seen
	ok   bool
}

// Ask connects a source with an agent, and learns what that can see.
func Ask(ctx context.Context, client vigiev1connect.VigieClient, now func() time.Time) (*Source, error) {
	reply, err := client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{}))
	if err != nil {
		return nil, err
	}
	s := &Source{ctx: ctx, client: client, now: now, cache: map[key]answer{}}
	for _, sensor := range reply.Msg.GetStatus().GetSensors() {
		switch sensor.GetName() {
		case "privilege":
			s.capabilities = sensor.GetState() == "on" && !strings.Contains(sensor.GetMessage(), "capability use")
		case "file", "socket", "exec":
			if sensor.GetState() != "on" {
				return nil, fmt.Errorf("the agent's sensor %s is %s: %s: what it did not see proves nothing", sensor.GetName(), sensor.GetState(), sensor.GetMessage())
			}
		}
	}
	return s, nil
}

// Err is why something could not be asked.
func (s *Source) Err() error { return s.err }

// Container implements facts.Source.
func (s *Source) Container(w facts.Workload, container string) (facts.Seen, bool) {
	k := key{w, container}
	if a, ok := s.cache[k]; ok {
		return a.seen, a.ok
	}
	if s.err != nil {
		return facts.Seen{}, false
	}
	seen, ok, err := s.ask(w, container)
	if err != nil {
		s.err = fmt.Errorf("ask the agent about %s %s/%s: %w", w.Kind, w.Namespace, w.Name, err)
		return facts.Seen{}, false
	}
	s.cache[k] = answer{seen, ok}
	return seen, ok
}

// filter selects the events of a container in all pods of its workload, by what their names begin with. It may take in another
// workload's whose name begins so too: then more was seen than there was, and never less.
func filter(w facts.Workload, container string, types ...string) *vigiev1.Filter {
	name := w.Name + "-*"
	if w.Kind == "Pod" {
		name = w.Name
	}
	where := "process.workload.namespace == " + strconv.Quote(w.Namespace)
	if container != "" {
		where += " && process.workload.container == " + strconv.Quote(container)
	}
	return &vigiev1.Filter{Types: types, WorkloadKinds: []string{"pod"}, WorkloadNames: []string{name}, Where: where}
}

// most bounds the different files that are asked for: more are more than a fix could name.
const most = 1000

func (s *Source) ask(w facts.Workload, container string) (seen facts.Seen, ok bool, err error) {
	first, since, err := s.page(filter(w, container), 1, false)
	if err != nil || len(first) == 0 {
		return seen, false, err
	}
	seen.From, seen.To = since, s.now()
	if began := first[0].GetTime().AsTime(); began.After(seen.From) {
		seen.From = began
	}
	if !s.capabilities {
		seen.Capabilities = []string{unseen}
	}
	events, _, err := s.page(filter(w, container, "capability", "accept", "exec"), 1000, true)
	if err != nil {
		return seen, false, err
	}
	for _, e := range events {
		note(&seen, e)
	}
	for op, into := range map[string]*[]string{`file.op != "read"`: &seen.Writes, `file.op == "read" && file.path.startsWith("` + tokenPath + `")`: &seen.Reads} {
		f := filter(w, container, "file")
		f.Where += ` && file.error == "" && ` + op
		reply, err := s.client.Aggregate(s.ctx, connect.NewRequest(&vigiev1.AggregateRequest{Filter: f, By: []string{"file"}, Measures: []string{"events"}, Limit: most}))
		if err != nil {
			return seen, false, err
		}
		for _, row := range reply.Msg.GetRows() {
			*into = append(*into, row.GetKeys()[0])
		}
	}
	seen.Writes = slices.DeleteFunc(seen.Writes, kernelFile)
	return seen, true, nil
}

// kernelFile reports whether a path is none of the container's root file system.
func kernelFile(path string) bool {
	return strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/sys/")
}

// note takes one event in.
func note(seen *facts.Seen, e *vigiev1.Event) {
	if c := e.GetCapability(); c != nil && c.GetGranted() {
		if name := strings.TrimPrefix(c.GetCap(), "CAP_"); !slices.Contains(seen.Capabilities, name) {
			seen.Capabilities = append(seen.Capabilities, name)
		}
	}
	if e.GetType() == "accept" {
		if port := uint16(e.GetSocket().GetLocalPort()); port != 0 && !slices.Contains(seen.Listens, port) { //nolint:gosec // a port
			seen.Listens = append(seen.Listens, port)
		}
	}
	if p := e.GetProcess(); e.GetType() == "exec" && p != nil {
		if !slices.Contains(seen.Users, p.GetUid()) {
			seen.Users = append(seen.Users, p.GetUid())
		}
		seen.Setuid = seen.Setuid || p.GetFile().GetSetuidGained()
	}
}

// page is the first page of events, and since when history is complete.
func (s *Source) page(f *vigiev1.Filter, size uint32, newest bool) ([]*vigiev1.Event, time.Time, error) {
	reply, err := s.client.QueryEvents(s.ctx, connect.NewRequest(&vigiev1.QueryEventsRequest{Filter: f, PageSize: size, NewestFirst: newest}))
	if err != nil {
		return nil, time.Time{}, err
	}
	if reply.Msg.GetCompleteSince() == nil {
		return nil, time.Time{}, errors.New("it does not say since when its history is complete")
	}
	return reply.Msg.GetEvents(), reply.Msg.GetCompleteSince().AsTime(), nil
}
