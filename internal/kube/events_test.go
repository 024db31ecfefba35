// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"log/slog"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// eventsFor makes Events that are flushed by hand, by a clock that is moved by hand.
func eventsFor(t *testing.T, s *apiServer) (*Events, *fakeClock) {
	t.Helper()
	config := &rest.Config{Host: "http://" + s.address, RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter()}
	config.ContentType = runtime.ContentTypeJSON
	clock := newClock()
	c, err := open(Options{Node: "here", Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Now: clock.now}, config)
	if err != nil {
		t.Fatal(err)
	}
	c.events.limiter = flowcontrol.NewFakeAlwaysRateLimiter()
	return c.events, clock
}

func denied(pod, rule string, at time.Time) Occurrence {
	return Occurrence{Namespace: "shop", Pod: pod, UID: "uid-of-" + pod, Reason: "PolicyDenied", Action: "exec", Rule: rule, Note: "no " + strings.Repeat("é", 2000), Time: at, Count: 1}
}

// TestEvents: the first of a kind is told at once, the rest as a count.
func TestEvents(t *testing.T) {
	s := serveAPI(t)
	e, clock := eventsFor(t, s)
	for range 5 {
		e.Add(denied("web", "a", clock.now()))
	}
	e.Add(denied("web", "b", clock.now()))
	e.flush(context.Background())
	if len(s.posted) != 2 || len(s.patched) != 0 {
		t.Fatalf("%d were made, %d changed", len(s.posted), len(s.patched))
	}
	first := s.posted[0]
	regarding, series := first["regarding"].(map[string]any), first["series"].(map[string]any)
	if regarding["kind"] != "Pod" || regarding["name"] != "web" || regarding["uid"] != "uid-of-web" || first["reason"] != "PolicyDenied" || first["action"] != "exec" ||
		first["type"] != "Warning" || first["reportingController"] != "vigie.io/agent" || first["reportingInstance"] != "here" || series["count"] != 5.0 {
		t.Errorf("the Event: %v", first)
	}
	if note := first["note"].(string); len(note) > 1024 {
		t.Errorf("a note of %d bytes", len(note))
	}
	if s.posted[1]["series"] != nil {
		t.Errorf("one occurrence is a series: %v", s.posted[1])
	}
	e.Add(denied("web", "a", clock.now()))
	e.flush(context.Background())
	if len(s.patched) != 0 {
		t.Error("a count is told again at once")
	}
	clock.second(31)
	e.flush(context.Background())
	if len(s.patched) != 1 || s.patched[0]["series"].(map[string]any)["count"] != 6.0 || !strings.Contains(s.patched[0]["path"].(string), "/namespaces/shop/events/web.") {
		t.Errorf("changed: %v", s.patched)
	}
	clock.second(500)
	e.flush(context.Background())
	if c := e.Counts(); c.Open != 0 || c.Sent != 3 || c.Folded != 5 || c.Limited != 0 || c.Unsent != 0 {
		t.Errorf("counts: %+v", c)
	}
}

// TestEventsAreLimited: what is too much is counted.
func TestEventsAreLimited(t *testing.T) {
	s := serveAPI(t)
	e, clock := eventsFor(t, s)
	for i := range seriesPerPod + 3 {
		e.Add(denied("web", fmt.Sprint(i), clock.now()))
	}
	if c := e.Counts(); c.Open != seriesPerPod || c.Limited != 3 {
		t.Errorf("one pod: %+v", c)
	}
	for i := range 2 * maxSeries {
		e.Add(denied(fmt.Sprint(i), "a", clock.now()))
	}
	if c := e.Counts(); c.Open != maxSeries {
		t.Errorf("many pods: %+v", c)
	}
	e.limiter = flowcontrol.NewTokenBucketPassiveRateLimiter(eventsPerSecond, eventsAtOnce)
	e.flush(context.Background())
	if n := len(s.posted); n < eventsAtOnce || n > eventsAtOnce+10 {
		t.Errorf("%d were told in one go", n)
	}
	clock.second(unsentAge.Seconds() + 1)
	e.flush(context.Background())
	if c := e.Counts(); c.Unsent < maxSeries-2*eventsAtOnce-20 {
		t.Errorf("what waited in vain is not counted: %+v", c)
	}
}

// TestEventsRefusedAndAway: what the API server does not want is counted; what it cannot take now is told later.
func TestEventsRefusedAndAway(t *testing.T) {
	s := serveAPI(t)
	e, clock := eventsFor(t, s)
	s.refuse = true
	e.Add(denied("web", "a", clock.now()))
	e.flush(context.Background())
	if c := e.Counts(); c.Unsent != 1 || c.Open != 0 {
		t.Errorf("refused: %+v", c)
	}
	s.refuse = false
	s.stop()
	e.Add(denied("web", "b", clock.now()))
	e.flush(context.Background())
	s.start()
	e.flush(context.Background())
	if c := e.Counts(); len(s.posted) != 1 || c.Sent != 1 || c.Unsent != 1 {
		t.Errorf("away: %d were made, %+v", len(s.posted), c)
	}
}
