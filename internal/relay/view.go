// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// Peer is who asks the relay something.
type Peer interface {
	String() string
	// MayChange is nil for who may change what agents do, else the answer.
	MayChange() error
}

// The bounds of streams: those of an agent.
const (
	maxStreams    = 128
	streamTimeout = 10 * time.Minute // for a client that reads nothing
)

// viewer is one client's open stream.
type viewer struct {
	relay *Relay
	peer  string
	pace  Pace
}

// view begins the stream of the request that ctx belongs to. The caller closes it.
func (r *Relay) view(ctx context.Context) (*viewer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) >= maxStreams {
		return nil, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d streams are open, no more are allowed: end one, see the subscribers in `vigie status`", len(r.streams)))
	}
	select {
	case <-r.stopping:
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the relay stops"))
	default:
	}
	v := &viewer{relay: r, peer: r.o.Peer(ctx).String(), pace: r.o.Pace(ctx)}
	r.streams[v] = struct{}{}
	r.running.Add(1)
	return v, nil
}

func (v *viewer) close() {
	v.relay.mu.Lock()
	defer v.relay.mu.Unlock()
	delete(v.relay.streams, v)
	v.relay.running.Done()
}

// send gives a client time to take what f sends.
func (v *viewer) send(f func() error) error { return v.pace.Send(streamTimeout, f) }

// viewers lists the open streams, ordered by peer.
func (r *Relay) viewers() []*pb.SubscriberStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*pb.SubscriberStatus
	for v := range r.streams {
		out = append(out, &pb.SubscriberStatus{Name: "client", Peer: v.peer})
	}
	slices.SortFunc(out, func(a, b *pb.SubscriberStatus) int { return strings.Compare(a.GetPeer(), b.GetPeer()) })
	return out
}

// passed counts what was passed on to a client.
func (r *Relay) passed(batch []entry[seen]) {
	byType := make(map[string]uint64, 4)
	byNode := make(map[*node][2]uint64, 4)
	for _, e := range batch {
		byType[e.value.event.GetType()]++
		c := byNode[e.node]
		c[0]++
		if l := e.value.event.GetLoss(); l != nil && (l.GetStage() == "subscriber" || l.GetStage() == stage) {
			c[1] += max(l.GetCount(), 1)
		}
		byNode[e.node] = c
	}
	for n, c := range byNode {
		n.count(func(n *node) { n.events += c[0]; n.lost += c[1] })
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, c := range byType {
		r.relayed[t] += c
	}
}

// stage is the place where the relay itself misses something, in loss events.
const stage = "relay"

// unhurried gives a call as long as its answer may take; the server's own deadline is shorter.
func (r *Relay) unhurried(ctx context.Context, d time.Duration) {
	r.o.Within(ctx, d+10*time.Second)
}
