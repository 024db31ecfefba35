// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// Of an agent that was replaced a stream has what the next one took over, although that has times from before its start and low
// numbers, and stands behind what the new one found; and nothing twice.
func TestMarkOverAnUpgrade(t *testing.T) {
	first, next := time.Unix(1000, 0), time.Unix(2000, 0)
	event := func(run time.Time, seq uint64, at int64) seen {
		when := time.Unix(at, 0)
		return seen{&pb.Event{Seq: seq, Time: timestamppb.New(when)}, run, when.Before(run)}
	}
	m := &mark{}
	m.begins(first)
	if !m.pass(event(first, 80_000, 1990)) {
		t.Fatal("the first run is not heard")
	}
	m.begins(next)
	for _, c := range []struct {
		what string
		e    seen
		want bool
	}{
		{"told before", event(next, 79_999, 1989), false},
		{"told last", event(next, 80_000, 1990), false},
		{"kept by the first and not told", event(next, 80_001, 1991), true},
		{"found, just before the start", event(next, 1, 1999), true},
		{"found, just after the start", event(next, 2, 2001), true},
		{"taken over", event(next, 3, 1995), true},
		{"happening", event(next, 4, 2002), true},
		{"the same again", event(next, 4, 2002), false},
		{"taken over, again", event(next, 3, 1995), false},
	} {
		if got := m.pass(c.e); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
