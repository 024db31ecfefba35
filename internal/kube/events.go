// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Occurrence is what is to be told about a pod: something was denied, or raised an alert.
type Occurrence struct {
	Namespace, Pod, UID string
	// Reason is a short word in upper camel case: "PolicyDenied". Action is what was tried or done: "exec".
	Reason, Action string
	// Policy or detection that decided, and the rule of it. The same reason, action, policy and rule on one pod are one Event,
	// however often, and one result of a report.
	Policy, Rule string
	// Result and Severity are a report's: ResultFail or ResultWarn; critical, high, medium, low or info, or nothing.
	Result, Severity string
	Note             string // for people; of the first of them
	Time             time.Time
	// Count is how often, at least 1.
	Count uint64
}

// Limits of what is told: an Event is written for everybody to read, into a store that all share.
const (
	eventsPerSecond = 1.0              // requests of one agent
	eventsAtOnce    = 25               // in a burst
	seriesPerPod    = 16               // different Events about one pod at a time
	maxSeries       = 1024             // of all pods
	seriesEvery     = 30 * time.Second // how often a count that grows is told
	seriesAge       = 6 * time.Minute  // from when on what happens again is a new Event, as in Kubernetes' own recorder
	unsentAge       = 10 * time.Minute // how long it waits for an API server that is away
	maxNote         = 1024             // bytes, by the API
	maxWord         = 128
)

// Events tells the API server of occurrences, as events.k8s.io/v1 Events on the pods. The first of its kind is told at once, the rest
// as a count. What is more than the limits allow is counted as lost.
type Events struct {
	client  *rest.RESTClient
	node    string
	log     *slog.Logger
	now     func() time.Time
	limiter flowcontrol.PassiveRateLimiter

	mu     sync.Mutex
	series map[seriesKey]*series
	order  []*series // oldest first
	pods   map[string]int

	sent, folded    atomic.Uint64
	limited, unsent *pipeline.Counter
}

// seriesKey is what is one Event.
type seriesKey struct{ uid, reason, action, policy, rule string }

type series struct {
	key   seriesKey
	first Occurrence
	name  string // of the Event; empty: not told yet
	count uint64
	told  uint64 // of these
	at    time.Time
	last  time.Time
}

func newEvents(client *rest.RESTClient, o Options) *Events {
	return &Events{client: client, node: o.Node, log: o.Log, now: o.Now, limiter: flowcontrol.NewTokenBucketPassiveRateLimiter(eventsPerSecond, eventsAtOnce),
		series: make(map[seriesKey]*series), pods: make(map[string]int),
		limited: o.Losses.Counter("kube", "event_limited"), unsent: o.Losses.Counter("kube", "event_not_sent")}
}

// Add notes an occurrence. It does not block.
func (e *Events) Add(o Occurrence) {
	key := seriesKey{o.UID, o.Reason, o.Action, o.Policy, o.Rule}
	o.Count = max(o.Count, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.series[key]
	if s == nil {
		if len(e.series) >= maxSeries || e.pods[o.UID] >= seriesPerPod {
			e.limited.Add(o.Count)
			return
		}
		s = &series{key: key, first: o, at: e.now()}
		e.series[key] = s
		e.order = append(e.order, s)
		e.pods[o.UID]++
	} else {
		e.folded.Add(o.Count)
	}
	s.count += o.Count
	s.last = o.Time
}

// EventCounts are Events since the start.
type EventCounts struct {
	Sent    uint64 // requests that made or updated one
	Folded  uint64 // occurrences told as a count of an earlier one
	Limited uint64 // occurrences that were too many
	Unsent  uint64 // that the API server refused, or was away for too long for
	Open    int    // series
}

// Counts counts.
func (e *Events) Counts() EventCounts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return EventCounts{Sent: e.sent.Load(), Folded: e.folded.Load(), Limited: e.limited.Load(), Unsent: e.unsent.Load(), Open: len(e.series)}
}

// run tells what has gathered, once a second, until ctx ends.
func (e *Events) run(ctx context.Context) { eachSecond(ctx, e.flush) }

