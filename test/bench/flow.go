// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// The bars of flows.
const (
	barFlow          = 0.97 // of what passes without flows
	shortConnections = 50_000
	flowsInMemory    = 1_000_000
	barFlowMemory    = 600 << 20
	flowFollowers    = 100
	flowRate         = 5000 // short connections a second: the followers, on the same cores, decode a hundred times as many flows
)

// The arms of the comparison: the agent runs in both.
const (
	flowsOff = "off"
	flowsOn  = "on"
)

// flowLoads are what passes, and over what.
func flowLoads() []string { return []string{"rr lo", "rr veth", "stream lo", "stream veth"} }

// flowed is what followers saw of short connections.
type flowed struct {
	Made      int               `json:"made"`
	Rate      float64           `json:"rate"` // a second
	Followers []followed        `json:"followers"`
	Losses    map[string]uint64 `json:"losses"` // of the agent
}

// followed is what one follower got.
type followed struct {
	Flows int    `json:"flows"` // different ones
	Both  int    `json:"both"`  // of them with both processes
	Lost  uint64 `json:"lost"`  // as it was told
}

// flowCost measures TCP over loopback and over a pair of devices, with an agent that follows flows and one that does not, in turns.
func (b *bench) flowCost(ctx context.Context) error {
	arms := []string{flowsOff, flowsOn}
	for _, target := range flowLoads() {
		l := &load{name: "flow " + target, unit: "exchange", warm: warmUp, run: func(ctx context.Context, d time.Duration) (done, error) {
			return b.workers(ctx, job{kind: "flow", target: target, duration: d}, 1)
		}}
		for round, places := range measure.Order(b.n, len(arms), b.rng) {
			for place, i := range places {
				err := b.withAgent(ctx, func(*agent) error {
					s, err := takeSample(ctx, l, arms[i], b.sample)
					if err != nil {
						return err
					}
					s.Round, s.Place = round, place
					b.results.Flows = append(b.results.Flows, s)
					b.say("  %s round %d flows %s: %v", target, round+1, s.Arm, s.PerOp)
					return nil
				}, "--flows", arms[i])
				if err != nil {
					return fmt.Errorf("%s, round %d, flows %s: %w", target, round+1, arms[i], err)
				}
			}
		}
	}
	return nil
}

// flowFollow makes short connections while clients follow, and counts what each of them gets.
func (b *bench) flowFollow(ctx context.Context) error {
	return b.withAgent(ctx, func(a *agent) error {
		x := &flowed{Made: shortConnections, Followers: make([]followed, flowFollowers), Rate: flowRate}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		var group sync.WaitGroup
		errs := make([]error, flowFollowers)
		for i := range x.Followers {
			group.Go(func() {
				// Returns with the first flow.
				stream, err := a.client.StreamEvents(ctx, connect.NewRequest(&pb.StreamEventsRequest{
					Filter: &pb.Filter{Types: []string{"flow", "loss"}, Binaries: []string{b.worker}}}))
				if err != nil {
					errs[i] = fmt.Errorf("follow: %w", err)
					return
				}
				defer stream.Close()
				errs[i] = x.Followers[i].read(stream)
			})
		}
		if err := a.awaitClients(ctx, flowFollowers); err != nil {
			return err
		}
		d, err := b.workers(ctx, job{kind: "storm", count: shortConnections, rate: flowRate}, 1)
		if err != nil {
			return err
		}
		b.say("  %d connections in %v", d.Count, d.Elapsed)
		if err := a.awaitQuiet(ctx); err != nil {
			return err
		}
		cancel() // who has not got all by now does not get it
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		s, err := a.status(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		x.Losses = make(map[string]uint64)
		for _, l := range s.GetLosses() {
			if l.GetStage() != "subscriber" {
				x.Losses[l.GetStage()+": "+l.GetReason()] += l.GetCount()
			}
		}
		b.results.Flowed = x
		return nil
	}, "--max-flows", fmt.Sprint(2*shortConnections))
}

// awaitClients waits until as many clients follow.
func (a *agent) awaitClients(ctx context.Context, n int) error {
	for {
		s, err := a.status(ctx)
		if err != nil {
			return err
		}
		clients := 0
		for _, c := range s.GetSubscribers() {
			if c.GetName() == "client" {
				clients++
			}
		}
		if clients >= n {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitQuiet waits until nothing waits for a client any more, and no flow has been reported for a while.
func (a *agent) awaitQuiet(ctx context.Context) error {
	const quiet = 40 // readings of 50 ms
	for still, before := 0, uint64(0); still < quiet; {
		s, err := a.status(ctx)
		if err != nil {
			return err
		}
		waiting, flows := uint64(0), s.GetEvents()[string(model.TypeFlow)]
		for _, c := range s.GetSubscribers() {
			if c.GetName() == "client" {
				waiting += c.GetQueued()
			}
		}
		still++
		if waiting > 0 || flows != before {
			still = 0
		}
		before = flows
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// read takes flows until all are there or their loss was told, or the stream ends.
func (f *followed) read(stream *connect.ServerStreamForClient[pb.StreamEventsResponse]) error {
	seen := make(map[uint64]bool, shortConnections)
	for f.Flows+int(f.Lost) < shortConnections && stream.Receive() {
		for _, e := range stream.Msg().GetEvents() {
			switch {
			case e.GetLoss() != nil:
				if e.GetLoss().GetStage() == "subscriber" {
					f.Lost += e.GetLoss().GetCount()
				}
			case !seen[e.GetFlow().GetId()]:
				seen[e.GetFlow().GetId()] = true
				f.Flows++
				if e.GetFlow().GetDirection() == "local" {
					f.Both++
				}
			}
		}
	}
	if err := stream.Err(); connect.CodeOf(err) != connect.CodeCanceled {
		return err
	}
	return nil
}

// flowMemory fills a flow table in a process of its own.
func (b *bench) flowMemory(ctx context.Context) error {
	m, err := b.hire(ctx, job{kind: "flow table", count: flowsInMemory})
	if err != nil {
		return err
	}
	defer m.dismiss()
	before, _, err := memoryOf(m.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if err := m.begin(); err != nil {
		return err
	}
	d, err := m.result()
	if err != nil {
		return err
	}
	after, _, err := memoryOf(m.cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.results.FlowTable = &flowTable{Flows: d.Count, Bytes: after - before, Each: d.CPU / time.Duration(max(d.Count, 1))}
	b.say("  %d flows in %s", d.Count, mib(after-before))
	return nil
}

// flowTable is a full flow table.
type flowTable struct {
	Flows int           `json:"flows"`
	Bytes uint64        `json:"bytes"`
	Each  time.Duration `json:"each_ns"` // CPU of taking one in
}
