// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"slices"
	"strings"
	"testing"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/vigie-io/vigie/internal/model"
)

// scene is what filters are tried on: the name of each event, in order.
type scene struct {
	backend *backend
	names   []string
	events  map[string]*model.Event
}

func (s *scene) add(name string, e *model.Event) {
	s.names = append(s.names, name)
	s.events[name] = e
}

// newScene has a host with a shell, a script and curl, and a pod with its first process and one that was put into it.
func newScene() *scene {
	shell, script, curl := family()
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "web-0", Namespace: "prod", ID: "abcdef0123456789", Container: "nginx",
		Labels: map[string]string{"app": "web", "tier": "front"}}
	nginx := &model.Process{Key: model.ProcessKey{PID: 500, Start: 5_000, Exec: 3}, ParentKey: shell.Key, StartTime: script.StartTime,
		Binary: "/usr/sbin/nginx", Args: []string{"nginx", "-g", "daemon off;"}, Workload: pod, Namespaces: model.Namespaces{PID: 9}}
	injected := *nginx
	injected.Key, injected.Binary = model.ProcessKey{PID: 501, Start: 5_001, Exec: 3}, "/bin/ash"
	s := &scene{backend: newBackend(shell, script, curl, nginx, &injected), events: map[string]*model.Event{}}
	s.add("shell", execOf(shell, nil))
	s.add("script", execOf(script, shell))
	s.add("curl", execOf(curl, script))
	s.add("exit", exitOf(curl, script))
	s.add("nginx", execOf(nginx, shell))
	s.add("ash", execOf(&injected, shell))
	s.add("kprobe", probeOf(script, shell, model.Probe{Kind: "kprobe", Hook: "tcp_connect", Policy: "net",
		Args: []model.ProbeArg{{Type: "string", Text: "10.1.2.3"}}}))
	s.add("tracepoint", probeOf(script, shell, model.Probe{Kind: "tracepoint", Hook: "sched/x", Policy: "sched"}))
	s.add("uprobe", probeOf(script, shell, model.Probe{Kind: "uprobe", Hook: "f", Policy: "up"}))
	s.add("usdt", probeOf(script, shell, model.Probe{Kind: "usdt", Hook: "a/b", Policy: "us"}))
	s.add("lsm", probeOf(script, shell, model.Probe{Kind: "lsm", Hook: "file_open", Policy: "files", Action: "override"}))
	return s
}

// passes are the names of the events that a request lets through.
func (s *scene) passes(t *testing.T, q *tg.GetEventsRequest) []string {
	t.Helper()
	w, err := compileRequest(q, s.backend)
	if err != nil {
		t.Fatal(err)
	}
	c := newConverter(s.backend)
	var out []string
	for _, name := range s.names {
		e := s.events[name]
		if w.wants(e) && w.keeps(e, c.event(e, w.ancestors)) {
			out = append(out, name)
		}
	}
	return out
}

const all = "shell script curl exit nginx ash kprobe tracepoint uprobe usdt lsm"

