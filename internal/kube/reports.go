// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Limits of reports: they are objects in the store that all share.
const (
	reportsPerSecond = 1.0              // requests of one agent
	reportsAtOnce    = 10               // in a burst
	reportsPerPod    = 32               // different results; more are counted as lost
	maxReports       = 1024             // pods whose reports are kept up to date at a time
	reportEvery      = 30 * time.Second // how often one that changes is written
	reportAge        = time.Hour        // from when on one that does not change is forgotten here; it is read when something happens again
	formsEvery       = 5 * time.Minute  // how often a cluster that has no reports is asked whether it has
)

// Reports keeps a report for each pod of this node to which something happened: openreports.io Report where the cluster has
// these, else wgpolicyk8s.io PolicyReport, else nothing. It is owned by the pod, goes when the pod goes, and outlives the agent: its
// counts are read when they go on.
type Reports struct {
	client  *rest.RESTClient
	node    string
	log     *slog.Logger
	now     func() time.Time
	limiter flowcontrol.PassiveRateLimiter

	mu   sync.Mutex
	pods map[string]*podReport // by uid

	form  *model.ReportForm // nil: the cluster has none, as far as is known
	asked time.Time         // when it was looked for

	sent            atomic.Uint64
	limited, unsent *pipeline.Counter
}

// Results of reports: what was prevented, and what was only noticed.
const (
	ResultFail = "fail"
	ResultWarn = "warn"
)

// resultKey is what is one result.
type resultKey struct{ reason, action, policy, rule string }

type podReport struct {
	namespace, pod, uid string
	results             map[resultKey]*podResult
	read                bool // what it said before is among the results
	changed             bool
	written             time.Time // zero: not yet
	last                time.Time
}

type podResult struct {
	Occurrence
	first, last time.Time
	count       uint64
}

func newReports(client *rest.RESTClient, o Options) *Reports {
	return &Reports{client: client, node: o.Node, log: o.Log, now: o.Now, limiter: flowcontrol.NewTokenBucketPassiveRateLimiter(reportsPerSecond, reportsAtOnce),
		pods: make(map[string]*podReport), limited: o.Losses.Counter("kube", "report_limited"), unsent: o.Losses.Counter("kube", "report_not_sent")}
}

// Add notes an occurrence. It does not block.
func (r *Reports) Add(o Occurrence) {
	o.Count = max(o.Count, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[o.UID]
	if p == nil {
		if len(r.pods) >= maxReports {
			r.limited.Add(o.Count)
			return
		}
		p = &podReport{namespace: o.Namespace, pod: o.Pod, uid: o.UID, results: make(map[resultKey]*podResult)}
		r.pods[o.UID] = p
	}
	if !p.add(&podResult{Occurrence: o, first: o.Time, last: o.Time, count: o.Count}) {
		r.limited.Add(o.Count)
		return
	}
	p.changed, p.last = true, r.now()
}

// add counts a result; false when there is no room for another one.
func (p *podReport) add(n *podResult) bool {
	key := resultKey{n.Reason, n.Action, n.Policy, n.Rule}
	have := p.results[key]
	if have == nil {
		if len(p.results) >= reportsPerPod {
			return false
		}
		p.results[key] = n
		return true
	}
	have.count += n.count
	if n.first.Before(have.first) {
		have.first = n.first
	}
	if n.last.After(have.last) {
		have.last = n.last
	}
	return true
}

// run writes what has changed, once a second, until ctx ends.
func (r *Reports) run(ctx context.Context) { eachSecond(ctx, r.flush) }

// flush writes the reports that are due, until the limit is reached or the API server does not answer.
func (r *Reports) flush(ctx context.Context) {
	for _, p := range r.due() {
		if !r.findForm(ctx) || !r.limiter.TryAccept() {
			return
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := r.write(asking, p)
		cancel()
		switch {
		case err == nil:
			r.sent.Add(1)
		case ctx.Err() != nil:
			return
		case refused(err):
			// Its namespace is on its way out, a right is missing, the kind is gone.
			r.log.Debug("a report was refused", "namespace", p.namespace, "pod", p.pod, "error", err)
			r.drop(p)
			r.form, r.asked = nil, time.Time{}
		default:
			return
		}
	}
}

// due lists the reports that are to be written, longest unchanged first, and forgets what has long not changed.
func (r *Reports) due() []*podReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	var out []*podReport
	for uid, p := range r.pods {
		switch {
		case !p.changed && now.Sub(p.last) > reportAge:
			delete(r.pods, uid)
		case p.changed && now.Sub(p.written) >= reportEvery:
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *podReport) int { return cmp.Or(a.written.Compare(b.written), cmp.Compare(a.uid, b.uid)) })
	return out
}

func (r *Reports) drop(p *podReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range p.results {
		r.unsent.Add(n.count)
	}
	delete(r.pods, p.uid)
}

// findForm finds out which reports the cluster has.
func (r *Reports) findForm(ctx context.Context) bool {
	now := r.now()
	if r.form != nil || !r.asked.IsZero() && now.Sub(r.asked) < formsEvery {
		return r.form != nil
	}
	for _, f := range model.ReportForms() {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := r.client.Get().AbsPath("/apis", f.Group, f.Version).SetHeader("Accept", "application/json").Do(asking).Error()
		cancel()
		switch {
		case err == nil:
			r.form, r.asked = &f, now
			return true
		case !apierrors.IsNotFound(err):
			return false // it is asked again in a second
		}
	}
	r.asked = now
	return false
}

// write brings the report of a pod up to date. What an earlier agent said in it is taken over first.
func (r *Reports) write(ctx context.Context, p *podReport) error {
	path := []string{"/apis", r.form.Group, r.form.Version, "namespaces", p.namespace, r.form.Resource, p.uid + "-runtime"}
	if !p.read {
		said, err := r.client.Get().AbsPath(path...).SetHeader("Accept", "application/json").Do(ctx).Raw()
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("read a report: %w", err)
		}
		if err == nil {
			r.takeOver(p, said)
		}
		p.read = true
	}
	r.mu.Lock()
	text, err := json.Marshal(r.object(p))
	p.changed = false
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write a report: %w", err)
	}
	err = r.client.Patch(types.ApplyPatchType).AbsPath(path...).Param("fieldManager", "vigie-agent").Param("force", "true").
		SetHeader("Accept", "application/json").Body(text).Do(ctx).Error()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		p.changed = true
		return fmt.Errorf("write a report: %w", err)
	}
	p.written = r.now()
	return nil
}

