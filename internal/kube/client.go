// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Options are what a Client needs.
type Options struct {
	Choice  string // as RestConfig takes it
	Node    string // name of this node; empty for the host's name, as kubelet does by default
	Version string // of vigie, told to the API server
	// StateDir is where what is known is kept for the next start; empty for nowhere.
	StateDir string
	// OwnPodsOnly leaves out the pods of other nodes: their addresses have no names then, and policies cannot select them.
	OwnPodsOnly bool
	Log         *slog.Logger
	Losses      *pipeline.Losses // under the stage "kube"
	Now         func() time.Time // time.Now when nil
}

// Client follows the API server.
type Client struct {
	options Options
	config  *rest.Config
	api     clients
	traffic *traffic
	view    *View
	events  *Events
	reports *Reports
	jobs    chan struct{} // there may be Jobs whose owners are not known

	resources []*resource
	restored  time.Time // when what it began with was saved; zero: with nothing
	saved     atomic.Uint64
	away      atomic.Bool
}

// saveEvery is how often what is known is written to disk when it has changed: what kill -9 loses at most is newer than that.
const saveEvery = 30 * time.Second

// Open prepares to follow the API server, and knows at once what was known when the agent ran last. It asks the API server nothing:
// Run does. Errors: ErrNotConfigured, or what is wrong with the configuration.
func Open(o Options) (*Client, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	config, err := RestConfig(o.Choice, o.Version)
	if err != nil {
		return nil, err
	}
	if o.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("find this node's name (give --node-name): %w", err)
		}
		o.Node = strings.ToLower(name)
	}
	return open(o, config)
}

func open(o Options, config *rest.Config) (*Client, error) {
	c := &Client{options: o, config: config, traffic: newTraffic(o.Now), view: newView(o.Node, o.Now), jobs: make(chan struct{}, 1)}
	var err error
	if c.api, err = newClients(config, c.traffic.through); err != nil {
		return nil, err
	}
	c.events, c.reports = newEvents(c.api.events, o), newReports(c.api.events, o)
	c.resources = c.follow()
	if o.StateDir != "" {
		st, err := load(c.stateFile(), config.Host, o.Node)
		if err != nil {
			o.Log.Warn("begins without what was known of the cluster", "error", err)
		}
		if st != nil {
			c.view.restore(st)
			c.restored = st.Saved
		}
	}
	return c, nil
}

func (c *Client) stateFile() string { return filepath.Join(c.options.StateDir, "kube.json.zst") }

// View is what is known of the cluster.
func (c *Client) View() *View { return c.view }

// Events are Kubernetes Events about pods.
func (c *Client) Events() *Events { return c.events }

// Reports are reports about pods.
func (c *Client) Reports() *Reports { return c.reports }

// Run follows the API server until ctx ends, and waits for what it has started. An API server that is away is asked again, less
// and less often; nothing of this is an error.
func (c *Client) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	for _, r := range c.resources {
		tasks.Go(func() { c.reflect(ctx, r) })
	}
	tasks.Go(func() { c.askOwners(ctx) })
	tasks.Go(func() { c.events.run(ctx) })
	tasks.Go(func() { c.reports.run(ctx) })
	tasks.Go(func() { c.keep(ctx) })
	tasks.Wait()
	c.saveNow()
}

// keep writes what is known to disk from time to time, and says when the API server goes away and comes back.
func (c *Client) keep(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if away := c.traffic.failure(); (away != nil) != c.away.Load() {
			c.away.Store(away != nil)
			if away != nil {
				c.options.Log.Warn("the API server does not answer: pods are named from the last known state", "error", away)
			} else {
				c.options.Log.Info("the API server answers")
			}
		}
		if tick%int(saveEvery/time.Second) == 0 {
			c.saveNow()
		}
	}
}

// saveNow writes what is known to disk when it has changed. What is known in part only, while it is read for the first time, does not
// take the place of what was known.
func (c *Client) saveNow() {
	select {
	case <-c.view.Synced():
	default:
		return
	}
	s := c.view.Snapshot()
	if c.options.StateDir == "" || s.Generation == c.saved.Load() {
		return
	}
	if err := save(c.stateFile(), c.config.Host, c.options.Node, s, c.options.Now()); err != nil {
		c.options.Log.Warn("the next agent will not know the cluster before the API server answers", "error", err)
		return
	}
	c.saved.Store(s.Generation)
}

// Status is how well the API server is followed.
type Status struct {
	Server string // its address
	Node   string
	// Synced: everything has been read since the start.
	Synced bool
	// Away is why the API server does not answer; nil when it does.
	Away error
	// Heard is when it was last heard of; zero: not since the start. Restored is from when what the agent began with is; zero: with
	// nothing.
	Heard, Restored time.Time
	Watches         int
	BytesReceived   uint64
	Resources       []ResourceStatus
	Pods, OwnPods   int
	Events          EventCounts
	Reports         ReportCounts
}

// ResourceStatus is of one kind of objects.
type ResourceStatus struct {
	Name    string
	Synced  time.Time // when it was last read whole; zero: not yet
	Changes uint64    // since the start
	Problem string    // why it is not followed now; empty when it is
}

// Status counts.
func (c *Client) Status() Status {
	s := Status{Server: c.config.Host, Node: c.options.Node, Away: c.traffic.failure(), Restored: c.restored,
		Watches: int(c.traffic.watches.Load()), BytesReceived: c.traffic.bytes.Load(), Events: c.events.Counts(), Reports: c.reports.Counts()}
	if at := c.traffic.heard.Load(); at != 0 {
		s.Heard = time.Unix(0, at)
	}
	select {
	case <-c.view.Synced():
		s.Synced = true
	default:
	}
	for _, r := range c.resources {
		s.Resources = append(s.Resources, r.status())
	}
	s.Pods, s.OwnPods = c.view.countPods()
	return s
}

// Problems are what a person should know of: empty when all is well.
func (s *Status) Problems(now time.Time) []string {
	var out []string
	since := "since the agent started"
	if !s.Heard.IsZero() {
		since = "for " + now.Sub(s.Heard).Round(time.Second).String()
	}
	known := "pods are named from the last known state"
	if !s.Synced {
		known = "pods are named by the container runtime alone"
		if !s.Restored.IsZero() {
			known = "pods are named from the state of " + s.Restored.Format(time.RFC3339)
		}
	}
	if s.Away != nil {
		out = append(out, fmt.Sprintf("the API server at %s has not answered %s, %s: %s", s.Server, since, known, rootOf(s.Away)))
	}
	for _, r := range s.Resources {
		if r.Problem != "" && s.Away == nil {
			out = append(out, fmt.Sprintf("%s of the cluster are not followed: %s", r.Name, r.Problem))
		}
	}
	return out
}

// rootOf is the innermost error: what is around it names addresses that are told already.
func rootOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func (v *View) countPods() (all, own int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, e := range v.pods {
		if e.pod.Node == v.node {
			own++
		}
	}
	return len(v.pods), own
}
