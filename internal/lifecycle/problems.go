// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// outlives is for how long what helps a job may still run after it before that is a problem: it is ended by a signal in a moment
// where somebody cares.
const outlives = 10 * time.Second

// before is by how much an app may start before its proxy: what it does first is to load itself.
const before = 50 * time.Millisecond

// problems names what is wrong with a timeline.
func problems(t *Timeline, now time.Time) []Problem {
	var out []Problem
	for i := range t.Containers {
		c := &t.Containers[i]
		out = append(out, restarts(c)...)
		if !isProxy(c) {
			continue
		}
		for j := range t.Containers {
			app := &t.Containers[j]
			if app.Role != model.AppContainer || isProxy(app) {
				continue
			}
			out = append(out, startsLate(c, app)...)
			out = append(out, endsEarly(c, app)...)
		}
	}
	return append(out, outlivesJob(t, now)...)
}

// isProxy reports whether a container serves the others of its pod: a sidecar that listens, or an ordinary container that does and is
// called as proxies are.
func isProxy(c *Container) bool {
	listens := false
	for i := range c.Runs {
		listens = listens || len(c.Runs[i].Listens) > 0
	}
	if !listens || c.Role == model.InitContainer {
		return false
	}
	if c.Role == model.SidecarContainer {
		return true
	}
	for _, word := range []string{"proxy", "envoy", "sidecar", "mesh", "linkerd", "istio"} {
		if strings.Contains(c.Name, word) {
			return true
		}
	}
	return false
}

// startsLate: the app's first program ran before its proxy listened.
func startsLate(proxy, app *Container) []Problem {
	if len(proxy.Runs) == 0 || len(app.Runs) == 0 || len(proxy.Runs[0].Listens) == 0 || app.Runs[0].Started.IsZero() {
		return nil
	}
	late := proxy.Runs[0].Listens[0].At.Sub(app.Runs[0].Started)
	if late <= before {
		return nil
	}
	todo := "give it a startupProbe: the next container then waits for it"
	if proxy.Role == model.AppContainer {
		todo = "make it an init container with restartPolicy Always and a startupProbe, which starts before the others"
	}
	return []Problem{{AppBeforeProxy, app.Name, fmt.Sprintf("%s starts %s before %s listens on %s, so its first connections can fail. Of %s: %s",
		app.Name, round(late), proxy.Name, proxy.Runs[0].Listens[0].Addr, proxy.Name, todo)}}
}

// endsEarly: the proxy has ended and the app ran on.
func endsEarly(proxy, app *Container) []Problem {
	p, a := last(proxy), last(app)
	if p == nil || a == nil || p.Ended.IsZero() || a.Started.After(p.Ended) {
		return nil
	}
	if !a.Ended.IsZero() && a.Ended.Sub(p.Ended) <= before {
		return nil
	}
	how := "runs without it"
	if !a.Ended.IsZero() {
		how = "ran " + round(a.Ended.Sub(p.Ended)) + " without it"
	}
	todo := ""
	if proxy.Role == model.AppContainer {
		todo = ": make it an init container with restartPolicy Always, which is ended after the others"
	}
	return []Problem{{ProxyEndsBeforeApp, proxy.Name, fmt.Sprintf("%s ended (%s) before %s, which %s%s", proxy.Name, ending(p), app.Name, how, todo)}}
}

// outlivesJob: what should end by itself does not, because a container that only helps runs on.
func outlivesJob(t *Timeline, now time.Time) []Problem {
	if t.Controller.Kind != "Job" && t.Controller.Kind != "CronJob" {
		return nil
	}
	var done *Container // the one that ended by itself first
	for i := range t.Containers {
		c := &t.Containers[i]
		if r := last(c); c.Role == model.AppContainer && r != nil && !r.Ended.IsZero() && r.Signal == 0 && (done == nil || r.Ended.Before(last(done).Ended)) {
			done = c
		}
	}
	if done == nil {
		return nil
	}
	end := last(done).Ended
	var out []Problem
	for i := range t.Containers {
		c := &t.Containers[i]
		r := last(c)
		if c == done || c.Role != model.AppContainer || r == nil {
			continue
		}
		until, still := r.Ended, "ran on for"
		if until.IsZero() {
			until, still = now, "has been running on for"
		} else if r.Signal == 0 && r.Code == 0 && !isProxy(c) {
			continue // another part of the job
		}
		if until.Sub(end) > outlives {
			out = append(out, Problem{SidecarOutlivesJob, c.Name, fmt.Sprintf(
				"%s %s %s after %s of the job ended (%s): the job is not complete before it ends. Make it an init container with restartPolicy Always, which is ended with the job",
				c.Name, still, round(until.Sub(end)), done.Name, ending(last(done)))})
		}
	}
	return out
}

// restarts: a container ran several times, or an init container failed.
func restarts(c *Container) []Problem {
	r := last(c)
	switch {
	case r == nil:
		return nil
	case c.Role == model.InitContainer && !r.Ended.IsZero() && (r.Code != 0 || r.Signal != 0):
		return []Problem{{InitContainerFailed, c.Name, fmt.Sprintf("%s ended with %s in run %d: the containers after it do not start", c.Name, ending(r), len(c.Runs))}}
	case len(c.Runs) > 1:
		ended := &c.Runs[len(c.Runs)-2]
		return []Problem{{Restarted, c.Name, fmt.Sprintf("%s was started %d times; the run before this one ended with %s", c.Name, len(c.Runs), ending(ended))}}
	}
	return nil
}

func last(c *Container) *Run {
	if len(c.Runs) == 0 {
		return nil
	}
	return &c.Runs[len(c.Runs)-1]
}

func ending(r *Run) string {
	switch {
	case r.Ended.IsZero():
		return "an end that was not seen"
	case r.Signal != 0:
		return fmt.Sprintf("signal %d", r.Signal)
	}
	return fmt.Sprintf("exit %d", r.Code)
}

func round(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
