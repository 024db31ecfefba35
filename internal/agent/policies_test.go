// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/server"
)

// fakeKind takes policies of one kind that say no more than name and mode, and "refuse: true" for Check to refuse.
type fakeKind struct {
	name string

	mu      sync.Mutex
	fail    error // of the next Apply
	inForce []string
	applied int
}

type fakePolicy struct {
	name, mode string
	refuse     bool
}

func (p *fakePolicy) Name() string { return p.name }
func (p *fakePolicy) Mode() string { return p.mode }
func (p *fakePolicy) WithMode(mode string) (parsedPolicy, error) {
	return &fakePolicy{name: p.name, mode: mode}, nil
}

func (k *fakeKind) Kinds() []string { return []string{k.name} }

func (k *fakeKind) Parse(d *Document) (parsedPolicy, error) {
	var doc struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Mode             string
		Refuse           bool
	}
	var node yaml.Node
	if err := yaml.Unmarshal(d.Padded(), &node); err != nil {
		return nil, err
	}
	if err := node.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s:%d:%d: %w", d.Source, node.Content[0].Line, node.Content[0].Column, err)
	}
	if doc.Mode == "" {
		doc.Mode = "audit"
	}
	if doc.Mode == "bad" {
		return nil, fmt.Errorf("%s:%d:1: mode: is bad", d.Source, node.Content[0].Line)
	}
	return &fakePolicy{name: doc.Metadata.Name, mode: doc.Mode, refuse: doc.Refuse}, nil
}

func (k *fakeKind) Check(p parsedPolicy) error {
	if p.(*fakePolicy).refuse {
		return errors.New("files.deny[0] would only be seen: say weaker: accept")
	}
	return nil
}

func (k *fakeKind) Apply(_ context.Context, list []parsedPolicy) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fail; err != nil {
		k.fail = nil
		return err
	}
	k.applied++
	k.inForce = nil
	for _, p := range list {
		k.inForce = append(k.inForce, p.Name()+" "+p.Mode())
	}
	return nil
}

func (k *fakeKind) Describer() func(parsedPolicy, *server.Policy) {
	return func(_ parsedPolicy, d *server.Policy) { d.Selector = "every process" }
}

func (k *fakeKind) has() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.inForce, ", ")
}

// storeTest is a store over two fake kinds.
type storeTest struct {
	*policyStore
	t        *testing.T
	one, two *fakeKind
	log      *strings.Builder
}

func newStoreTest(t *testing.T) *storeTest {
	dir := t.TempDir()
	return (&storeTest{t: t, policyStore: &policyStore{policyOptions: policyOptions{Dir: filepath.Join(dir, "etc", "policies"), State: filepath.Join(dir, "state")}}}).restart()
}

// restart is the store of the next agent.
func (s *storeTest) restart() *storeTest {
	next := &storeTest{t: s.t, one: &fakeKind{name: "One"}, two: &fakeKind{name: "Two"}, log: new(strings.Builder)}
	now := time.Unix(1_700_000_000, 0)
	next.policyStore = newPolicyStore(policyOptions{Dir: s.Dir, State: s.State, Kinds: []policyKind{next.one, next.two},
		Log: slog.New(slog.NewTextHandler(next.log, nil)), Clock: func() time.Time { now = now.Add(time.Second); return now }})
	next.start(s.t.Context())
	return next
}

func (s *storeTest) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *storeTest) applyText(text string) error {
	_, err := s.apply(s.t.Context(), server.PolicyText{Source: "request", YAML: text})
	return err
}

// want compares what the kinds carry.
func (s *storeTest) want(one, two string) {
	s.t.Helper()
	if s.one.has() != one || s.two.has() != two {
		s.t.Errorf("in force: %q and %q, want %q and %q", s.one.has(), s.two.has(), one, two)
	}
}

func (s *storeTest) wantRefused(err error, kind server.Refusal, says ...string) {
	s.t.Helper()
	var r *server.RefusedError
	if !errors.As(err, &r) || r.Kind != kind {
		s.t.Errorf("refused with %v, want kind %d", err, kind)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			s.t.Errorf("%q does not say %q", err, text)
		}
	}
}

func (s *storeTest) policy(name string) server.Policy {
	s.t.Helper()
	list := s.policies()
	i := slices.IndexFunc(list, func(p server.Policy) bool { return p.Name == name })
	if i < 0 {
		s.t.Fatalf("policy %s is not listed: %+v", name, list)
	}
	return list[i]
}

