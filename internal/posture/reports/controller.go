// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// Config is what a controller needs.
type Config struct {
	Client   *cluster.Client
	Judge    *scan.Judge
	Wanted   cluster.Wanted // resources that are watched
	Interval time.Duration  // between rounds: what changes meanwhile is judged together
	// Admission: policies are compiled anew when exceptions come, go or end.
	Admission bool
	Log       *slog.Logger
	Now       func() time.Time
}

// Controller keeps the reports of a cluster, and its admission as exceptions come and end. Run it once.
type Controller struct {
	Config
	forms  []Form
	keeper *Keeper

	mu       sync.Mutex
	said     map[string]uint64 // uid of an object → what its report says
	synced   map[schema.GroupVersionResource]bool
	figures  figures
	excepted string // see stateOf; of the loop alone
}

// fieldManager is who the reports' fields belong to.
const fieldManager = "vigie-reports"

// hashAnnotation tells the next controller what a report says, so that it does not write all of them again.
const hashAnnotation = "vigie.io/hash"

// New makes a controller. Nothing is asked yet.
func New(c Config) *Controller {
	return &Controller{Config: c, keeper: NewKeeper(c.Judge, cluster.Theirs), said: map[string]uint64{}, synced: map[schema.GroupVersionResource]bool{},
		figures: figures{results: map[resultKey]int{}, of: map[string][]resultKey{}}}
}

// Run keeps reports until ctx ends. An error is that the cluster has no definition of a report, or does not answer at the start.
func (c *Controller) Run(ctx context.Context) error {
	served, err := c.Client.Resources(c.Wanted)
	if err != nil {
		return err
	}
	if err := c.findForms(); err != nil {
		return err
	}
	if err := c.readReports(ctx); err != nil {
		return err
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, r := range served {
		wait.Go(func() { follow(ctx, c.Client.Dynamic, c.sink(r)) })
	}
	if err := c.readExceptions(ctx); err != nil {
		return err
	}
	c.Log.Info("reports begin", "resources", len(served), "forms", len(c.forms))
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.readExceptions(ctx); err != nil && ctx.Err() == nil {
			c.Log.Warn("exceptions were not read: those known hold", "error", err)
			c.count(func(f *figures) { f.failures++ })
		}
		if c.ready(served) && c.keeper.Pending() {
			c.round(ctx)
		}
	}
}

// findForms finds which reports the cluster has. None is an error: there is nowhere to write to.
func (c *Controller) findForms() error {
	for _, f := range Forms() {
		ok, err := c.Client.Serves(f.Namespaced)
		if err != nil {
			return err
		}
		if ok {
			c.forms = append(c.forms, f)
		}
	}
	if len(c.forms) == 0 {
		var groups []string
		for _, f := range Forms() {
			groups = append(groups, f.Namespaced.GroupVersion().String())
		}
		return fmt.Errorf("%s has no reports: install the definitions of %s", c.Client.Name, strings.Join(groups, " or "))
	}
	return nil
}

// readReports learns what the last controller wrote.
func (c *Controller) readReports(ctx context.Context) error {
	owned := metav1.ListOptions{LabelSelector: admission.OwnerLabel + "=" + admission.Owner, Limit: 500}
	f := c.forms[0]
	for _, r := range []schema.GroupVersionResource{f.Namespaced, f.Cluster} {
		for options := owned; ; {
			page, err := c.Client.Dynamic.Resource(r).List(ctx, options)
			if err != nil {
				return fmt.Errorf("list reports: %w", err)
			}
			for _, u := range page.Items {
				if h, err := strconv.ParseUint(u.GetAnnotations()[hashAnnotation], 16, 64); err == nil {
					c.said[u.GetName()] = h
				}
			}
			if options.Continue = page.GetContinue(); options.Continue == "" {
				break
			}
		}
	}
	return nil
}

// sink connects the watch of a resource with the keeper.
func (c *Controller) sink(r cluster.Served) *sink {
	return &sink{resource: r.Resource,
		change: func(u *unstructured.Unstructured) { c.keeper.Change(r.Resource, u) },
		remove: func(namespace, name string) { c.keeper.Remove(Key{r.Resource, namespace, name}) },
		keep: func(all []*unstructured.Unstructured) {
			keys := make(map[Key]bool, len(all))
			for _, u := range all {
				keys[Key{r.Resource, u.GetNamespace(), u.GetName()}] = true
			}
			c.keeper.Keep(r.Resource, keys)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.synced[r.Resource] = true
		}}
}

// ready reports whether every resource was listed: before, what looks at others would be told that they are not there.
func (c *Controller) ready(served []cluster.Served) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(served, func(r cluster.Served) bool { return !c.synced[r.Resource] })
}

