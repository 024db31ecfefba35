// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"errors"
	"fmt"
	"slices"

	fl "github.com/cilium/cilium/api/v1/flow"
)

// maxFilters is how many filters a list of a request may have, and how many values a field of a filter.
const maxFilters = 256

// filter is one flow.FlowFilter: all of its fields that are set must hold, and of each field one value.
type filter struct {
	conditions []condition
	extensions bool // an expression looks at them
}

type condition func(*fl.Flow) bool

func (f *filter) holds(flow *fl.Flow) bool {
	for _, c := range f.conditions {
		if !c(flow) {
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

// compileFilter compiles every field of a filter: docs/hubble.md lists them. Errors name the field and the place in it.
func compileFilter(f *fl.FlowFilter) (*filter, error) {
	b := &builder{}
	among(b, "uuid", f.GetUuid(), func(x *fl.Flow) string { return x.GetUuid() })
	b.endpoints(f)
	b.addresses(f)
	b.layers(f)
	b.seven(f)

	among(b, "traffic_direction", f.GetTrafficDirection(), (*fl.Flow).GetTrafficDirection)
	among(b, "verdict", f.GetVerdict(), (*fl.Flow).GetVerdict)
	among(b, "drop_reason_desc", f.GetDropReasonDesc(), func(x *fl.Flow) fl.DropReason {
		if x.GetVerdict() != fl.Verdict_DROPPED {
			return -1
		}
		return x.GetDropReasonDesc()
	})
	either(b, "event_type", f.GetEventType(), func(x *fl.Flow, want *fl.EventTypeFilter) bool {
		t := x.GetEventType()
		return (want.GetType() == 0 || want.GetType() == t.GetType()) && (!want.GetMatchSubType() || want.GetSubType() == t.GetSubType())
	})
	either(b, "interface", f.GetInterface(), func(x *fl.Flow, want *fl.NetworkInterface) bool {
		is := x.GetInterface()
		return is != nil && (want.GetIndex() == 0 || want.GetIndex() == is.GetIndex()) && (want.GetName() == "" || want.GetName() == is.GetName())
	})
	either(b, "reply", f.GetReply(), func(x *fl.Flow, want bool) bool { return x.GetIsReply().GetValue() == want })
	b.nodeNames(f.GetNodeName())
	b.selectors("node_labels", f.GetNodeLabels(), (*fl.Flow).GetNodeLabels)
	among(b, "trace_id", f.GetTraceId(), func(x *fl.Flow) string { return x.GetTraceContext().GetParent().GetTraceId() })
	among(b, "ip_trace_id", f.GetIpTraceId(), func(x *fl.Flow) uint64 { return x.GetIpTraceId().GetTraceId() })
	among(b, "encrypted", f.GetEncrypted(), func(x *fl.Flow) bool { return x.GetIP().GetEncrypted() })
	b.expressions(f.GetExperimental().GetCelExpression())
	if b.err != nil {
		return nil, b.err
	}
	return &b.filter, nil
}

// endpoints adds the conditions on who is at an end.
func (b *builder) endpoints(f *fl.FlowFilter) {
	for _, end := range []struct {
		name                          string
		pods, services, fqdns, labels []string
		clusters                      []string
		identities                    []uint32
		workloads                     []*fl.Workload
		endpoint                      func(*fl.Flow) *fl.Endpoint
		service                       func(*fl.Flow) *fl.Service
		dns                           func(*fl.Flow) []string
	}{
		{"source_", f.GetSourcePod(), f.GetSourceService(), f.GetSourceFqdn(), f.GetSourceLabel(), f.GetSourceClusterName(),
			f.GetSourceIdentity(), f.GetSourceWorkload(), (*fl.Flow).GetSource, (*fl.Flow).GetSourceService, (*fl.Flow).GetSourceNames},
		{"destination_", f.GetDestinationPod(), f.GetDestinationService(), f.GetDestinationFqdn(), f.GetDestinationLabel(), f.GetDestinationClusterName(),
			f.GetDestinationIdentity(), f.GetDestinationWorkload(), (*fl.Flow).GetDestination, (*fl.Flow).GetDestinationService, (*fl.Flow).GetDestinationNames},
	} {
		b.namespaced(end.name+"pod", end.pods, func(x *fl.Flow) (string, string) {
			return end.endpoint(x).GetNamespace(), end.endpoint(x).GetPodName()
		})
		b.namespaced(end.name+"service", end.services, func(x *fl.Flow) (string, string) {
			return end.service(x).GetNamespace(), end.service(x).GetName()
		})
		b.domains(end.name+"fqdn", end.fqdns, end.dns)
		b.selectors(end.name+"label", end.labels, func(x *fl.Flow) []string { return end.endpoint(x).GetLabels() })
		b.notEmpty(end.name+"cluster_name", end.clusters)
		among(b, end.name+"cluster_name", end.clusters, func(x *fl.Flow) string { return end.endpoint(x).GetClusterName() })
		among(b, end.name+"identity", end.identities, func(x *fl.Flow) uint32 { return end.endpoint(x).GetIdentity() })
		either(b, end.name+"workload", end.workloads, func(x *fl.Flow, want *fl.Workload) bool {
			return slices.ContainsFunc(end.endpoint(x).GetWorkloads(), func(is *fl.Workload) bool {
				return (want.GetName() == "" || want.GetName() == is.GetName()) && (want.GetKind() == "" || want.GetKind() == is.GetKind())
			})
		})
	}
}

func (b *builder) add(c condition) { b.conditions = append(b.conditions, c) }

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

func (b *builder) notEmpty(field string, values []string) {
	if i := slices.Index(values, ""); i >= 0 {
		b.fail("%s[%d]: is empty: leave it out to take everything", field, i)
	}
}

// among adds the condition that the flow's value is one of a field's, if it has any.
func among[T comparable](b *builder, field string, values []T, of func(*fl.Flow) T) {
	b.bound(field, len(values), func(x *fl.Flow) bool { return slices.Contains(values, of(x)) })
}

// either adds the condition that one of the values of a field holds, if it has any.
func either[T any](b *builder, field string, values []T, holds func(x *fl.Flow, value T) bool) {
	b.bound(field, len(values), func(x *fl.Flow) bool {
		return slices.ContainsFunc(values, func(v T) bool { return holds(x, v) })
	})
}

// each compiles the values of a field and adds the condition that one of them holds.
func each[T any](b *builder, field string, values []string, compile func(string) (T, error), holds func(*fl.Flow, T) bool) {
	if b.bound(field, len(values), nil); b.err != nil {
		return
	}
	compiled := make([]T, len(values))
	for i, v := range values {
		var err error
		if compiled[i], err = compile(v); err != nil {
			b.fail("%s[%d]: %w", field, i, err)
			return
		}
	}
	either(b, field, compiled, holds)
}

// bound adds a condition for a field with n values, unless there are none or too many.
func (b *builder) bound(field string, n int, c condition) {
	if n > maxFilters {
		b.fail("%s has %d values, at most %d are allowed", field, n, maxFilters)
	}
	if n > 0 && c != nil {
		b.add(c)
	}
}

var errEmpty = errors.New("is empty: leave it out to take everything")
