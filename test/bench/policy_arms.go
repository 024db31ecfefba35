// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// The arms of comparisons of policies; an agent runs in all of them.
const (
	noPolicy   = "no policy"
	fewArm     = "10 + 10 rules"
	manyArm    = "1,000 + 1,000 rules"
	allowArm   = "allow list of 1,000"
	rungArm    = "asked by fanotify"
	strangeArm = "policy about others"
)

// policyArm is an agent with policies, and what runs beside it.
type policyArm struct {
	name     string
	policies []ruleSet
	flags    []string // of the agent
	loads    []policyLoad
	// denies: what the policies deny of a worker, "open" and "connect"; before anything is measured it is seen denied.
	denies []string
	// profiled: it runs once more with the programs' time measured, which is no sample.
	profiled bool
}

// policyLoad is one thing that is measured in an arm.
type policyLoad struct {
	name    string
	job     job // its duration is the sample's
	workers int
}

// comparePolicies runs the arms in turn, b.n rounds of them.
func (b *bench) comparePolicies(ctx context.Context, f *files, arms []policyArm) error {
	for round, places := range measure.Order(b.n, len(arms), b.rng) {
		for place, i := range places {
			arm := &arms[i]
			samples, err := b.policySamples(ctx, f, arm)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, arm.name, err)
			}
			for _, s := range samples {
				s.Round, s.Place = round, place
				b.results.Policies = append(b.results.Policies, s)
				b.say("  %-18s round %d %-20s %v a call", s.Load, round+1, s.Arm, s.call())
			}
		}
	}
	for i := range arms {
		if !arms[i].profiled {
			continue
		}
		if err := b.profilePolicy(ctx, f, &arms[i]); err != nil {
			return fmt.Errorf("profile, %s: %w", arms[i].name, err)
		}
	}
	return nil
}

// call is the time of what the load is about: of the call alone where it was timed alone, else of a whole operation.
func (s *sample) call() time.Duration {
	if s.Calls != nil {
		return s.Calls.Median
	}
	return s.PerOp
}

// policySamples measures the loads of an arm, one after the other under one agent.
func (b *bench) policySamples(ctx context.Context, f *files, arm *policyArm) ([]sample, error) {
	var samples []sample
	err := b.underPolicies(ctx, f, arm, func(a *agent) error {
		for _, l := range arm.loads {
			// Caches and branch predictors see the load once before it counts.
			if _, err := b.runPolicyLoad(ctx, &l, warmUp); err != nil {
				return err
			}
			if err := a.caughtUp(); err != nil {
				return err
			}
			before, err := a.cpu()
			if err != nil {
				return err
			}
			s := sample{Load: l.name, Arm: arm.name}
			if s.done, err = b.runPolicyLoad(ctx, &l, b.sample); err != nil {
				return err
			}
			if err := a.caughtUp(); err != nil {
				return err
			}
			after, err := a.cpu()
			if err != nil {
				return err
			}
			s.PerOp, s.AgentCPU = s.Elapsed/time.Duration(s.Count), (after-before)/time.Duration(s.Count)
			samples = append(samples, s)
		}
		return nil
	})
	return samples, err
}

func (b *bench) runPolicyLoad(ctx context.Context, l *policyLoad, d time.Duration) (done, error) {
	j := l.job
	j.duration = d
	x, err := b.workers(ctx, j, max(l.workers, 1))
	if err == nil && x.Count == 0 {
		err = errors.New("the load did nothing in the time of a sample: make it longer with -sample")
	}
	if err != nil {
		return x, fmt.Errorf("%s: %w", l.name, err)
	}
	return x, nil
}

// profilePolicy runs an arm once under an agent whose programs the kernel measures.
func (b *bench) profilePolicy(ctx context.Context, f *files, arm *policyArm) error {
	stats, err := measure.TimePrograms()
	if err != nil {
		return err
	}
	defer stats.Close()
	return b.underPolicies(ctx, f, arm, func(a *agent) error {
		for _, l := range arm.loads {
			before, err := measure.ProgramsOf(a.pid)
			if err != nil {
				return err
			}
			d, err := b.runPolicyLoad(ctx, &l, b.sample)
			if err != nil {
				return err
			}
			after, err := measure.ProgramsOf(a.pid)
			if err != nil {
				return err
			}
			b.results.Programs = append(b.results.Programs, programTimes{Load: l.name + ", " + arm.name, Count: d.Count, Programs: measure.RanBetween(before, after)})
		}
		return nil
	})
}

// underPolicies starts an agent with the policies of an arm in its directory, sees them deny, and hands it to fn.
func (b *bench) underPolicies(ctx context.Context, f *files, arm *policyArm, fn func(*agent) error) error {
	dir, err := b.policyDir(arm.policies)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return b.withAgent(ctx, func(a *agent) error {
		for _, p := range arm.policies {
			status, err := a.inForce(ctx, p.Name)
			if err != nil {
				return err
			}
			b.results.noteRungs(status, arm.name)
		}
		if len(arm.denies) > 0 {
			w, err := b.watch(ctx, f.denied[0], deniedHost)
			if err != nil {
				return err
			}
			_, err = w.await(true, arm.denies...)
			w.end()
			if err != nil {
				return err
			}
		}
		return fn(a)
	}, slices.Concat(f.flags(), arm.flags, []string{"--policy-dir", dir})...)
}

// policyDir is a new folder with the policies in files of some hundred.
func (b *bench) policyDir(policies []ruleSet) (string, error) {
	dir, err := os.MkdirTemp(b.dir, "policies-")
	if err != nil {
		return "", fmt.Errorf("make a folder of policies: %w", err)
	}
	const inAFile = 500
	for i := 0; i < len(policies); i += inAFile {
		text := documents(policies[i:min(i+inAFile, len(policies))])
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("policies-%04d.yaml", i/inAFile)), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("write policies: %w", err)
		}
	}
	return dir, nil
}

// inForce waits until a policy is.
func (a *agent) inForce(ctx context.Context, name string) (*pb.Policy, error) {
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(5 * time.Millisecond) {
		answer, err := a.client.ListPolicies(ctx, connect.NewRequest(&pb.ListPoliciesRequest{Name: name}))
		if err != nil {
			return nil, fmt.Errorf("ask the agent for policy %s: %w", name, err)
		}
		for _, p := range answer.Msg.GetPolicies() {
			switch p.GetState() {
			case "in force", "degraded":
				return p, nil
			case "failed":
				return nil, fmt.Errorf("policy %s is not in force: %s", name, p.GetMessage())
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("policy %s is not in force within %v: %s", name, readyTimeout, a.lastError())
		}
	}
}

// lastError is the last line of the agent's log that tells an error, or else the last line.
func (a *agent) lastError() string {
	for _, line := range slices.Backward(strings.Split(a.log.String(), "\n")) {
		if strings.Contains(line, "level=ERROR") {
			return line[:min(len(line), 500)]
		}
	}
	return a.lastLog()
}

// noteRungs keeps what carries a policy's rules in an arm: "files.deny, ARM" → "fanotify OPEN_PERM (denied before it happens)".
func (r *results) noteRungs(p *pb.Policy, arm string) {
	if r.Rungs == nil {
		r.Rungs = make(map[string]string)
	}
	for _, rule := range p.GetRules() {
		section, _, _ := strings.Cut(strings.TrimPrefix(rule.GetField(), "spec."), "[")
		if rule.GetRung() != "" {
			r.Rungs[section+", "+arm] = fmt.Sprintf("%s (%s)", rule.GetRung(), rule.GetGuarantee())
		}
	}
}
