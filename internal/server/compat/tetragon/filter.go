// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"fmt"
	"regexp"
	"slices"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"github.com/cilium/tetragon/api/v1/tetragon/codegen/helpers"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// filter is one tetragon.Filter: all of its fields that are set must hold, and of each field one value.
type filter struct {
	conditions []condition
	types      []tg.EventType // event_set
	ancestors  bool           // a condition looks at them
}

type condition func(*subject) bool

// subject is an event as filters look at it. process, parent and pod may be nil: the getters of the generated types
// allow it.
type subject struct {
	event           *model.Event
	message         *tg.GetEventsResponse
	kind            tg.EventType
	process, parent *tg.Process
}

func subjectOf(e *model.Event, m *tg.GetEventsResponse) *subject {
	return &subject{event: e, message: m, kind: eventType(e), process: helpers.ResponseGetProcess(m), parent: helpers.ResponseGetParent(m)}
}

func (f *filter) holds(s *subject) bool {
	for _, c := range f.conditions {
		if !c(s) {
			return false
		}
	}
	return true
}

// builder collects the conditions of a filter, and the first error.
type builder struct {
	filter
	err error
}

func compileFilter(f *tg.Filter, backend server.Backend) (*filter, error) {
	b := &builder{}
	b.patterns("binary_regex", f.GetBinaryRegex(), one(func(s *subject) string { return s.process.GetBinary() }))
	b.patterns("parent_binary_regex", f.GetParentBinaryRegex(), ifParent(func(p *tg.Process) string { return p.GetBinary() }))
	b.patterns("arguments_regex", f.GetArgumentsRegex(), one(func(s *subject) string { return s.process.GetArguments() }))
	b.patterns("parent_arguments_regex", f.GetParentArgumentsRegex(), ifParent(func(p *tg.Process) string { return p.GetArguments() }))
	b.patterns("ancestor_binary_regex", f.GetAncestorBinaryRegex(), ancestorBinaries)
	b.ancestors = len(f.GetAncestorBinaryRegex()) > 0
	b.patterns("container_id", f.GetContainerId(), one(func(s *subject) string { return s.process.GetDocker() }))
	b.patterns("pod_regex", f.GetPodRegex(), ifPod(func(p *tg.Pod) string { return p.GetName() }))
	b.patterns("container_name_regex", f.GetContainerNameRegex(), ifPod(func(p *tg.Pod) string { return p.GetContainer().GetName() }))
	b.patterns("namespace_regex", f.GetNamespaceRegex(), ifPod(func(p *tg.Pod) string { return p.GetNamespace() }))

	b.among("namespace", len(f.GetNamespace()), func(s *subject) bool {
		return slices.Contains(f.GetNamespace(), s.process.GetPod().GetNamespace()) // empty: not in a pod
	})
	b.among("pid", len(f.GetPid()), func(s *subject) bool { return slices.Contains(f.GetPid(), s.process.GetPid().GetValue()) })
	b.among("pid_set", len(f.GetPidSet()), func(s *subject) bool {
		return slices.ContainsFunc(f.GetPidSet(), func(pid uint32) bool { return backend.Descends(s.event.Process, pid) })
	})
	b.among("event_set", len(f.GetEventSet()), func(s *subject) bool { return slices.Contains(f.GetEventSet(), s.kind) })
	b.types = f.GetEventSet()
	b.among("policy_names", len(f.GetPolicyNames()), func(s *subject) bool { return slices.Contains(f.GetPolicyNames(), policyName(s.message)) })
	if want := f.GetInInitTree(); want != nil {
		b.add(func(s *subject) bool { return s.process.GetInInitTree().GetValue() == want.GetValue() })
	}
	if want := f.GetHealthCheck(); want != nil {
		b.add(func(s *subject) bool { return (maybeProbe(s.process) || maybeProbe(s.parent)) == want.GetValue() })
	}
	b.labels(f.GetLabels())
	b.capabilities(f.GetCapabilities())
	b.expressions(f.GetCelExpression())
	if b.err != nil {
		return nil, b.err
	}
	return &b.filter, nil
}

func (b *builder) add(c condition) { b.conditions = append(b.conditions, c) }

// among adds a condition for a field with n values, if it has any.
func (b *builder) among(field string, n int, c condition) {
	if n > maxFilters && b.err == nil {
		b.err = fmt.Errorf("%s has %d values, at most %d are allowed", field, n, maxFilters)
	}
	if n > 0 {
		b.add(c)
	}
}

// patterns adds the condition that one of the texts of an event matches one of the regular expressions.
func (b *builder) patterns(field string, patterns []string, texts func(*subject) []string) {
	var compiled []*regexp.Regexp
	for i, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			if b.err == nil {
				b.err = fmt.Errorf("%s[%d]: %w", field, i, err)
			}
			return
		}
		compiled = append(compiled, re)
	}
	b.among(field, len(patterns), func(s *subject) bool {
		return slices.ContainsFunc(texts(s), func(text string) bool {
			return slices.ContainsFunc(compiled, func(re *regexp.Regexp) bool { return re.MatchString(text) })
		})
	})
}