func one(name, more string) string {
	return "kind: One\nmetadata: {name: " + name + "}\n" + more + "\n"
}
func two(name, more string) string {
	return "kind: Two\nmetadata: {name: " + name + "}\n" + more + "\n"
}

func TestAppliedPoliciesSurviveARestart(t *testing.T) {
	s := newStoreTest(t)
	if err := s.applyText(one("a", "mode: enforce") + "---\n" + two("b", "")); err != nil {
		t.Fatal(err)
	}
	s.want("a enforce", "b audit")
	if _, err := s.setMode(t.Context(), "a", "audit"); err != nil {
		t.Fatal(err)
	}
	before := s.policy("a").Applied
	s = s.restart()
	s.want("a audit", "b audit")
	p := s.policy("a")
	if !p.Applied.Equal(before) || p.Source != "api" || p.Kind != "One" || !strings.Contains(p.Message, "switched to audit by the API") {
		t.Errorf("%+v", p)
	}
	// What is said now is newer than a mode that was set.
	if err := s.applyText(one("a", "mode: enforce")); err != nil {
		t.Fatal(err)
	}
	s.want("a enforce", "b audit")
	if err := s.delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	s = s.restart()
	s.want("a enforce", "")
	s.wantRefused(s.delete(t.Context(), "b"), server.NotFound, `"b"`, "vigie policy list")
	_, err := s.setMode(t.Context(), "a", "loud")
	s.wantRefused(err, server.Invalid, "audit and enforce")
	_, err = s.setMode(t.Context(), "zebra", "audit")
	s.wantRefused(err, server.NotFound, "zebra")
}

func TestAChangeIsAllOrNothing(t *testing.T) {
	s := newStoreTest(t)
	if err := s.applyText(one("a", "") + "---\n" + two("b", "")); err != nil {
		t.Fatal(err)
	}
	good := one("c", "") + "---\n"
	for name, c := range map[string]struct {
		text string
		kind server.Refusal
		says []string
	}{
		"no YAML":       {good + "kind: [One\n", server.Invalid, []string{"request:5:", "not YAML"}},
		"no kind":       {good + "metadata: {name: x}\n", server.Invalid, []string{"request:5:1: kind: is missing"}},
		"unknown kind":  {good + "\nkind: Three\nmetadata: {name: x}\n", server.Invalid, []string{"request:6:7: kind: there is no kind of policy \"Three\"", "One, Two"}},
		"bad policy":    {good + one("x", "mode: bad"), server.Invalid, []string{"request:5:1: mode: is bad"}},
		"every problem": {one("x", "mode: bad") + "---\n" + one("y", "mode: bad"), server.Invalid, []string{"request:1:1: mode", "request:5:1: mode"}},
		"same name":     {good + two("c", ""), server.Invalid, []string{"request:6:18: policy c is also at request:2:18"}},
		"refused":       {good + two("x", "refuse: true"), server.Precondition, []string{"request:6:18: policy x: files.deny[0]", "weaker: accept"}},
		"nothing":       {"# nothing\n---\n", server.Invalid, []string{"there is no policy in it"}},
		"no mapping":    {"- a\n", server.Invalid, []string{"request:1:1: want a policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.wantRefused(s.applyText(c.text), c.kind, c.says...)
			s.want("a audit", "b audit")
		})
	}
	s.t = t
	// The second kind fails when the first has changed already.
	s.two.fail = errors.New("the map is full")
	err := s.applyText(one("c", "") + "---\n" + two("d", ""))
	if err == nil || !strings.Contains(err.Error(), "the map is full; what was in force before still is") {
		t.Errorf("error %v", err)
	}
	s.want("a audit", "b audit")
	// What was not brought in force is not there after a restart either.
	s = s.restart()
	s.want("a audit", "b audit")
}

func TestADryRunChangesNothing(t *testing.T) {
	s := newStoreTest(t)
	list, err := s.apply(t.Context(), server.PolicyText{Source: "f", YAML: one("a", "mode: enforce"), DryRun: true})
	if err != nil || len(list) != 1 || list[0].Name != "a" || list[0].Mode != "enforce" {
		t.Errorf("%+v, %v", list, err)
	}
	s.want("", "")
	_, err = s.apply(t.Context(), server.PolicyText{Source: "f", YAML: one("a", "refuse: true"), DryRun: true})
	s.wantRefused(err, server.Precondition, "f:2:18")
	if got := s.policies(); len(got) != 0 {
		t.Errorf("listed: %+v", got)
	}
}

