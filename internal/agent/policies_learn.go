// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/server"
)

// LearnedSections are the sections that a learned policy can have.
func LearnedSections() []string {
	return []string{"processes", "files", "network.egress", "network.ingress", "network.listen", "capabilities", "operations"}
}

// SectionPolicy is the least policy that has a section and acts: whether it could be in force tells whether what is
// learned for the section can be.
func SectionPolicy(section string) string {
	if section == "operations" {
		return actingPolicy("operations: {deny: [ptrace, bpf, mount, module]}")
	}
	path := strings.Split(section, ".")
	return actingPolicy(strings.Join(path, ": {") + ": {allow: []}" + strings.Repeat("}", len(path)-1))
}

// heartPolicy is SectionPolicy for what most of a section is about: that programs do not run, be it because they are
// killed; that files are not read and written. Empty for sections that are one thing.
func heartPolicy(section string) string {
	switch section {
	case "processes":
		return actingPolicy("onDenied: kill, processes: {allow: []}")
	case "files":
		return actingPolicy("files: {deny: [{path: /none, access: [read, write]}]}")
	}
	return ""
}

func actingPolicy(spec string) string {
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: section}\nspec: {selector: {unit: none.service}, mode: enforce, %s}\n",
		policy.APIVersion, policy.Kind, spec)
}

// SectionsHere is which of policies' sections are not worth learning here, and which have to accept to be carried by less
// than they ask for, with the reasons: those that refused says cannot be in force. Where none can be, the agent cannot
// enforce at all, and says nothing about sections.
func SectionsHere(refused func(section, yaml string) error) (without, weaker map[string]string) {
	without, weaker = make(map[string]string), make(map[string]string)
	for _, section := range LearnedSections() {
		err := refused(section, SectionPolicy(section))
		if err == nil {
			continue
		}
		_, reason, found := strings.Cut(err.Error(), "policy section: ")
		if !found {
			reason = err.Error()
		}
		if heart := heartPolicy(section); heart != "" && refused(section, heart) == nil {
			weaker[section] = reason
		} else {
			without[section] = reason
		}
	}
	if len(without) == len(LearnedSections()) {
		return nil, nil
	}
	return without, weaker
}

// LearnPolicy implements server.Backend.
func (a *Agent) LearnPolicy(ctx context.Context, q server.LearnQuery) (server.LearnedPolicy, error) {
	without, weaker := a.sectionsHere()
	h := a.past(ctx, q.Since, time.Time{})
	var lost uint64
	learned, err := policy.Learn(func(yield func(*model.Event) bool) {
		for ev := range h.events {
			if ev.Loss != nil {
				lost += ev.Loss.Count
			}
			if !yield(ev) {
				return
			}
		}
	}, policy.LearnOptions{Workload: q.Workload, Name: q.Name, Image: h.image, LeaveOut: without, Weaker: weaker})
	switch {
	case h.err != nil:
		return server.LearnedPolicy{}, h.err
	case errors.Is(err, policy.ErrNothingLearned):
		return server.LearnedPolicy{}, server.Refuse(server.NotFound, fmt.Errorf("%w; `vigie ps` shows the names of workloads", err))
	case err != nil:
		return server.LearnedPolicy{}, server.Refuse(server.Invalid, err)
	}
	out := server.LearnedPolicy{YAML: learned.YAML, Events: learned.Events, Notes: learned.Notes}
	if h.completeSince.After(q.Since) {
		out.Notes = append(out.Notes, fmt.Sprintf("the agent remembers everything only since %s: what the workload did before is not in the policy; "+
			"`--for` learns from all that happens from now on", h.completeSince.Local().Format(time.DateTime)))
	}
	if lost > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d events were lost meanwhile: what they would have told is not in the policy", lost))
	}
	return out, nil
}

// sectionsHere asks the enforcer.
func (a *Agent) sectionsHere() (without, weaker map[string]string) {
	i := slices.IndexFunc(a.policies.Kinds, func(k policyKind) bool { return slices.Contains(k.Kinds(), policy.Kind) })
	return SectionsHere(func(section, yaml string) error {
		docs, err := Documents(section, yaml)
		if err != nil {
			return err
		}
		p, err := a.policies.Kinds[i].Parse(&docs[0])
		if err != nil {
			return err
		}
		return a.policies.Kinds[i].Check(p)
	})
}
