// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// podAgent knows one pod, and what it did.
type podAgent struct {
	fakeAgent
	pods   []*model.Pod
	did    []*model.Event
	filter *vigiev1.Filter
}

func (a *podAgent) ListPods(_ context.Context, r *connect.Request[vigiev1.ListPodsRequest]) (*connect.Response[vigiev1.ListPodsResponse], error) {
	m := &vigiev1.ListPodsResponse{}
	for _, p := range a.pods {
		if r.Msg.GetName() == "" || r.Msg.GetName() == p.Name {
			m.Pods = append(m.Pods, wire.PodToProto(p))
		}
	}
	return connect.NewResponse(m), nil
}

func (a *podAgent) QueryEvents(_ context.Context, r *connect.Request[vigiev1.QueryEventsRequest]) (*connect.Response[vigiev1.QueryEventsResponse], error) {
	a.filter = r.Msg.GetFilter()
	m := &vigiev1.QueryEventsResponse{}
	for _, e := range a.did {
		m.Events = append(m.Events, wire.ToProto(e, testBoot))
	}
	return connect.NewResponse(m), nil
}

func jobPod() (*model.Pod, []*model.Event) {
	began := time.Unix(1_800_000_000, 0)
	p := &model.Pod{UID: "u1", Namespace: "shop", Name: "import-1", Controller: model.Controller{Kind: "CronJob", Name: "import"}, Node: "here", Created: began,
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, ServiceAccount: "importer", Labels: map[string]string{"b": "2", "a": "1"},
		Containers: []model.PodContainer{{Name: "wait", Role: model.InitContainer}, {Name: "import", Role: model.AppContainer}, {Name: "proxy", Role: model.AppContainer}}}
	event := func(second int, container string, pid uint32, change func(*model.Event)) *model.Event {
		w := &model.Workload{Kind: model.WorkloadPod, Namespace: "shop", Name: "import-1", PodUID: "u1", Container: container, ID: "id-" + container, Controller: p.Controller}
		key := model.ProcessKey{PID: pid}
		ev := &model.Event{Type: model.TypeExec, Time: began.Add(time.Duration(second) * time.Second), Key: key,
			Process: &model.Process{Key: key, ExecID: key.ExecID(testBoot), Binary: "/" + container, Workload: w}, Exec: &model.Exec{}}
		if change != nil {
			ev.Exec = nil
			change(ev)
		}
		return ev
	}
	return p, []*model.Event{event(1, "import", 10, nil), event(1, "proxy", 11, nil),
		event(5, "import", 10, func(ev *model.Event) { ev.Type, ev.Exit = model.TypeExit, &model.Exit{} }),
		event(90, "proxy", 11, func(ev *model.Event) { ev.Type, ev.Exit = model.TypeExit, &model.Exit{Signal: 9} })}
}

func TestPods(t *testing.T) {
	p, _ := jobPod()
	a := &podAgent{pods: []*model.Pod{p}}
	socket := serveHandler(t, a)
	code, out, stderr := vigie(t, "pods", "--socket", socket, "-o", "wide")
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{"shop", "import-1", "cronjob/import", "10.1.0.2", "wait(init),import,proxy", "importer", "a=1,b=2"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if code, out, stderr = vigie(t, "pods", "--socket", socket, "-o", "json"); code != 0 || !strings.Contains(out, `"service_account":"importer"`) {
		t.Errorf("%s: %s", stderr, out)
	}
}

func TestLifecycle(t *testing.T) {
	p, events := jobPod()
	a := &podAgent{pods: []*model.Pod{p}, did: events}
	socket := serveHandler(t, a)
	code, out, stderr := vigie(t, "lifecycle", "--socket", socket, "shop/import-1")
	if code != 1 {
		t.Errorf("with a problem the exit code is %d: %s", code, stderr)
	}
	for _, want := range []string{"shop/import-1 of cronjob/import", "not seen", "exit 0", "signal 9", "sidecar-outlives-job", "1m25s after import of the job ended"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if got := a.filter.GetWhere(); got != `process.workload.pod_uid == "u1"` {
		t.Errorf("asked for %s", got)
	}
	// Gone from the API, not from the events.
	a.pods = nil
	if _, out, _ = vigie(t, "lifecycle", "--socket", socket, "-o", "json", "shop/import-1"); !strings.Contains(out, `"kind":"sidecar-outlives-job"`) {
		t.Errorf("gone: %s", out)
	}
	if got := a.filter.GetWhere(); !strings.Contains(got, `process.workload.namespace == "shop"`) {
		t.Errorf("asked for %s", got)
	}
	a.did = nil
	if code, _, stderr = vigie(t, "lifecycle", "--socket", socket, "other"); code != 2 || !strings.Contains(stderr, "no pod other is known") {
		t.Errorf("unknown: %d, %s", code, stderr)
	}
	a.pods = []*model.Pod{p, p}
	if code, _, stderr = vigie(t, "lifecycle", "--socket", socket, "import-1"); code != 2 || !strings.Contains(stderr, "there are 2 pods") {
		t.Errorf("two: %d, %s", code, stderr)
	}
}
