// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"connectrpc.com/connect"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/live"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// liveLast is with how many past events a live view begins.
const liveLast = 500

// liveSource is an agent as the live view asks it.
type liveSource struct{ client vigiev1connect.VigieClient }

// Follow implements live.Source.
func (s liveSource) Follow(ctx context.Context, emit func([]*model.Event)) error {
	stream, err := s.client.StreamEvents(ctx, connect.NewRequest(&vigiev1.StreamEventsRequest{Last: liveLast}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		batch := make([]*model.Event, 0, len(stream.Msg().GetEvents()))
		for _, e := range stream.Msg().GetEvents() {
			batch = append(batch, wire.FromProto(e))
		}
		emit(batch)
	}
	return stream.Err()
}

// Processes implements live.Source.
func (s liveSource) Processes(ctx context.Context) ([]live.Host, error) {
	hosts, _, err := processesByNode(ctx, s.client, &vigiev1.Filter{}, false)
	out := make([]live.Host, len(hosts))
	for i, h := range hosts {
		out[i] = live.Host{Node: h.node, Processes: h.procs}
	}
	return out, err
}

// Status implements live.Source.
func (s liveSource) Status(ctx context.Context) (*vigiev1.Status, *vigiev1.HealthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return askStatus(ctx, s.client)
}
