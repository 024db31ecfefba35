// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/vigie-io/vigie/internal/flow"
	"github.com/vigie-io/vigie/internal/model"
)

// newFlows puts the flow table into the river: it sees every event, and its reports follow them.
func (a *Agent) newFlows() {
	a.flows = flow.New(flow.Options{Losses: a.losses, Wall: a.clock.wall, Current: a.table.Get})
	a.river.observers = append(a.river.observers, a.flows.See)
	a.river.sources = append(a.river.sources, func(emit func(*model.Event)) {
		a.flows.Flush(a.clock.boottime(), a.river.final, emit)
	})
}
