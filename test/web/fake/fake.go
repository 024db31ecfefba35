// SPDX-License-Identifier: Apache-2.0

// Package fake serves the web page with a made-up map as large as is asked for, to measure how the page draws it. In: the
// numbers of nodes and edges. Out: the page, and the calls that it makes for the map.
package fake

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/ui"
)

// New makes the handler.
func New(nodes, edges int) (http.Handler, error) {
	page, err := ui.Page()
	if err != nil {
		return nil, fmt.Errorf("open the page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(vigiev1connect.NewVigieHandler(&agent{world: makeWorld(nodes, edges)}))
	mux.Handle("/", http.FileServerFS(page))
	return mux, nil
}

// agent answers for a world that it makes up.
type agent struct {
	vigiev1connect.UnimplementedVigieHandler
	world *world
}

// StreamMap sends the whole map, then each second a twentieth of its edges with other figures.
func (a *agent) StreamMap(ctx context.Context, _ *connect.Request[vigiev1.StreamMapRequest], s *connect.ServerStream[vigiev1.StreamMapResponse]) error {
	if err := s.Send(&vigiev1.StreamMapResponse{Whole: true, Nodes: a.world.nodes, Edges: a.world.edges}); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.Send(&vigiev1.StreamMapResponse{Edges: a.world.change()}); err != nil {
				return err
			}
		}
	}
}

// GetMap answers with all of the map.
func (a *agent) GetMap(context.Context, *connect.Request[vigiev1.GetMapRequest]) (*connect.Response[vigiev1.GetMapResponse], error) {
	return connect.NewResponse(&vigiev1.GetMapResponse{Nodes: a.world.nodes, Edges: a.world.edges}), nil
}

// ListFlows answers that none is open.
func (a *agent) ListFlows(context.Context, *connect.Request[vigiev1.ListFlowsRequest]) (*connect.Response[vigiev1.ListFlowsResponse], error) {
	return connect.NewResponse(new(vigiev1.ListFlowsResponse)), nil
}

// QueryEvents answers that nothing is remembered.
func (a *agent) QueryEvents(context.Context, *connect.Request[vigiev1.QueryEventsRequest]) (*connect.Response[vigiev1.QueryEventsResponse], error) {
	return connect.NewResponse(new(vigiev1.QueryEventsResponse)), nil
}

// GetStatus says as little as there is to say.
func (a *agent) GetStatus(context.Context, *connect.Request[vigiev1.GetStatusRequest]) (*connect.Response[vigiev1.GetStatusResponse], error) {
	return connect.NewResponse(&vigiev1.GetStatusResponse{Status: &vigiev1.Status{Host: "made-up"}}), nil
}