// round judges what changed and writes the reports that say something new.
func (c *Controller) round(ctx context.Context) {
	began := c.Now()
	r := c.keeper.Round(ctx, began)
	wrote, failed := 0, 0
	for _, j := range r.Judged {
		changed, err := c.write(ctx, j, began)
		switch {
		case err != nil && ctx.Err() == nil:
			failed++
			c.Log.Warn("a report was not written: it is tried again when its object changes", "object", j.Self.GetKind()+" "+j.Self.GetNamespace()+"/"+j.Self.GetName(), "error", err)
		case changed:
			wrote++
		}
	}
	for _, self := range r.Gone {
		c.remove(ctx, self)
	}
	c.count(func(f *figures) {
		f.rounds++
		f.judged += len(r.Judged)
		f.written += wrote
		f.failures += failed
		f.took = c.Now().Sub(began)
		for _, j := range r.Judged {
			f.note(string(j.Self.GetUID()), j.Outcomes)
		}
		for _, self := range r.Gone {
			f.note(string(self.GetUID()), nil)
		}
	})
	c.Log.Debug("round", "judged", len(r.Judged), "written", wrote, "gone", len(r.Gone), "took", c.Now().Sub(began))
}

// write writes an object's report in every form, if it says something new.
func (c *Controller) write(ctx context.Context, j Judged, now time.Time) (changed bool, err error) {
	uid := string(j.Self.GetUID())
	h := hashOf(j.Outcomes)
	c.mu.Lock()
	before, ok := c.said[uid]
	c.mu.Unlock()
	if ok && before == h {
		return false, nil
	}
	var errs []error
	for _, f := range c.forms {
		report := f.Make(j.Self, j.Outcomes, now)
		report.SetAnnotations(map[string]string{hashAnnotation: strconv.FormatUint(h, 16)})
		r, _ := f.Of(j.Self.GetNamespace())
		_, err := c.Client.Dynamic.Resource(r).Namespace(j.Self.GetNamespace()).Apply(ctx, uid, report, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said[uid] = h
	return true, nil
}

func hashOf(outcomes []Outcome) uint64 {
	h := fnv.New64a()
	var lines []string
	for _, o := range outcomes {
		lines = append(lines, o.Control.ID+"\x00"+o.Result+"\x00"+o.Message+"\x00"+o.Exception)
	}
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Fprintln(h, l)
	}
	return h.Sum64()
}

// remove takes a report away. The cluster does so too, because the object owns it, but not at once.
func (c *Controller) remove(ctx context.Context, self *unstructured.Unstructured) {
	uid := string(self.GetUID())
	for _, f := range c.forms {
		r, _ := f.Of(self.GetNamespace())
		err := c.Client.Dynamic.Resource(r).Namespace(self.GetNamespace()).Delete(ctx, uid, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			c.Log.Warn("a report was not removed: the cluster does so, because its object is gone", "report", uid, "error", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.said, uid)
}

// stateOf is a text that changes with what must be done anew: exceptions that came, went or ended, and settings.
func stateOf(found []*exception.Exception, invalid int, settings *admission.Settings, now time.Time) (string, error) {
	type one struct {
		Name    string
		Spec    any
		Expired bool
	}
	all := []one{}
	for _, e := range found {
		all = append(all, one{e.Name, e.Spec, e.Expired(now)})
	}
	text, err := json.Marshal([]any{all, invalid, settings})
	if err != nil {
		return "", fmt.Errorf("compare exceptions: %w", err)
	}
	return string(text), nil
}

// readExceptions looks whether exceptions came, went or ended. Then everything is judged anew, the policies of admission are
// compiled without what has ended, and each exception is told its state.
func (c *Controller) readExceptions(ctx context.Context) error {
	found, invalid, err := c.Client.Exceptions(ctx)
	if err != nil {
		return err
	}
	settings, err := c.Client.Settings(ctx)
	if err != nil {
		return err
	}
	now := c.Now()
	state, err := stateOf(found, len(invalid), settings, now)
	if err != nil {
		return err
	}
	if c.excepted == state {
		return nil
	}
	set, errs := exception.NewSet(found, c.Judge.Controls)
	for _, err := range append(invalid, errs...) {
		c.Log.Warn("an exception excuses nothing", "error", err)
	}
	c.keeper.SetExceptions(set)
	c.excepted = state
	c.count(func(f *figures) { f.exceptions, f.expired = 0, 0 })
	for _, e := range found {
		expired := e.Expired(now)
		c.count(func(f *figures) {
			if expired {
				f.expired++
			} else {
				f.exceptions++
			}
		})
		if err := c.Client.SetExceptionState(ctx, e.Name, expired); err != nil {
			c.Log.Warn("an exception was not told its state", "exception", e.Name, "error", err)
		}
	}
	if settings == nil || !c.Admission {
		return nil
	}
	return c.admit(ctx, settings, found, now)
}

// admit compiles admission anew.
func (c *Controller) admit(ctx context.Context, s *admission.Settings, found []*exception.Exception, now time.Time) error {
	plan, _, err := s.Plan(found, now)
	if err != nil {
		return err
	}
	if plan.Target, err = c.Client.Target(); err != nil {
		return err
	}
	bundle, err := admission.Compile(plan)
	if err != nil {
		return err
	}
	changes, err := c.Client.Apply(ctx, bundle, false)
	if err != nil {
		return err
	}
	for _, change := range changes {
		if change.What != "unchanged" {
			c.Log.Info("admission changed", "what", change.What, "kind", change.Kind, "name", change.Name)
		}
	}
	return nil
}
