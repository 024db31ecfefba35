// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	fl "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/vigie-io/vigie/internal/model"
)

// extend puts the event itself into the flow: the process with its arguments and its parent, both ends, the counters. It is
// the event's JSON (docs/events.md) as a google.protobuf.Struct and not a vigie.v1.Event, because a client that was not made
// with vigie's definitions fails to print JSON with a type in it that it does not know: `hubble observe -o json` would end
// with an error at the first flow.
func (c *converter) extend(f *fl.Flow, e *model.Event) {
	fields := new(structpb.Struct)
	if err := fields.UnmarshalJSON(e.AppendJSON(nil, c.agent().boot)); err != nil {
		return // a flow without its process is better than none; the JSON of events is tested
	}
	if packed, err := anypb.New(fields); err == nil {
		f.Extensions = packed
	}
}
