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
	return []string{"processes", "files", "network.egress", "network.ingress", "network.listen", "capabilities"}
}

// SectionPolicy is the least policy that has a section and acts: whether it could be in force tells whether what is
// learned for the section can be.
func SectionPolicy(section string) string {
	path := strings.Split(section, ".")
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: section}\nspec: {selector: {unit: none.service}, mode: enforce, %s: {allow: []}%s}\n",
		policy.APIVersion, policy.Kind, strings.Join(path, ": {"), strings.Repeat("}", len(path)-1))
}

// WithoutSections is what of policies' sections is not worth learning here, with the reasons: those that refused says
// cannot be in force. Where none can be, the agent cannot enforce at all, and says nothing about sections.
func WithoutSections(refused func(section, yaml string) error) map[string]string {
	without := make(map[string]string)
	for _, section := range LearnedSections() {
		if err := refused(section, SectionPolicy(section)); err != nil {
			_, reason, found := strings.Cut(err.Error(), "policy section: ")
			if !found {
				reason = err.Error()
			}
			without[section] = reason
		}
	}
	if len(without) == len(LearnedSections()) {
		return nil
	}
	return without
}

// LearnPolicy implements server.Backend.
func (a *Agent) LearnPolicy(ctx context.Context, q server.LearnQuery) (server.LearnedPolicy, error) {
	h := a.history(ctx, q.Since, time.Time{})
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
	}, policy.LearnOptions{Workload: q.Workload, Name: q.Name, Image: a.table.ByExecID, LeaveOut: a.withoutSections()})
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

// withoutSections asks the enforcer.
func (a *Agent) withoutSections() map[string]string {
	i := slices.IndexFunc(a.policies.Kinds, func(k policyKind) bool { return slices.Contains(k.Kinds(), policy.Kind) })
	return WithoutSections(func(section, yaml string) error {
		p, err := a.policies.Kinds[i].Parse(section, []byte(yaml))
		if err != nil {
			return err
		}
		return a.policies.Kinds[i].Check(p)
	})
}