func one(text func(*subject) string) func(*subject) []string {
	return func(s *subject) []string {
		if s.process == nil {
			return nil
		}
		return []string{text(s)}
	}
}

func ifParent(text func(*tg.Process) string) func(*subject) []string {
	return func(s *subject) []string {
		if s.parent == nil {
			return nil
		}
		return []string{text(s.parent)}
	}
}

func ifPod(text func(*tg.Pod) string) func(*subject) []string {
	return func(s *subject) []string {
		if s.process.GetPod() == nil {
			return nil
		}
		return []string{text(s.process.GetPod())}
	}
}

func ancestorBinaries(s *subject) []string {
	var out []string
	for _, a := range helpers.ResponseGetAncestors(s.message) {
		out = append(out, a.GetBinary())
	}
	return out
}

// labels adds the condition that one of the selectors selects the pod's labels. Nothing outside of a pod has any.
func (b *builder) labels(selectors []string) {
	var compiled []labels.Selector
	for i, text := range selectors {
		selector, err := labels.Parse(text)
		if err != nil {
			if b.err == nil {
				b.err = fmt.Errorf("labels[%d]: %w", i, err)
			}
			return
		}
		compiled = append(compiled, selector)
	}
	b.among("labels", len(selectors), func(s *subject) bool {
		pod := s.process.GetPod()
		return pod != nil && slices.ContainsFunc(compiled, func(l labels.Selector) bool { return l.Matches(labels.Set(pod.GetPodLabels())) })
	})
}

// capabilities adds the conditions on the three sets.
func (b *builder) capabilities(f *tg.CapFilter) {
	if f == nil {
		return
	}
	b.add(func(s *subject) bool { return s.process.GetCap() != nil })
	for _, set := range []struct {
		name   string
		filter *tg.CapFilterSet
		of     func(*tg.Capabilities) []tg.CapabilitiesType
	}{
		{"permitted", f.GetPermitted(), (*tg.Capabilities).GetPermitted},
		{"effective", f.GetEffective(), (*tg.Capabilities).GetEffective},
		{"inheritable", f.GetInheritable(), (*tg.Capabilities).GetInheritable},
	} {
		if set.filter == nil {
			continue
		}
		holds, err := capCondition(set.filter)
		if err != nil && b.err == nil {
			b.err = fmt.Errorf("capabilities.%s: %w", set.name, err)
		}
		b.add(func(s *subject) bool { return holds(set.of(s.process.GetCap())) })
	}
}

// capCondition compares a set with the one list that the filter gives.
func capCondition(f *tg.CapFilterSet) (func([]tg.CapabilitiesType) bool, error) {
	given := 0
	for _, list := range [][]tg.CapabilitiesType{f.GetAny(), f.GetAll(), f.GetExactly(), f.GetNone()} {
		if len(list) > 0 {
			given++
		}
	}
	if given != 1 {
		return nil, fmt.Errorf("%d of any, all, exactly and none are given: give one", given)
	}
	bits := func(list []tg.CapabilitiesType) (set uint64) {
		for _, c := range list {
			set |= 1 << (uint(c) & 63)
		}
		return set
	}
	anyOf, all, exactly, none := bits(f.GetAny()), bits(f.GetAll()), bits(f.GetExactly()), bits(f.GetNone())
	return func(have []tg.CapabilitiesType) bool {
		set := bits(have)
		switch {
		case anyOf != 0:
			return set&anyOf != 0
		case all != 0:
			return set&all == all
		case exactly != 0:
			return set == exactly
		}
		return set&none == 0
	}, nil
}

// maybeProbe reports what looks like a health check of Kubernetes.
func maybeProbe(p *tg.Process) bool { return p.GetPod().GetContainer().GetMaybeExecProbe() }

// policyName is empty for events that no policy asked for.
func policyName(m *tg.GetEventsResponse) string {
	switch e := m.GetEvent().(type) {
	case *tg.GetEventsResponse_ProcessKprobe:
		return e.ProcessKprobe.GetPolicyName()
	case *tg.GetEventsResponse_ProcessTracepoint:
		return e.ProcessTracepoint.GetPolicyName()
	case *tg.GetEventsResponse_ProcessUprobe:
		return e.ProcessUprobe.GetPolicyName()
	case *tg.GetEventsResponse_ProcessUsdt:
		return e.ProcessUsdt.GetPolicyName()
	case *tg.GetEventsResponse_ProcessLsm:
		return e.ProcessLsm.GetPolicyName()
	}
	return ""
}