func TestEachFieldOfAFilter(t *testing.T) {
	no := wrapperspb.Bool(false)
	for name, c := range map[string]struct {
		filter *tg.Filter
		want   string
	}{
		"nothing":                {&tg.Filter{}, all},
		"binary_regex":           {&tg.Filter{BinaryRegex: []string{"^/usr/bin/curl$", "ngin"}}, "curl exit nginx"},
		"namespace":              {&tg.Filter{Namespace: []string{"prod"}}, "nginx ash"},
		"namespace of the host":  {&tg.Filter{Namespace: []string{""}}, strings.Replace(all, "nginx ash ", "", 1)},
		"namespace_regex":        {&tg.Filter{NamespaceRegex: []string{"^pr"}}, "nginx ash"},
		"health_check":           {&tg.Filter{HealthCheck: wrapperspb.Bool(true)}, ""},
		"no health_check":        {&tg.Filter{HealthCheck: no}, all},
		"pid":                    {&tg.Filter{Pid: []uint32{300, 100}}, "shell curl exit"},
		"pid_set":                {&tg.Filter{PidSet: []uint32{200}}, "script curl exit kprobe tracepoint uprobe usdt lsm"},
		"event_set":              {&tg.Filter{EventSet: []tg.EventType{tg.EventType_PROCESS_EXIT, tg.EventType_PROCESS_USDT}}, "exit usdt"},
		"pod_regex":              {&tg.Filter{PodRegex: []string{"web-\\d"}}, "nginx ash"},
		"arguments_regex":        {&tg.Filter{ArgumentsRegex: []string{"example\\.org", `"daemon off;"`}}, "curl exit nginx ash"},
		"labels":                 {&tg.Filter{Labels: []string{"app in (api, web),tier!=back"}}, "nginx ash"},
		"labels that do not fit": {&tg.Filter{Labels: []string{"app=api", "!tier"}}, ""},
		"policy_names":           {&tg.Filter{PolicyNames: []string{"net", "sched", "up", "us", "files"}}, "kprobe tracepoint uprobe usdt lsm"},
		"parent_binary_regex":    {&tg.Filter{ParentBinaryRegex: []string{"/srv/fetch"}}, "curl exit"},
		"parent_arguments_regex": {&tg.Filter{ParentArgumentsRegex: []string{`"all of it"`}}, "curl exit"},
		"ancestor_binary_regex":  {&tg.Filter{AncestorBinaryRegex: []string{"bash$"}}, "curl exit"},
		"container_id":           {&tg.Filter{ContainerId: []string{"^abcdef"}}, "nginx ash"},
		"container_name_regex":   {&tg.Filter{ContainerNameRegex: []string{"^nginx$"}}, "nginx ash"},
		"in_init_tree":           {&tg.Filter{InInitTree: wrapperspb.Bool(true)}, "nginx"},
		"not in_init_tree":       {&tg.Filter{InInitTree: no, Namespace: []string{"prod"}}, "ash"},
		"cel_expression":         {&tg.Filter{CelExpression: []string{"process_exec.process.pid == 300u"}}, "curl"},
		"two fields are ANDed":   {&tg.Filter{BinaryRegex: []string{"curl"}, EventSet: []tg.EventType{tg.EventType_PROCESS_EXIT}}, "exit"},
		"capabilities any":       {caps(&tg.CapFilterSet{Any: capsList(0, 21)}), "curl exit"},
		"capabilities all":       {caps(&tg.CapFilterSet{All: capsList(0, 21)}), ""},
		"capabilities exactly":   {caps(&tg.CapFilterSet{Exactly: capsList(7, 21)}), "curl exit"},
		"capabilities none":      {caps(&tg.CapFilterSet{None: capsList(21)}), strings.Replace(all, "curl exit ", "", 1)},
		"capabilities of two sets": {&tg.Filter{Capabilities: &tg.CapFilter{Permitted: &tg.CapFilterSet{Any: capsList(7)},
			Inheritable: &tg.CapFilterSet{Any: capsList(7)}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene()
			if got := strings.Join(s.passes(t, &tg.GetEventsRequest{AllowList: []*tg.Filter{c.filter}}), " "); got != c.want {
				t.Errorf("allowed: %s; want %s", got, c.want)
			}
			denied := slices.DeleteFunc(slices.Clone(s.names), func(n string) bool { return slices.Contains(strings.Fields(c.want), n) })
			if got := s.passes(t, &tg.GetEventsRequest{DenyList: []*tg.Filter{c.filter}}); !slices.Equal(got, denied) {
				t.Errorf("not denied: %v; want %v", got, denied)
			}
		})
	}
}

func caps(s *tg.CapFilterSet) *tg.Filter {
	return &tg.Filter{Capabilities: &tg.CapFilter{Effective: s}}
}

func capsList(numbers ...int) (out []tg.CapabilitiesType) {
	for _, n := range numbers {
		out = append(out, tg.CapabilitiesType(n))
	}
	return out
}

func TestListsAreORedAndDenyWins(t *testing.T) {
	s := newScene()
	allow := []*tg.Filter{{Pid: []uint32{100}}, {Pid: []uint32{300}}}
	if got := s.passes(t, &tg.GetEventsRequest{AllowList: allow, DenyList: []*tg.Filter{{BinaryRegex: []string{"bash"}}, {EventSet: []tg.EventType{tg.EventType_PROCESS_EXIT}}}}); !slices.Equal(got, []string{"curl"}) {
		t.Errorf("got %v", got)
	}
}

func TestExpressions(t *testing.T) {
	for source, want := range map[string]string{
		`process_exec.process.binary.endsWith("curl") || process_exit.status == 3u`:                                         "curl exit",
		`process_kprobe.args.exists(a, has(a.string_arg) && cidr("10.0.0.0/8").containsIP(ip(a.string_arg)))`:               "kprobe",
		`process_lsm.action == KprobeAction.KPROBE_ACTION_OVERRIDE && process_lsm.process.in_init_tree == false`:            "lsm",
		`process_exec.process.cap.effective.exists(c, c == CapabilitiesType.CAP_SYS_ADMIN)`:                                 "curl",
		`process_exec.process.pod.pod_labels["app"] == "web"`:                                                               "nginx ash",
		`process_exec.ancestors.exists(a, a.binary.contains("bash"))`:                                                       "curl",
		`process_tracepoint.subsys == "sched" || process_uprobe.symbol == "f" || process_usdt.provider.upperAscii() == "A"`: "tracepoint uprobe usdt",
		`true`: "",
	} {
		if got := strings.Join(newScene().passes(t, &tg.GetEventsRequest{AllowList: []*tg.Filter{{CelExpression: []string{source}}}}), " "); got != want {
			t.Errorf("%s: %s; want %s", source, got, want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	bad := func(f *tg.Filter) *tg.GetEventsRequest { return &tg.GetEventsRequest{DenyList: []*tg.Filter{{}, f}} }
	for want, q := range map[string]*tg.GetEventsRequest{
		"deny_list[1]: binary_regex[0]: error parsing regexp": bad(&tg.Filter{BinaryRegex: []string{"("}}),
		"labels[0]":                      bad(&tg.Filter{Labels: []string{"a in"}}),
		"cel_expression[1]":              bad(&tg.Filter{CelExpression: []string{"true", "process_exec.nonsense"}}),
		"is a string, not true or false": bad(&tg.Filter{CelExpression: []string{"process_exec.process.binary"}}),
		"at most 4096":                   bad(&tg.Filter{CelExpression: []string{strings.Repeat(" ", 5000)}}),
		"capabilities.effective: 2 of":   bad(caps(&tg.CapFilterSet{Any: capsList(1), All: capsList(1)})),
		"capabilities.effective: 0 of":   bad(caps(&tg.CapFilterSet{})),
		"pid has 300 values":             bad(&tg.Filter{Pid: make([]uint32, 300)}),
		"allow_list has 300":             {AllowList: make([]*tg.Filter, 300)},
		"field_filters has 300":          {FieldFilters: make([]*tg.FieldFilter, 300)},
		`field_filters[0]: fields: no event of these types has a field "process.nonsense"`: {FieldFilters: []*tg.FieldFilter{{Fields: &fieldmaskpb.FieldMask{Paths: []string{"process.nonsense"}}}}},
		`"function_name"`:     {FieldFilters: []*tg.FieldFilter{{EventSet: []tg.EventType{tg.EventType_PROCESS_EXEC}, Fields: &fieldmaskpb.FieldMask{Paths: []string{"function_name"}}}}},
		"action 7":            {FieldFilters: []*tg.FieldFilter{{Action: 7}}},
		"window_size must be": {AggregationOptions: &tg.AggregationOptions{WindowSize: durationpb.New(-1)}},
	} {
		if _, err := compileRequest(q, newBackend()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestFieldFilters(t *testing.T) {
	include, exclude := tg.FieldFilterAction_INCLUDE, tg.FieldFilterAction_EXCLUDE
	mask := func(action tg.FieldFilterAction, paths ...string) *tg.FieldFilter {
		return &tg.FieldFilter{Action: action, Fields: &fieldmaskpb.FieldMask{Paths: paths}}
	}
	apply := func(event string, filters ...*tg.FieldFilter) *tg.GetEventsResponse {
		s := newScene()
		w, err := compileRequest(&tg.GetEventsRequest{FieldFilters: filters}, s.backend)
		if err != nil {
			t.Fatal(err)
		}
		m := newConverter(s.backend).event(s.events[event], w.ancestors)
		w.mask(m)
		return m
	}
	whole := apply("curl").GetProcessExec()

	m := apply("curl", mask(include, "process.binary", "process.ns.uts.inum", "parent.pid"))
	want := &tg.ProcessExec{Process: &tg.Process{Binary: whole.GetProcess().GetBinary(), Ns: &tg.Namespaces{Uts: &tg.Namespace{Inum: initUTS}}},
		Parent: &tg.Process{Pid: whole.GetParent().GetPid()}}
	if !proto.Equal(m.GetProcessExec(), want) || m.GetTime() == nil || m.GetNodeName() != "node1" {
		t.Errorf("include: %v", m)
	}
	m = apply("curl", mask(exclude, "parent", "process.cap"))
	if p := m.GetProcessExec(); p.GetParent() != nil || p.GetProcess().GetCap() != nil || p.GetProcess().GetBinary() == "" {
		t.Errorf("exclude: %v", m)
	}
	m = apply("curl", mask(include, "process"), mask(exclude, "process.arguments"))
	if p := m.GetProcessExec(); p.GetParent() != nil || p.GetProcess().GetArguments() != "" || p.GetProcess().GetBinary() == "" {
		t.Errorf("exclude wins over include: %v", m)
	}
	if p := apply("curl", mask(include, "process.binary", "process", "process.pid")).GetProcessExec(); p.GetProcess().GetCwd() != "/" {
		t.Errorf("a part of what is included whole: %v", p)
	}
	if p := apply("curl", mask(include, "process.parentExecId")).GetProcessExec(); p.GetProcess().GetParentExecId() == "" {
		t.Errorf("a name as in JSON: %v", p)
	}
	if !proto.Equal(apply("curl", mask(include), mask(exclude)).GetProcessExec(), whole) {
		t.Error("filters without fields change something")
	}

	exits := []tg.EventType{tg.EventType_PROCESS_EXIT}
	only := mask(include, "process.pid")
	only.EventSet = exits
	if p := apply("curl", only).GetProcessExec(); p.GetProcess().GetBinary() == "" {
		t.Errorf("event_set: an exec was changed: %v", p)
	}
	if p := apply("exit", only).GetProcessExit(); p.GetProcess().GetBinary() != "" || p.GetProcess().GetPid() == nil {
		t.Errorf("event_set: an exit was not: %v", p)
	}
	only.InvertEventSet = wrapperspb.Bool(true)
	if p := apply("exit", only).GetProcessExit(); p.GetProcess().GetBinary() == "" {
		t.Errorf("invert_event_set: an exit was changed: %v", p)
	}
	if p := apply("curl", only).GetProcessExec(); p.GetProcess().GetBinary() != "" {
		t.Errorf("invert_event_set: an exec was not: %v", p)
	}
	if p := apply("curl", mask(include, "ancestors.binary")).GetProcessExec(); len(p.GetAncestors()) != 1 || p.GetAncestors()[0].GetBinary() != "/usr/bin/bash" || p.GetAncestors()[0].GetPid() != nil {
		t.Errorf("fields of each of a list: %v", p)
	}
	if len(whole.GetAncestors()) != 0 {
		t.Error("ancestors were not asked for")
	}
}

// A filter needs the fields that a field filter takes away.
func TestFiltersSeeTheWholeEvent(t *testing.T) {
	s := newScene()
	q := &tg.GetEventsRequest{AllowList: []*tg.Filter{{BinaryRegex: []string{"curl"}}}, FieldFilters: []*tg.FieldFilter{
		{Action: tg.FieldFilterAction_EXCLUDE, Fields: &fieldmaskpb.FieldMask{Paths: []string{"process.binary"}}}}}
	w, err := compileRequest(q, s.backend)
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{wish: w, convert: newConverter(s.backend)}
	if m := st.answer(s.events["curl"]); m == nil || m.GetProcessExec().GetProcess().GetBinary() != "" || m.GetProcessExec().GetProcess().GetPid() == nil {
		t.Errorf("got %v", m)
	}
}

// Nothing of today's types is aggregated; what the options choose is the queue.
func TestAggregationOptions(t *testing.T) {
	for size, want := range map[uint64]int{0: 0, 100: 100, 1 << 40: maxQueue} {
		w, err := compileRequest(&tg.GetEventsRequest{AggregationOptions: &tg.AggregationOptions{ChannelBufferSize: size}}, newBackend())
		if err != nil || w.queue != want {
			t.Errorf("buffer %d: %v, %v", size, w, err)
		}
	}
}

func TestWhoIsToldOfLosses(t *testing.T) {
	e := &model.Event{Type: model.TypeLoss, Loss: &model.Loss{Stage: "kernel", Reason: "ring full", Count: 7}}
	set := func(types ...tg.EventType) []*tg.Filter { return []*tg.Filter{{EventSet: types}} }
	throttle := &tg.GetEventsResponse_ProcessThrottle{ProcessThrottle: &tg.ProcessThrottle{Cgroup: "vigie lost 7 events (kernel: ring full)"}}
	for name, c := range map[string]struct {
		q    *tg.GetEventsRequest
		want *tg.GetEventsResponse
	}{
		"everybody":               {&tg.GetEventsRequest{}, &tg.GetEventsResponse{Event: throttle}},
		"whatever is filtered":    {&tg.GetEventsRequest{AllowList: []*tg.Filter{{Pid: []uint32{1}, EventSet: []tg.EventType{tg.EventType_PROCESS_EXEC}}}}, &tg.GetEventsResponse{Event: throttle}},
		"who asks for the type":   {&tg.GetEventsRequest{AllowList: set(tg.EventType_PROCESS_EXEC, tg.EventType_RATE_LIMIT_INFO)}, &tg.GetEventsResponse{Event: &tg.GetEventsResponse_RateLimitInfo{RateLimitInfo: &tg.RateLimitInfo{NumberOfDroppedProcessEvents: 7}}}},
		"not who denies the type": {&tg.GetEventsRequest{DenyList: set(tg.EventType_PROCESS_THROTTLE)}, nil},
	} {
		w, err := compileRequest(c.q, newBackend())
		if err != nil {
			t.Fatal(err)
		}
		got := w.loss(e, "node1")
		if w.wants(e) != (c.want != nil) {
			t.Errorf("%s: wanted %v", name, w.wants(e))
		}
		if got != nil {
			got.NodeName, got.Time = "", nil
		}
		if !proto.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