// reportResult is one result as both forms have it.
type reportResult struct {
	Source     string            `json:"source"`
	Policy     string            `json:"policy"`
	Rule       string            `json:"rule,omitempty"`
	Category   string            `json:"category"`
	Severity   string            `json:"severity,omitempty"`
	Result     string            `json:"result"`
	Scored     bool              `json:"scored"`
	Message    string            `json:"message"`
	Timestamp  reportTime        `json:"timestamp"`
	Properties map[string]string `json:"properties"`
}

type reportTime struct {
	Seconds int64 `json:"seconds"`
	Nanos   int64 `json:"nanos"`
}

// takeOver counts what the report says already.
func (r *Reports) takeOver(p *podReport, text []byte) {
	var said struct {
		Results []reportResult `json:"results"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		r.log.Warn("a report begins anew: what it said cannot be read", "namespace", p.namespace, "pod", p.pod, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range said.Results {
		n, err := strconv.ParseUint(s.Properties["count"], 10, 64)
		first, err2 := time.Parse(time.RFC3339, s.Properties["first"])
		if err != nil || err2 != nil {
			continue // another's
		}
		last := time.Unix(s.Timestamp.Seconds, s.Timestamp.Nanos)
		p.add(&podResult{first: first, last: last, count: n, Occurrence: Occurrence{Reason: s.Properties["reason"], Action: s.Properties["action"],
			Policy: s.Policy, Rule: s.Rule, Result: s.Result, Severity: s.Severity, Note: s.Message}})
	}
}

// object is the report, with what happened last first.
func (r *Reports) object(p *podReport) map[string]any {
	results := []reportResult{}
	summary := map[string]int{"pass": 0, ResultFail: 0, ResultWarn: 0, "error": 0, "skip": 0}
	for _, n := range slices.SortedFunc(maps.Values(p.results), func(a, b *podResult) int {
		return cmp.Or(b.last.Compare(a.last), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Action, b.Action))
	}) {
		result := cmp.Or(n.Result, ResultFail)
		summary[result]++
		results = append(results, reportResult{Source: "vigie", Policy: cut(n.Policy, maxWord), Rule: cut(n.Rule, maxWord), Category: "runtime", Severity: n.Severity,
			Result: result, Scored: true, Message: cut(n.Note, maxNote), Timestamp: reportTime{n.last.Unix(), int64(n.last.Nanosecond())},
			Properties: map[string]string{"reason": n.Reason, "action": n.Action, "count": strconv.FormatUint(n.count, 10), "first": n.first.UTC().Format(time.RFC3339), "node": r.node}})
	}
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "name": p.pod, "uid": p.uid}
	scope := maps.Clone(pod)
	scope["namespace"] = p.namespace
	o := map[string]any{"apiVersion": r.form.Group + "/" + r.form.Version, "kind": r.form.Kind, "scope": scope, "results": results, "summary": summary,
		"metadata": map[string]any{"name": p.uid + "-runtime", "namespace": p.namespace, "ownerReferences": []any{pod},
			"labels": map[string]any{"app.kubernetes.io/managed-by": "vigie"}}}
	if r.form.Source {
		o["source"] = "vigie"
	}
	return o
}

// ReportCounts are reports since the start.
type ReportCounts struct {
	Sent    uint64 // written
	Limited uint64 // occurrences that were too many
	Unsent  uint64 // that the API server refused
	Open    int    // reports that are kept up to date
}

// Counts counts.
func (r *Reports) Counts() ReportCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ReportCounts{Sent: r.sent.Load(), Limited: r.limited.Load(), Unsent: r.unsent.Load(), Open: len(r.pods)}
}
