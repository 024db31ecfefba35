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
			// Its rung says how each of its parts sees, and which does not.
			_, how, told := strings.Cut(sensor.GetRung(), "capability use: ")
			s.capabilities = sensor.GetState() == "on" && told && !strings.HasPrefix(how, "not seen")
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

// reads selects what is read below tokenPath. In an image whose /var/run is a link to /run the kernel knows it by the latter.
const reads = `file.op == "read" && (file.path.startsWith("` + tokenPath + `") || file.path.startsWith("` + "/run/secrets/kubernetes.io/serviceaccount" + `"))`

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
	if err := s.events(&seen, w, container); err != nil {
		return seen, false, err
	}
	for op, into := range map[string]*[]string{`file.op != "read"`: &seen.Writes, reads: &seen.Reads} {
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

// question is asked again and again, each time without what is known already, until no event answers it: however many events there are, none of
// its answers is missed.
type question struct {
	types string // of events
	where string // which of them; empty: all
	field string // of an event: what is asked for
	own   bool   // what the runtime did before the container's program is no answer
	// of takes the answer of an event into what was seen, and gives it as the filter's language writes it.
	of func(*facts.Seen, *vigiev1.Event) string
}

func questions() []question {
	return []question{
		{"capability", "capability.granted", "capability.cap", true, func(seen *facts.Seen, e *vigiev1.Event) string {
			seen.Capabilities = append(seen.Capabilities, strings.TrimPrefix(e.GetCapability().GetCap(), "CAP_"))
			return strconv.Quote(e.GetCapability().GetCap())
		}},
		{"accept", "", "socket.local_port", false, func(seen *facts.Seen, e *vigiev1.Event) string {
			seen.Listens = append(seen.Listens, uint16(e.GetSocket().GetLocalPort())) //nolint:gosec // a port
			return fmt.Sprintf("%du", e.GetSocket().GetLocalPort())
		}},
		{"exec", "", "process.uid", false, func(seen *facts.Seen, e *vigiev1.Event) string {
			seen.Users = append(seen.Users, e.GetProcess().GetUid())
			return fmt.Sprintf("%du", e.GetProcess().GetUid())
		}},
	}
}

// mostAnswers bounds how many different answers are asked for; what a container has more of is not needed to judge it.
const mostAnswers = 64

// events fills in what events of other kinds than files tell.
func (s *Source) events(seen *facts.Seen, w facts.Workload, container string) error {
	for _, q := range questions() {
		var known, runtime []string
		for len(known) < mostAnswers {
			f := filter(w, container, q.types)
			if q.where != "" {
				f.Where += " && " + q.where
			}
			if len(known) > 0 {
				f.Where += " && !(" + q.field + " in [" + strings.Join(known, ", ") + "])"
			}
			if len(runtime) > 0 {
				f.Where += " && !(process.exec_id in [" + strings.Join(runtime, ", ") + "])"
			}
			found, _, err := s.page(f, 1, true)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				break
			}
			if q.own && len(runtime) < mostAnswers { // beyond that what the runtime did counts too: more was seen than there was
				outside, err := s.fromOutside(found[0])
				if err != nil {
					return err
				}
				if outside {
					runtime = append(runtime, strconv.Quote(found[0].GetProcess().GetExecId()))
					continue
				}
			}
			known = append(known, q.of(seen, found[0]))
		}
	}
	f := filter(w, container, "exec")
	f.Where += " && process.file.setuid_gained"
	gained, _, err := s.page(f, 1, true)
	seen.Setuid = len(gained) > 0
	return err
}

// generations bounds how many forks without an exec are followed back.
const generations = 4

// fromOutside reports whether an event is of an image that was executed outside of the container that it is in now: the runtime, which enters the
// container's cgroup, sets users and capabilities there, and executes the container's program last. Nothing in the container can be such an
// image. One whose exec is not in the history is not known to be.
func (s *Source) fromOutside(e *vigiev1.Event) (bool, error) {
	inside := e.GetProcess().GetWorkload().GetId()
	p := e.GetProcess()
	for range generations {
		id := p.GetExecId()
		if p.GetForked() { // the image is its parent's
			id = p.GetParent().GetExecId()
		}
		if id == "" || inside == "" {
			return false, nil
		}
		image := "process.exec_id == " + strconv.Quote(id)
		found, _, err := s.page(&vigiev1.Filter{Types: []string{"exec"}, Where: image}, 1, true)
		if err != nil {
			return false, err
		}
		if len(found) > 0 {
			return found[0].GetProcess().GetWorkload().GetId() != inside, nil
		}
		if !p.GetForked() {
			return false, nil
		}
		if found, _, err = s.page(&vigiev1.Filter{Where: image}, 1, true); err != nil || len(found) == 0 {
			return false, err
		}
		p = found[0].GetProcess()
	}
	return false, nil
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