// eachSecond does something once a second, until ctx ends.
func eachSecond(ctx context.Context, do func(context.Context)) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do(ctx)
		}
	}
}

// flush tells what is due, oldest first, until the limit is reached or the API server does not answer.
func (e *Events) flush(ctx context.Context) {
	for _, s := range e.due() {
		if !e.limiter.TryAccept() {
			return
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := e.tell(asking, s)
		cancel()
		switch {
		case err == nil:
			e.sent.Add(1)
		case ctx.Err() != nil:
			return
		case refused(err):
			// Its namespace is on its way out, a right is missing, the Event is gone.
			e.log.Debug("an Event was refused", "namespace", s.first.Namespace, "pod", s.first.Pod, "error", err)
			e.drop(s)
		default:
			return
		}
	}
}

// refused reports whether the API server has said no: it will say so again.
func refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < 500 && !apierrors.IsTooManyRequests(err)
}

// due lists what is to be told, and forgets what has long been told.
func (e *Events) due() []*series {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	var out []*series
	kept := e.order[:0]
	for _, s := range e.order {
		switch {
		case e.series[s.key] != s:
			continue
		case s.name == "" && now.Sub(s.at) > unsentAge:
			e.loseLocked(s)
			continue
		case s.count == s.told && now.Sub(s.last) > seriesAge:
			e.removeLocked(s)
			continue
		case s.name == "", s.count > s.told && now.Sub(s.at) >= seriesEvery:
			out = append(out, s)
		}
		kept = append(kept, s)
	}
	clear(e.order[len(kept):])
	e.order = kept
	return out
}

func (e *Events) drop(s *series) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loseLocked(s)
}

func (e *Events) loseLocked(s *series) {
	e.unsent.Add(s.count - s.told)
	e.removeLocked(s)
}

func (e *Events) removeLocked(s *series) {
	delete(e.series, s.key)
	if e.pods[s.key.uid]--; e.pods[s.key.uid] <= 0 {
		delete(e.pods, s.key.uid)
	}
}

// tell makes the Event of a series, or brings its count up to date.
func (e *Events) tell(ctx context.Context, s *series) error {
	e.mu.Lock()
	name, count, last := s.name, s.count, s.last
	e.mu.Unlock()
	if name == "" {
		ev := e.event(s, count, last)
		if err := e.client.Post().Namespace(s.first.Namespace).Resource("events").Body(ev).Do(ctx).Error(); err != nil {
			return fmt.Errorf("make an Event: %w", err)
		}
		name = ev.Name
	} else {
		patch, err := json.Marshal(map[string]any{"series": eventsv1.EventSeries{Count: int32(min(count, 1<<31-1)), LastObservedTime: metav1.NewMicroTime(last)}})
		if err != nil {
			return fmt.Errorf("write an Event's count: %w", err)
		}
		if err := e.client.Patch(types.MergePatchType).Namespace(s.first.Namespace).Resource("events").Name(name).Body(patch).Do(ctx).Error(); err != nil {
			return fmt.Errorf("update an Event: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.name, s.told, s.at = name, count, e.now()
	return nil
}

func (e *Events) event(s *series, count uint64, last time.Time) *eventsv1.Event {
	o := &s.first
	ev := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: fmt.Sprintf("%s.%x", o.Pod, s.at.UnixNano())},
		EventTime:  metav1.NewMicroTime(o.Time), ReportingController: "vigie.io/agent", ReportingInstance: cut(e.node, maxWord),
		Action: cut(o.Action, maxWord), Reason: cut(o.Reason, maxWord), Note: cut(o.Note, maxNote), Type: corev1.EventTypeWarning,
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: o.Namespace, Name: o.Pod, UID: types.UID(o.UID)}}
	if count > 1 {
		ev.Series = &eventsv1.EventSeries{Count: int32(min(count, 1<<31-1)), LastObservedTime: metav1.NewMicroTime(last)}
	}
	return ev
}

// cut is at most so many bytes of valid text.
func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}
