// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// applied is from when policies are handed over until a worker that tries all the time meets them.
type applied struct {
	// First is the first policy after the agent's start: the kernel side is loaded.
	First takenEffect `json:"first"`
	// Later are changes of it, by the API, each to a policy of as many other rules.
	Later []takenEffect `json:"later"`
	// Files are the same by replacing a file of the policy directory.
	Files []takenEffect `json:"files"`
}

// takenEffect is one change of policies.
type takenEffect struct {
	Open    time.Duration `json:"open_ns"`    // until an open is denied, or allowed again
	Connect time.Duration `json:"connect_ns"` // until a connect is
	Answer  time.Duration `json:"answer_ns"`  // until the API has answered; 0 without
	CPU     time.Duration `json:"cpu_ns"`     // of the agent, from the call until the effect and the answer
}

// all is until all of it was in effect.
func (t takenEffect) all() time.Duration { return max(t.Open, t.Connect) }

// changesOfOneAgent is how often a policy is changed under each agent, by the API and by file.
const changesOfOneAgent = 10

// applies times policies from the call to the effect.
func (b *bench) applies(ctx context.Context) error {
	f, err := b.makeDenied(manyRules + 1)
	if err != nil {
		return err
	}
	defer f.remove()
	for i := range b.n {
		var x applied
		if err := b.withAgent(ctx, func(a *agent) error { return b.applyTo(ctx, a, f, &x) }, f.flags()...); err != nil {
			return err
		}
		b.results.Applied = append(b.results.Applied, x)
		b.say("  apply %d: first %+v, %d changes by the API, the last %+v, by file %+v", i+1, x.First, len(x.Later), x.Later[len(x.Later)-1], x.Files[len(x.Files)-1])
	}
	return nil
}

func (b *bench) applyTo(ctx context.Context, a *agent, f *files, x *applied) error {
	texts := b.alternating("bench", f)
	w, err := b.watch(ctx, f.denied[0], deniedHost)
	if err != nil {
		return err
	}
	defer w.end()
	api := func(i int) (takenEffect, error) {
		return takeEffect(a, w, i%2 == 0, func() error {
			_, err := a.client.ApplyPolicies(ctx, connect.NewRequest(&pb.ApplyPoliciesRequest{Yaml: texts[i%2], Source: "bench"}))
			return err
		})
	}
	if x.First, err = api(0); err != nil {
		return fmt.Errorf("the first policy: %w", err)
	}
	for i := range changesOfOneAgent {
		t, err := api(i + 1)
		if err != nil {
			return fmt.Errorf("change %d by the API: %w", i+1, err)
		}
		x.Later = append(x.Later, t)
	}
	if _, err := a.client.DeletePolicy(ctx, connect.NewRequest(&pb.DeletePolicyRequest{Name: "bench"})); err != nil {
		return fmt.Errorf("delete a policy: %w", err)
	}
	if _, err := w.await(false, "open", "connect"); err != nil {
		return err
	}
	texts = b.alternating("file", f)
	for i := range changesOfOneAgent + 1 {
		t, err := takeEffect(a, w, i%2 == 0, func() error { return replaceFile(a.policyDir, texts[i%2]) })
		if err != nil {
			return fmt.Errorf("change %d by file: %w", i+1, err)
		}
		t.Answer = 0
		if i > 0 { // the folder itself was new to the agent
			x.Files = append(x.Files, t)
		}
	}
	return nil
}

// alternating are two policies of as many rules: the first denies what the watcher tries, the second other things.
func (b *bench) alternating(name string, f *files) [2]string {
	denies, allows := b.policyOf(manyRules, f), b.policyOf(manyRules, f)
	denies.Name, allows.Name = name, name
	allows.Files = f.denied[1 : manyRules+1]
	allows.Networks = deniedNetworks(manyRules)
	return [2]string{denies.yaml(), allows.yaml()}
}

// betweenChanges is how long the agent is left alone before a change: what it does after the effect of the one before (it writes
// down what must survive a restart, and frees the old tables) is not a part of the next.
const betweenChanges = 200 * time.Millisecond

// takeEffect runs change and reads from the watcher when it was in effect.
func takeEffect(a *agent, w *watcher, denied bool, change func() error) (takenEffect, error) {
	time.Sleep(betweenChanges)
	before, err := a.cpu()
	if err != nil {
		return takenEffect{}, err
	}
	start := monotonic()
	if err := change(); err != nil {
		return takenEffect{}, fmt.Errorf("apply a policy: %w", err)
	}
	t := takenEffect{Answer: monotonic() - start}
	at, err := w.await(denied, "open", "connect")
	if err != nil {
		return t, err
	}
	t.Open, t.Connect = at["open"]-start, at["connect"]-start
	after, err := a.cpu()
	t.CPU = after - before
	return t, err
}

// replaceFile puts a policy into a folder in one step, as configuration management does.
func replaceFile(dir, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	next := filepath.Join(dir, ".next")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, "policy.yaml"))
}
