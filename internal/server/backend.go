// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/filter"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Backend is what the server needs of the agent. All of it may be called at any time from any goroutine.
type Backend interface {
	// Subscribe begins a stream of events.
	Subscribe(pipeline.SubscribeOptions) *pipeline.Subscription
	// Events reads what happened. An event must be readable here before it is published to subscriptions:
	// a stream that begins with recent events relies on it to have no gap.
	Events(context.Context, EventQuery) (EventPage, error)

	// Aggregate counts what happened. Errors: a *RefusedError says what makes no sense.
	Aggregate(context.Context, AggregateQuery) (AggregateTable, error)

	// Processes lists the running processes, and with ended also those that are still known, in any order.
	Processes(ended bool) []*model.Process
	// Process is the image with that exec_id, or nil.
	Process(execID string) *model.Process
	// ProcessByPID is the process that has this pid or had it last, or nil.
	ProcessByPID(pid uint32) *model.Process
	// Ancestors are the images that led to p, the parent first.
	Ancestors(p *model.Process) []*model.Process
	// Children are the running processes that p started, in any order.
	Children(p *model.Process) []*model.Process
	// Descends reports whether the process with pid is p itself or one of its ancestors.
	Descends(p *model.Process, pid uint32) bool

	// Detections lists the rules over events, by id.
	Detections() []Detection

	Self

	// ApplyPolicies brings the policies of a text in force, all or none, and returns them as they are then. Of this and
	// what follows: a *RefusedError says why not.
	ApplyPolicies(context.Context, PolicyText) ([]Policy, error)
	// SetPolicyMode switches a policy between audit and enforce.
	SetPolicyMode(ctx context.Context, name, mode string) (Policy, error)
	// DeletePolicy takes a policy out of force.
	DeletePolicy(ctx context.Context, name string) error
	// SimulatePolicies judges the history by policies that are not in force.
	SimulatePolicies(context.Context, SimulationQuery) (Simulation, error)
	// LearnPolicy writes a policy from the history of a workload.
	LearnPolicy(context.Context, LearnQuery) (LearnedPolicy, error)
	// ExplainEvent says what the policies in force say of an event.
	ExplainEvent(ctx context.Context, seq uint64) (ExplainedEvent, error)
}

// Self is how what answers is itself doing: of metrics and probes.
type Self interface {
	// Status says how the agent is doing. The server adds its clients.
	Status() Status
	// Problems lists what does not work (yet), each with what to do; empty when the agent is ready.
	Problems() []string
	// Policies lists the policies, ordered by name.
	Policies() []Policy
}

// EventQuery says what to read of the past.
type EventQuery struct {
	Filter      *filter.Filter // nil takes all
	NewestFirst bool
	Recent      bool        // only what is in memory
	Limit       int         // events in a page, at least 1
	Cursor      EventCursor // EventPage.Next of the page before; zero for the first page
}

// EventCursor is a place among all events that there are: the run of the agent, and the number of the event in it.
type EventCursor struct {
	Run int64
	Seq uint64
}

// EventPage is a part of the answer to an EventQuery.
type EventPage struct {
	Events []*model.Event
	Next   EventCursor // cursor of the next page; zero when there is none
	// LastSeq is the greatest number among the events that are of this run of the agent; 0 when none is.
	LastSeq uint64
	// CompleteSince: no event from this moment on is missing.
	CompleteSince time.Time
}

// Status is how the agent is doing; vigie.v1.Status documents the fields.
type Status struct {
	Version, Commit string
	Host            string
	Node            string // what the host is called in a cluster
	Kernel, Arch    string
	BootID          string // whole; exec_ids carry its first eight digits
	Started         time.Time
	Replay          bool
	Sensors         []Sensor
	Queues          []Queue
	Losses          []pipeline.LossCount
	Events          map[model.Type]uint64
	ProcessTable    ProcessTable
	Store           Store
	History         *History          // nil when it is off
	Subscribers     []Subscriber      // the agent's own: exporters and the like
	Kubernetes      *Kubernetes       // nil where there is none
	MapBytes        uint64            // memory of BPF maps
	Config          map[string]string // in use, by option name, without secrets
}

// Kubernetes is how the API server is followed.
type Kubernetes struct {
	Server, Node    string
	Synced          bool      // everything has been read since the start
	Problems        []string  // empty when all is well
	Heard, Restored time.Time // last heard of; from when what the agent began with is
	Watches         int
	Pods, OwnPods   int
	EventsSent      uint64
}

// Pods is who knows the pods of a cluster.
type Pods interface {
	// Pods lists them, in no order. The list is the caller's, what is in it is not.
	Pods() []*model.Pod
}

// Sensor is the state of one sensor.
type Sensor struct {
	Name     string
	State    string // on, off, failed
	Rung     string
	Message  string
	Programs []Program
}

// Program is what one BPF program has cost, while the kernel's statistics are on.
type Program struct {
	Name     string
	ID       uint32
	RunCount uint64
	RunTime  time.Duration
}

// Queue is how full a bounded queue is.
type Queue struct {
	Name             string
	Length, Capacity uint64
	Unit             string // bytes, events
}

// ProcessTable is the size of the process table.
type ProcessTable struct {
	Live, Ended, Capacity uint64
	Evictions             uint64
}

// Store is what the memory store holds.
type Store struct {
	Events, MaxEvents uint64
	Bytes, MaxBytes   uint64
	CompleteSince     time.Time
}

// History is what history on disk holds.
type History struct {
	Directory             string
	Events, Segments      uint64
	Bytes, MaxBytes       uint64
	Oldest                time.Time // of the events on disk; zero when there is none
	MaxAge, WriteInterval time.Duration
}

// Subscriber is one receiver of events.
type Subscriber struct {
	Name, Peer   string
	Queued, Lost uint64

	// Of exporters:
	Exporter                bool
	Sent, Retried           uint64
	Trouble                 string // what keeps it from delivering now
	QueuedBytes, QueueBytes uint64 // what waits, and may wait, in its own queue
}
