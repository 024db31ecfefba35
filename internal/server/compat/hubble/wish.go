// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	fl "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server/compat"
)

// maxLast is the largest number of flows that are counted back from the newest; who asks for more gets all that there are.
const maxLast = 100_000

// span says which part of the stream of events is asked for: what the requests for flows and for agent events share.
type span struct {
	number       uint64 // 0 for no limit
	first        bool   // the oldest ones of them, not the newest
	follow       bool
	since, until time.Time // until is the first moment that is not asked for; zero for no bound
}

// spanRequest is the part of a request that says it.
type spanRequest interface {
	GetNumber() uint64
	GetFirst() bool
	GetFollow() bool
	GetSince() *timestamppb.Timestamp
	GetUntil() *timestamppb.Timestamp
}

func compileSpan(r spanRequest) (span, error) {
	s := span{number: r.GetNumber(), first: r.GetFirst(), follow: r.GetFollow()}
	if s.first && s.follow {
		return s, errors.New("first and follow exclude each other: leave one of them out")
	}
	for _, bound := range []struct {
		field string
		from  *timestamppb.Timestamp
		to    *time.Time
	}{{"since", r.GetSince(), &s.since}, {"until", r.GetUntil(), &s.until}} {
		if bound.from == nil {
			continue
		}
		if err := bound.from.CheckValid(); err != nil {
			return s, fmt.Errorf("%s: %w", bound.field, err)
		}
		*bound.to = bound.from.AsTime()
	}
	if !s.until.IsZero() {
		s.until = s.until.Add(1) // Hubble's bound is itself asked for
	}
	if !s.since.IsZero() && !s.until.IsZero() && s.until.Before(s.since) {
		return s, errors.New("until is before since")
	}
	return s, nil
}

// past says whether anything that has happened is asked for; back, whether it is counted back from the newest.
func (s *span) past() (past, back bool) {
	if s.follow && s.number == 0 && s.since.IsZero() {
		return false, false
	}
	return true, s.number > 0 && s.number <= maxLast && !s.first && s.since.IsZero()
}

// wish is a GetFlows request, compiled: which flows, and which fields of them.
type wish struct {
	span
	white, black []*filter
	mask         compat.Fields // nil for all fields
	extend       bool          // the client wants the process
	extendFirst  bool          // and a filter looks at it
}

// compileRequest checks a request. Errors name the list, the filter's place in it and the field.
func compileRequest(r *observer.GetFlowsRequest) (*wish, error) {
	w := &wish{extend: true}
	var err error
	if w.span, err = compileSpan(r); err != nil {
		return nil, err
	}
	if w.white, err = compileList("whitelist", r.GetWhitelist()); err != nil {
		return nil, err
	}
	if w.black, err = compileList("blacklist", r.GetBlacklist()); err != nil {
		return nil, err
	}
	for _, f := range slices.Concat(w.white, w.black) {
		w.extendFirst = w.extendFirst || f.extensions
	}
	return w, w.compileMask(r.GetFieldMask().GetPaths())
}

func compileList(name string, list []*fl.FlowFilter) ([]*filter, error) {
	if len(list) > maxFilters {
		return nil, fmt.Errorf("%s has %d filters, at most %d are allowed", name, len(list), maxFilters)
	}
	var out []*filter
	for i, f := range list {
		c, err := compileFilter(f)
		if err != nil {
			return nil, fmt.Errorf("%s[%d].%w", name, i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// compileMask checks that each path leads to a field of a flow. The way into an extension ends there: what it holds is
// not a field.
func (w *wish) compileMask(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	w.mask = compat.Fields{}
	message := (&fl.Flow{}).ProtoReflect().Descriptor()
	for i, path := range paths {
		if path == "extensions" || strings.HasPrefix(path, "extensions.") {
			path = "extensions"
		}
		names := compat.Resolve(message, path)
		if names == nil {
			return fmt.Errorf("field_mask.paths[%d]: a flow has no field %q", i, path)
		}
		w.mask.Add(names)
	}
	_, w.extend = w.mask["extensions"]
	return nil
}

// wants keeps out of the client's queue what it cannot want. It runs where all events pass: it looks at the type only.
func (w *wish) wants(e *model.Event) bool {
	return concerns(e.Type) || e.Type == model.TypeLoss && concernsClient(e.Loss)
}

// keeps applies the lists: at least one of white, when there is one, and none of black.
func (w *wish) keeps(f *fl.Flow) bool {
	holds := func(c *filter) bool { return c.holds(f) }
	return (len(w.white) == 0 || slices.ContainsFunc(w.white, holds)) && !slices.ContainsFunc(w.black, holds)
}
