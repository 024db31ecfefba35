// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"errors"
	"fmt"
	"slices"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// maxFilters is how many filters a list of a request may have, and how many patterns a field of a filter.
const maxFilters = 256

// wish is a GetEvents request, compiled: which events, and which fields of them.
type wish struct {
	allow, deny []*filter
	masks       []*mask
	// types are the only ones that can pass the allow list; nil for all.
	types []tg.EventType
	// lossType is how losses are told; UNDEF when the client does not want to know.
	lossType  tg.EventType
	ancestors bool // something of the request looks at them
	queue     int  // how many events may wait; 0 leaves it to the agent
}

// compileRequest checks a request. Errors name the list, the filter's place in it and the field.
func compileRequest(r *tg.GetEventsRequest, backend server.Backend) (*wish, error) {
	w := &wish{lossType: tg.EventType_PROCESS_THROTTLE}
	var err error
	if w.allow, err = compileList("allow_list", r.GetAllowList(), backend); err != nil {
		return nil, err
	}
	if w.deny, err = compileList("deny_list", r.GetDenyList(), backend); err != nil {
		return nil, err
	}
	if n := len(r.GetFieldFilters()); n > maxFilters {
		return nil, fmt.Errorf("field_filters has %d entries, at most %d are allowed", n, maxFilters)
	}
	for i, f := range r.GetFieldFilters() {
		m, err := compileMask(f)
		if err != nil {
			return nil, fmt.Errorf("field_filters[%d]: %w", i, err)
		}
		w.masks = append(w.masks, m)
		w.ancestors = w.ancestors || m.names("ancestors")
	}
	if err := w.aggregation(r.GetAggregationOptions()); err != nil {
		return nil, err
	}
	w.narrow()
	return w, nil
}

func compileList(name string, list []*tg.Filter, backend server.Backend) ([]*filter, error) {
	if len(list) > maxFilters {
		return nil, fmt.Errorf("%s has %d filters, at most %d are allowed", name, len(list), maxFilters)
	}
	var out []*filter
	for i, f := range list {
		c, err := compileFilter(f, backend)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// aggregation takes the options over. No event type that there is today is aggregated by Tetragon, so no event waits
// for the end of a window; the buffer is this client's queue.
func (w *wish) aggregation(o *tg.AggregationOptions) error {
	if o == nil {
		return nil
	}
	if size := o.GetWindowSize(); size != nil && (size.CheckValid() != nil || size.AsDuration() <= 0) {
		return errors.New("aggregation_options.window_size must be more than nothing")
	}
	w.queue = int(min(o.GetChannelBufferSize(), maxQueue))
	return nil
}

// narrow finds out what of the filters concerns more than one event.
func (w *wish) narrow() {
	every := len(w.allow) > 0
	for _, f := range w.allow {
		every = every && len(f.types) > 0
		w.types = append(w.types, f.types...)
		w.ancestors = w.ancestors || f.ancestors
		if slices.Contains(f.types, tg.EventType_RATE_LIMIT_INFO) {
			w.lossType = tg.EventType_RATE_LIMIT_INFO
		}
	}
	if !every {
		w.types = nil
	}
	for _, f := range w.deny {
		w.ancestors = w.ancestors || f.ancestors
	}
	for _, f := range w.deny {
		if slices.Contains(f.types, w.lossType) {
			w.lossType = tg.EventType_UNDEF
		}
	}
}

// wants keeps out of the client's queue what it cannot want. It runs where all events pass: it looks at the type only.
func (w *wish) wants(e *model.Event) bool {
	if e.Type == model.TypeLoss {
		return w.lossType != tg.EventType_UNDEF
	}
	t := eventType(e)
	return t != tg.EventType_UNDEF && (w.types == nil || slices.Contains(w.types, t))
}

// keeps applies the lists: at least one of allow, when there is one, and none of deny.
func (w *wish) keeps(e *model.Event, m *tg.GetEventsResponse) bool {
	s := subjectOf(e, m)
	holds := func(f *filter) bool { return f.holds(s) }
	return (len(w.allow) == 0 || slices.ContainsFunc(w.allow, holds)) && !slices.ContainsFunc(w.deny, holds)
}

// loss tells of what was lost, the client's own losses and those of the host. It passes every allow list, because
// what was lost might have matched. Tetragon's type for it is rate_limit_info, but `tetra getevents -o compact`
// ends with an error when it gets one: only who asks for that type gets it, everybody else a process_throttle
// whose cgroup says what was lost.
func (w *wish) loss(e *model.Event, node string) *tg.GetEventsResponse {
	out := &tg.GetEventsResponse{NodeName: node, Time: timestamppb.New(e.Time)}
	switch w.lossType {
	case tg.EventType_RATE_LIMIT_INFO:
		out.Event = &tg.GetEventsResponse_RateLimitInfo{RateLimitInfo: &tg.RateLimitInfo{NumberOfDroppedProcessEvents: e.Loss.Count}}
	case tg.EventType_PROCESS_THROTTLE:
		text := fmt.Sprintf("vigie lost %d events (%s: %s)", e.Loss.Count, e.Loss.Stage, e.Loss.Reason)
		out.Event = &tg.GetEventsResponse_ProcessThrottle{ProcessThrottle: &tg.ProcessThrottle{Cgroup: text}}
	default:
		return nil
	}
	return out
}

// mask takes the fields away that the client does not want.
func (w *wish) mask(m *tg.GetEventsResponse) {
	for _, k := range w.masks {
		k.apply(m)
	}
}
