// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// Detection is a rule over events and how it is doing; vigie.v1.Detection documents the fields.
type Detection struct {
	ID, Title                  string
	Severity                   model.Severity
	Tags                       []string
	Types                      []model.Type
	Action, Source             string
	Disabled                   bool
	Alerts, Suppressed, Errors uint64
}

// ListDetections implements the API.
func (s *service) ListDetections(context.Context, *connect.Request[pb.ListDetectionsRequest]) (*connect.Response[pb.ListDetectionsResponse], error) {
	m := new(pb.ListDetectionsResponse)
	for _, d := range s.backend.Detections() {
		out := &pb.Detection{Id: d.ID, Title: d.Title, Severity: string(d.Severity), Tags: d.Tags, Action: d.Action, Source: d.Source,
			Disabled: d.Disabled, Alerts: d.Alerts, Suppressed: d.Suppressed, Errors: d.Errors}
		for _, t := range d.Types {
			out.Types = append(out.Types, string(t))
		}
		m.Detections = append(m.Detections, out)
	}
	return connect.NewResponse(m), nil
}
