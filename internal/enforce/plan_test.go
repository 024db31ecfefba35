// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
)

// fakeBackend carries what it is told to.
type fakeBackend struct {
	name    string
	carries map[model.Operation]Carried
}

func (b fakeBackend) Name() string { return b.name }

func (b fakeBackend) Carries(op model.Operation) (Carried, error) {
	if c, ok := b.carries[op]; ok {
		return c, nil
	}
	return Carried{}, errors.New("it cannot")
}

func (fakeBackend) Attach(context.Context, Kernel, []model.Operation) error { return nil }
func (fakeBackend) Load(context.Context, []Loaded) error                    { return nil }
func (fakeBackend) Close() error                                            { return nil }

func table(t *testing.T, spec string) *policy.Table {
	t.Helper()
	policies, err := policy.Parse("test", []byte("apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: p}\nspec:\n  selector: {unit: x.service}\n"+spec))
	if err != nil {
		t.Fatal(err)
	}
	out, err := policy.Compile(policies[0], policy.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newTestEnforcer(backends ...Backend) *Enforcer {
	return New(Options{Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Backends: backends,
		Clock: func() (uint64, error) { return 1, nil }})
}

func TestPlanTakesTheStrongest(t *testing.T) {
	weak := fakeBackend{"weak", map[model.Operation]Carried{model.OpExec: {Rung: "weak exec", Guarantee: model.KilledBefore}}}
	strong := fakeBackend{"strong", map[model.Operation]Carried{model.OpExec: {Rung: "strong exec", Guarantee: model.DeniedBefore}}}
	got, err := newTestEnforcer(weak, strong).Plan(table(t, "  mode: enforce\n  processes: {deny: [/bin/sh], allow: [\"/**\"]}"))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range got {
		switch {
		case i == 0:
		case c.Rung != "" && (c.Rung != "strong exec" || c.Guarantee != model.DeniedBefore):
			t.Errorf("rule %d is carried by %+v", i, c)
		}
	}
	if got[1].Rung != "strong exec" {
		t.Errorf("the first rule is carried by %+v", got[1])
	}
}

// Rules that are alike have one answer, and those that ask for more or for other operations one of their own.
func TestPlansAreShared(t *testing.T) {
	b := fakeBackend{"b", map[model.Operation]Carried{model.OpExec: {Rung: "exec", Guarantee: model.DeniedBefore},
		model.OpRead: {Rung: "open", Guarantee: model.DeniedBefore}}}
	e := newTestEnforcer(b)
	plan := func(spec string) []*Carried {
		t.Helper()
		got, err := e.Plan(table(t, spec))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := plan("  mode: enforce\n  processes: {deny: [/bin/a]}")
	if second := plan("  mode: enforce\n  processes: {deny: [/bin/b]}"); &first[0] != &second[0] {
		t.Error("two plans of rules that are alike")
	}
	if got := plan("  mode: audit\n  processes: {deny: [/bin/b]}"); &got[0] == &first[0] {
		t.Error("a policy that only watches has the plan of one that acts")
	}
	if got := plan("  mode: enforce\n  files: {deny: [{path: /b, access: read}]}"); got[1].Rung != "open" {
		t.Errorf("reading is carried by %+v", got[1])
	}
}

func TestPlanRefusesWeaker(t *testing.T) {
	after := fakeBackend{"after", map[model.Operation]Carried{model.OpModify: {Rung: "SIGKILL after", Guarantee: model.KilledAfter}}}
	e := newTestEnforcer(after)
	_, err := e.Plan(table(t, "  mode: enforce\n  files: {deny: [{path: /etc/x, access: [modify]}]}"))
	var weaker *WeakerError
	if !errors.As(err, &weaker) {
		t.Fatalf("error is %v, want a WeakerError", err)
	}
	for _, want := range []string{"files.deny[0]", "denied before it happens", "killed after the fact", "SIGKILL after", "weaker: accept"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	for _, spec := range []string{
		"  mode: enforce\n  files: {deny: [{path: /etc/x, access: [modify], weaker: accept}]}",
		"  mode: enforce\n  weaker: accept\n  files: {deny: [{path: /etc/x, access: [modify]}]}",
		"  mode: audit\n  files: {deny: [{path: /etc/x, access: [modify]}]}",
	} {
		got, err := e.Plan(table(t, spec))
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		} else if got[1].Guarantee != model.KilledAfter {
			t.Errorf("%s: carried by %+v", spec, got[1])
		}
	}
}

func TestHooksAreNamedOnce(t *testing.T) {
	var got []string
	for _, rung := range []string{"lsm file_open", "lsm file_open, path_mknod", "lsm path_*", "lsm file_open", "lsm file"} {
		got = addRung(got, rung)
	}
	if want := "lsm file_open, path_mknod, lsm path_*, lsm file"; strings.Join(got, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(got, ", "), want)
	}
}

func TestPlanJoinsOperations(t *testing.T) {
	b := fakeBackend{"b", map[model.Operation]Carried{model.OpRead: {Rung: "open", Guarantee: model.DeniedBefore, Limits: []string{"x"}},
		model.OpWrite: {Rung: "open", Guarantee: model.DeniedBefore, Limits: []string{"x"}}, model.OpModify: {Rung: "after", Guarantee: model.KilledAfter}}}
	got, err := newTestEnforcer(b).Plan(table(t, "  mode: enforce\n  weaker: accept\n  files: {deny: [{path: /etc/x}]}"))
	if err != nil {
		t.Fatal(err)
	}
	if got[1].Rung != "open, after" || got[1].Guarantee != model.KilledAfter || len(got[1].Limits) != 1 {
		t.Errorf("carried by %+v", got[1])
	}
}

func TestPlanNamesWhatNothingCarries(t *testing.T) {
	_, err := newTestEnforcer(fakeBackend{name: "b"}).Plan(table(t, "  mode: enforce\n  operations: {deny: [mount]}"))
	if err == nil || !strings.Contains(err.Error(), "nothing here carries that") || !strings.Contains(err.Error(), "b: it cannot") {
		t.Errorf("error is %v", err)
	}
}

// More policies than there is room for are refused, with what to do.
func TestTooManyPolicies(t *testing.T) {
	made := func(n int, selector string) []*policy.Table {
		var out []*policy.Table
		for i := range n {
			one := table(t, "  processes: {deny: [/nowhere]}")
			one.Policy.Name = fmt.Sprintf("p%02d", i)
			one.Policy.Selector = policy.Selector{}
			if selector != "" {
				one.Policy.Selector.Unit = selector
			}
			out = append(out, one)
		}
		return out
	}
	in := func(tables []*policy.Table) map[string]*loaded {
		out := make(map[string]*loaded)
		for i, one := range tables {
			out[one.Policy.Name] = &loaded{policy: uint32(i + 1), Loaded: Loaded{Table: one}}
		}
		return out
	}
	e := newTestEnforcer()
	e.options.Cgroups = oneWorkload{}
	_, err := e.cgroupLists(in(made(subject.Slots+1, "x.service")))
	if err == nil || !strings.Contains(err.Error(), "workload x.service is selected by 9 policies (p00, p01,") || !strings.Contains(err.Error(), "join some") {
		t.Errorf("error is %v", err)
	}
	if lists, err := e.cgroupLists(in(made(subject.Slots, "x.service"))); err != nil || len(lists) != 1 {
		t.Errorf("as many as fit: %v, %v", lists, err)
	}
	_, err = e.cgroupLists(in(made(subject.Selectors+1, "")))
	if err == nil || !strings.Contains(err.Error(), "at most 64 can") {
		t.Errorf("error is %v", err)
	}
	e.options.MaxPolicies = 3
	if err := e.Apply(t.Context(), made(4, "")); err == nil || !strings.Contains(err.Error(), "4 policies are more than the 3") || !strings.Contains(err.Error(), "--max-policies") {
		t.Errorf("error is %v", err)
	}
}

// oneWorkload is a host with one.
type oneWorkload struct{}

func (oneWorkload) Each(fn func(uint32, uint64, *model.Workload)) {
	fn(0, 1, &model.Workload{Kind: model.WorkloadUnit, Name: "x.service"})
}

func TestSelectorIndex(t *testing.T) {
	var list []*loaded
	for i, s := range []policy.Selector{{Unit: "nginx.service"}, {Unit: "ngin?.service"}, {Container: "web"}, {MatchLabels: map[string]string{"app": "web", "tier": "front"}},
		{Unit: "nginx.service", MatchLabels: map[string]string{"app": "web"}}, {Container: "w*"}} {
		list = append(list, &loaded{policy: uint32(i + 1), Loaded: Loaded{Table: &policy.Table{Policy: &policy.Policy{Selector: s}}}})
	}
	index := indexSelectors(list)
	for _, w := range []*model.Workload{
		{Kind: model.WorkloadUnit, Name: "nginx.service", Cgroup: "/system.slice/nginx.service"},
		{Kind: model.WorkloadContainer, Name: "web", Labels: map[string]string{"app": "web", "tier": "front"}},
		{Kind: model.WorkloadPod, Name: "web-1", Container: "web", Labels: map[string]string{"app": "web"}},
		{Kind: model.WorkloadSession, Name: "session-3 (alice)", Cgroup: "/user.slice/session-3.scope"},
	} {
		var want []uint32
		for _, in := range list {
			if in.Table.Policy.Selector.SelectsWorkload(w) {
				want = append(want, in.policy)
			}
		}
		var got []uint32
		for _, in := range index.find(w) {
			got = append(got, in.policy)
		}
		if len(got) != len(want) {
			t.Errorf("%s: policies %v, want %v", w.Name, got, want)
		}
	}
}
