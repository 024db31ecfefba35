// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// reportsFor makes Reports that are flushed by hand, by a clock that is moved by hand.
func reportsFor(t *testing.T, s *apiServer) (*Reports, *fakeClock) {
	t.Helper()
	config := &rest.Config{Host: "http://" + s.address, RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter()}
	config.ContentType = runtime.ContentTypeProtobuf // as in an agent
	clock := newClock()
	c, err := open(Options{Node: "here", Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Now: clock.now}, config)
	if err != nil {
		t.Fatal(err)
	}
	c.reports.limiter = flowcontrol.NewFakeAlwaysRateLimiter()
	return c.reports, clock
}

func prevented(pod, rule string, clock *fakeClock) Occurrence {
	o := denied(pod, rule, clock.now())
	o.Policy, o.Result = "web", ResultFail
	return o
}

// report is what the server has of a pod.
func reportOf(t *testing.T, s *apiServer, pod string) (o struct {
	APIVersion, Kind, Source string
	Metadata                 struct {
		Namespace       string
		OwnerReferences []struct{ Kind, Name, UID string }
	}
	Scope   struct{ Kind, Name, Namespace, UID string }
	Summary map[string]int
	Results []reportResult
}) {
	t.Helper()
	if err := json.Unmarshal(s.reports["uid-of-"+pod+"-runtime"], &o); err != nil {
		t.Fatalf("%v: %s", err, s.reports)
	}
	return o
}

func TestReports(t *testing.T) {
	for _, f := range model.ReportForms() {
		t.Run(f.Kind, func(t *testing.T) {
			s := serveAPI(t)
			s.reportGroup = f.Group
			r, clock := reportsFor(t, s)
			for range 3 {
				r.Add(prevented("web", "a", clock))
			}
			alert := denied("web", "", clock.now())
			alert.Reason, alert.Policy, alert.Result, alert.Severity = "Alert", "shell", ResultWarn, "high"
			r.Add(alert)
			r.flush(context.Background())
			o := reportOf(t, s, "web")
			if o.APIVersion != f.Group+"/"+f.Version || o.Kind != f.Kind || (o.Source == "vigie") != f.Source || o.Metadata.Namespace != "shop" || o.Scope.UID != "uid-of-web" ||
				len(o.Metadata.OwnerReferences) != 1 || o.Metadata.OwnerReferences[0].UID != "uid-of-web" || o.Summary["fail"] != 1 || o.Summary["warn"] != 1 || len(o.Results) != 2 {
				t.Fatalf("the report: %+v", o)
			}
			byPolicy := map[string]reportResult{}
			for _, n := range o.Results {
				byPolicy[n.Policy] = n
			}
			if n := byPolicy["web"]; n.Rule != "a" || n.Result != "fail" || n.Properties["count"] != "3" || n.Properties["action"] != "exec" || len(n.Message) > maxNote {
				t.Errorf("what was denied: %+v", n)
			}
			if n := byPolicy["shell"]; n.Result != "warn" || n.Severity != "high" || n.Category != "runtime" {
				t.Errorf("the alert: %+v", n)
			}

			// What goes on is written again after a while, and the one that happened last comes first.
			clock.second(1)
			r.Add(prevented("web", "a", clock))
			r.flush(context.Background())
			if n := reportOf(t, s, "web").Results; n[0].Properties["count"] == "4" || n[1].Properties["count"] == "4" {
				t.Error("it is written again at once")
			}
			clock.second(30)
			r.flush(context.Background())
			if n := reportOf(t, s, "web").Results[0]; n.Properties["count"] != "4" {
				t.Errorf("it is not written again: %+v", n)
			}

			// The next agent goes on with what is there.
			first := byPolicy["web"].Properties["first"]
			r, clock = reportsFor(t, s)
			clock.second(60)
			r.Add(prevented("web", "a", clock))
			r.flush(context.Background())
			if o := reportOf(t, s, "web"); len(o.Results) != 2 || o.Results[0].Properties["count"] != "5" || o.Results[0].Properties["first"] != first {
				t.Errorf("after a restart: %+v", o.Results)
			}
			clock.second(60 + reportAge.Seconds() + 1)
			r.flush(context.Background())
			if c := r.Counts(); c.Open != 0 || c.Sent != 1 || c.Limited != 0 || c.Unsent != 0 {
				t.Errorf("counts: %+v", c)
			}
		})
	}
}

// TestReportsWhereThereAreNone: a cluster without reports is asked now and then, and what happened until it has some is told.
func TestReportsWhereThereAreNone(t *testing.T) {
	s := serveAPI(t)
	r, clock := reportsFor(t, s)
	r.Add(prevented("web", "a", clock))
	r.flush(context.Background())
	asked := len(s.asked)
	r.flush(context.Background())
	if len(s.asked) != asked || len(s.reports) != 0 {
		t.Errorf("asked again at once: %v", s.asked)
	}
	s.reportGroup = "openreports.io"
	clock.second(formsEvery.Seconds())
	r.flush(context.Background())
	if o := reportOf(t, s, "web"); len(o.Results) != 1 {
		t.Errorf("the report: %+v", o)
	}
}

// TestReportsAreLimited: what is too much, and what the API server does not want, is counted.
func TestReportsAreLimited(t *testing.T) {
	s := serveAPI(t)
	s.reportGroup = "openreports.io"
	r, clock := reportsFor(t, s)
	for i := range reportsPerPod + 3 {
		r.Add(prevented("web", fmt.Sprint(i), clock))
	}
	for i := range maxReports {
		r.Add(prevented(fmt.Sprint(i), "a", clock))
	}
	if c := r.Counts(); c.Open != maxReports || c.Limited != 4 {
		t.Errorf("counts: %+v", c)
	}
	r.limiter = flowcontrol.NewTokenBucketPassiveRateLimiter(reportsPerSecond, reportsAtOnce)
	r.flush(context.Background())
	if n := len(s.reports); n < reportsAtOnce || n > reportsAtOnce+10 {
		t.Errorf("%d were written in one go", n)
	}

	s = serveAPI(t)
	s.reportGroup = "openreports.io"
	r, clock = reportsFor(t, s)
	r.Add(prevented("web", "a", clock))
	if !r.findForm(context.Background()) {
		t.Fatal("the reports are not found")
	}
	s.refuse = true
	r.flush(context.Background())
	if c := r.Counts(); c.Unsent != 1 || c.Open != 0 {
		t.Errorf("refused: %+v", c)
	}
	s.refuse = false
	s.stop()
	r.Add(prevented("web", "b", clock))
	r.flush(context.Background())
	s.start()
	r.flush(context.Background())
	r.flush(context.Background())
	if c := r.Counts(); c.Sent != 1 || c.Unsent != 1 {
		t.Errorf("away: %+v", c)
	}
}
