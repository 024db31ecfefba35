// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// cursor is a place in the merged past: for each node by its name, which page is being read and how far. It is the page token.
type cursor struct {
	NewestFirst bool              `json:"newest,omitempty"`
	Nodes       map[string]*place `json:"nodes"`
}

// place is how far the reading of one node has come: in the page that Token names, behind the event of that number and time.
type place struct {
	Token string `json:"token,omitempty"`
	Seq   uint64 `json:"seq,omitempty"`
	At    int64  `json:"at,omitempty"` // Unix nanoseconds
	End   bool   `json:"end,omitempty"`
}

func (c *cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "" // it is made of texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(token string, newestFirst bool) (*cursor, error) {
	if token == "" {
		return &cursor{NewestFirst: newestFirst}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	c := new(cursor)
	if err == nil {
		err = json.Unmarshal(b, c)
	}
	if err != nil || c.NewestFirst != newestFirst || c.Nodes == nil || slices.Contains(values(c.Nodes), nil) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("page_token is not of this query: begin again without it"))
	}
	return c, nil
}

func values[K comparable, V any](m map[K]V) []V { return slices.Collect(maps.Values(m)) }

// leaf is what is known of one node while a page is made.
type leaf struct {
	node   *node
	place  *place
	events []*pb.Event // of the page that is read, behind the place
	next   string      // token of the page behind it
	off    time.Duration
}

// QueryEvents implements the API. A page is made of one page of every node, merged; what was not used of them is read again
// for the next.
func (a *api) QueryEvents(ctx context.Context, q *connect.Request[pb.QueryEventsRequest]) (*connect.Response[pb.QueryEventsResponse], error) {
	r, m := a.relay, q.Msg
	c, err := parseCursor(m.GetPageToken(), m.GetNewestFirst())
	if err != nil {
		return nil, err
	}
	nodes, err := r.nodesOf(m.GetFilter())
	if err != nil {
		return nil, err
	}
	if c.Nodes == nil {
		c.Nodes = make(map[string]*place)
		for _, n := range nodes {
			c.Nodes[n.called()] = &place{}
		}
	}
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { p := c.Nodes[n.called()]; return p == nil || p.End })
	size := int(m.GetPageSize())
	if size == 0 {
		size = defaultPage
	}
	size = min(size, maxPage)
	r.unhurried(ctx, r.o.StudyTimeout)
	answers, errs, err := ask(ctx, nodes, "QueryEvents", r.o.StudyTimeout, func(n *node) *pb.QueryEventsRequest {
		return &pb.QueryEventsRequest{Filter: r.translate(n, m.GetFilter()), NewestFirst: m.GetNewestFirst(), PageSize: uint32(size),
			PageToken: c.Nodes[n.called()].Token}
	}, vigiev1connect.VigieClient.QueryEvents)
	if err != nil {
		return nil, err
	}
	out := &pb.QueryEventsResponse{NodeErrors: errs}
	for _, e := range errs {
		c.Nodes[e.GetNode()].End = true // without its beginning, its rest would be no order
	}
	var leaves []*leaf
	for _, x := range answers {
		l := &leaf{node: x.node, place: c.Nodes[x.node.called()], next: x.R.GetNextPageToken(), off: x.node.correction()}
		l.events = l.place.skip(x.R.GetEvents(), m.GetNewestFirst())
		if len(l.events) == 0 {
			l.turn()
		}
		leaves = append(leaves, l)
		if t := x.R.GetCompleteSince(); t != nil && (out.GetCompleteSince() == nil || t.AsTime().Add(-l.off).After(out.GetCompleteSince().AsTime())) {
			out.CompleteSince = timestamppb.New(t.AsTime().Add(-l.off))
		}
	}
	out.Events = mergePage(leaves, size, m.GetNewestFirst())
	if slices.ContainsFunc(values(c.Nodes), func(p *place) bool { return !p.End }) {
		out.NextPageToken = c.String()
	}
	return connect.NewResponse(out), nil
}

// skip is what of a page comes behind the place.
func (p *place) skip(events []*pb.Event, newestFirst bool) []*pb.Event {
	if p.Seq == 0 {
		return events
	}
	for i, e := range events {
		if e.GetSeq() == p.Seq && e.GetTime().AsTime().UnixNano() == p.At {
			return events[i+1:]
		}
	}
	// It was evicted, or newer ones have pushed it out of the first page.
	return slices.DeleteFunc(slices.Clone(events), func(e *pb.Event) bool {
		at := e.GetTime().AsTime().UnixNano()
		return newestFirst && at >= p.At || !newestFirst && at <= p.At
	})
}

// turn goes on to the next page of the node.
func (l *leaf) turn() { *l.place = place{Token: l.next, End: l.next == ""} }

// mergePage takes up to size events, and moves the places behind them. It ends early where a node's page ends: only the next
// one tells whether something comes between.
func mergePage(leaves []*leaf, size int, newestFirst bool) []*pb.Event {
	var out []*pb.Event
	for len(out) < size {
		var first *leaf
		for _, l := range leaves {
			if len(l.events) == 0 {
				if !l.place.End {
					return out
				}
				continue
			}
			if first == nil || before(l, first, newestFirst) {
				first = l
			}
		}
		if first == nil {
			return out
		}
		e := first.events[0]
		e.Node = first.node.called()
		out = append(out, e)
		if first.events = first.events[1:]; len(first.events) == 0 {
			first.turn()
		} else {
			first.place.Seq, first.place.At = e.GetSeq(), e.GetTime().AsTime().UnixNano()
		}
	}
	return out
}

func before(a, b *leaf, newestFirst bool) bool {
	x, y := a.events[0].GetTime().AsTime().Add(-a.off), b.events[0].GetTime().AsTime().Add(-b.off)
	if newestFirst {
		x, y = y, x
	}
	return x.Before(y)
}
