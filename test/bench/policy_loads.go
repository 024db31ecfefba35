// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
)

// Loads under policies, as the samples name them.
const (
	loadOpen     = "policy open"
	loadConnect  = "policy connect"
	loadDatagram = "policy datagram"
	loadAsked    = "rung open"
	loadRefused  = "rung denied"
	loadWake     = "rung floor"
	loadExec     = "others exec"
	loadOthers   = "others connect"
)

// policySizes compares what opens and connects cost under policies of few and of many rules, and under none.
func (b *bench) policySizes(ctx context.Context) error {
	f, err := b.makeDenied(manyRules)
	if err != nil {
		return err
	}
	defer f.remove()
	loads := []policyLoad{
		{name: loadOpen, job: job{kind: "timed open", target: f.open}},
		{name: loadConnect, job: job{kind: "timed connect"}},
		{name: loadDatagram, job: job{kind: "timed datagram"}},
	}
	both := []string{"open", "connect"}
	// One that allows, for the network alone: a list of files that may be opened asks about every file system there is.
	allow := ruleSet{Name: "bench", Binary: b.worker, Allowed: append(deniedNetworks(manyRules-1), "127.0.0.1")}
	return b.comparePolicies(ctx, f, []policyArm{
		{name: noPolicy, loads: loads},
		{name: fewArm, policies: []ruleSet{b.policyOf(fewRules, f)}, loads: loads, denies: both},
		{name: manyArm, policies: []ruleSet{b.policyOf(manyRules, f)}, loads: loads, denies: both, profiled: true},
		{name: allowArm, policies: []ruleSet{allow}, loads: loads[1:], denies: []string{"connect"}},
	})
}

// lowestRung compares opens that the agent is asked about, whatever better this kernel has, with opens that nobody is.
func (b *bench) lowestRung(ctx context.Context) error {
	f, err := b.makeDenied(fewRules)
	if err != nil {
		return err
	}
	defer f.remove()
	p := ruleSet{Name: "rung", Binary: b.worker, Files: f.denied}
	open := policyLoad{name: loadAsked, job: job{kind: "timed open", target: f.open}}
	return b.comparePolicies(ctx, f, []policyArm{
		{name: noPolicy, loads: []policyLoad{open, {name: loadWake, job: job{kind: "timed wake"}}}},
		{name: rungArm, policies: []ruleSet{p}, flags: []string{"--enforce-backends", "fanotify"}, denies: []string{"open"},
			loads: []policyLoad{open, {name: loadRefused, job: job{kind: "timed denial", target: f.denied[0]}}}},
	})
}

// bystanders compares what processes under no policy pay for a policy about others.
func (b *bench) bystanders(ctx context.Context) error {
	f, err := b.makeDenied(manyRules)
	if err != nil {
		return err
	}
	defer f.remove()
	loads := []policyLoad{
		{name: loadExec, job: job{kind: "exec", target: b.exit}, workers: runtime.NumCPU()},
		{name: loadOthers, job: job{kind: "timed connect"}},
	}
	p := b.policyOf(manyRules, f)
	p.Name, p.Binary = "others", b.pause
	for i := range fewRules {
		p.Programs = append(p.Programs, fmt.Sprintf("%s/program-%d", f.dir, i))
	}
	return b.comparePolicies(ctx, f, []policyArm{
		{name: noPolicy, loads: loads},
		{name: strangeArm, policies: []ruleSet{p}, loads: loads, profiled: true},
	})
}