func TestWhatCannotBeWrittenDownIsNotInForce(t *testing.T) {
	s := newStoreTest(t)
	if err := os.WriteFile(s.State, nil, 0o600); err != nil { // a file where the directory would be
		t.Fatal(err)
	}
	if err := s.applyText(one("a", "")); err == nil || !strings.Contains(err.Error(), "save policies") {
		t.Errorf("error %v", err)
	}
	s.want("", "")
}

func TestTestsMayStandBesideTheirPolicies(t *testing.T) {
	s := newStoreTest(t)
	if err := s.applyText("kind: PolicyTest\ncases: []\n---\n" + one("a", "")); err != nil {
		t.Fatal(err)
	}
	s.want("a audit", "")
}

func TestUntilItHasStartedNothingChanges(t *testing.T) {
	s := newPolicyStore(policyOptions{Dir: t.TempDir(), State: t.TempDir(), Log: slog.New(slog.DiscardHandler), Clock: time.Now})
	st := &storeTest{t: t, policyStore: s}
	st.wantRefused(st.applyText("x: y"), server.NotReady, "starting")
	st.wantRefused(s.delete(t.Context(), "x"), server.NotReady)
	_, err := s.setMode(t.Context(), "x", "audit")
	st.wantRefused(err, server.NotReady)
}

func TestWhatWasAppliedAndCannotBeAnyMoreIsTold(t *testing.T) {
	s := newStoreTest(t)
	if err := s.applyText(one("a", "") + "---\n" + one("b", "") + "---\n" + one("c", "")); err != nil {
		t.Fatal(err)
	}
	// The next agent is stricter about b, and c's name is a file's now.
	path := filepath.Join(s.State, savedName)
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(saved), `{name: b}\n`, `{name: b}\nrefuse: true\n`, 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("c.yaml", two("c", ""))
	for range 2 { // and is not lost on the way
		s = s.restart()
		s.want("a audit", "c audit")
		if p := s.policy("b"); p.State != server.PolicyFailed || !strings.Contains(p.Message, "weaker: accept") {
			t.Errorf("%+v", p)
		}
		if got := strings.Join(s.trouble.problems(), "\n"); !strings.Contains(got, "policy b is not in force") || !strings.Contains(got, "policy c is not in force") {
			t.Errorf("problems: %s", got)
		}
	}
	if err := s.delete(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	s.want("a audit", "c audit")
	if err := s.applyText(one("b", "")); err != nil {
		t.Fatal(err)
	}
	if got := s.trouble.problems(); len(got) != 0 {
		t.Errorf("problems: %s", got)
	}
	s = s.restart()
	s.want("a audit, b audit", "c audit")
}

func TestSavedPoliciesThatCannotBeReadAreKept(t *testing.T) {
	s := newStoreTest(t)
	if err := s.applyText(one("a", "")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.State, savedName)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = s.restart()
	s.want("", "")
	if got := s.trouble.problems(); len(got) != 1 || !strings.Contains(got[0], path) || !strings.Contains(got[0], "apply them anew") {
		t.Errorf("problems: %q", got)
	}
	if b, err := os.ReadFile(path + ".unreadable"); err != nil || string(b) != "{" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestChangesFromManySidesAtOnce(t *testing.T) {
	s := newStoreTest(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("p%d", i)
			for range 5 {
				if err := s.applyText(one(name, "")); err != nil {
					t.Error(err)
				}
				if _, err := s.setMode(t.Context(), name, "enforce"); err != nil {
					t.Error(err)
				}
				s.policies()
				if i%2 == 0 {
					if err := s.delete(t.Context(), name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	s.want("p1 enforce, p3 enforce, p5 enforce, p7 enforce", "")
}

func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{webYAML + "---\n" + webYAML, "--- {kind: One}\n...\n# x\n---\nkind: [", "%YAML 1.2\n---\na: &a b\n", "\ufeffkind: x\r\n---\r\nkind: y\r\n", "- a", "?", "kind: |\n  x\n --- y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := Documents("f", text)
		lines := strings.Count(text, "\n") + 1
		for i := range docs {
			if docs[i].Line < 1 || docs[i].Line > lines || i > 0 && docs[i].Line <= docs[i-1].Line {
				t.Errorf("document %d begins in line %d of %d", i, docs[i].Line, lines)
			}
			if err == nil && (docs[i].Kind == "" || docs[i].NameAt == "") {
				t.Errorf("nothing is known of document %d: %+v", i, docs[i])
			}
		}
	})
}
