// SPDX-License-Identifier: Apache-2.0

// Package export says what an exporter is: something that takes events to a place outside, by itself. In: a
// subscription of its own. Out: whatever its destination wants. A destination that is slow or gone costs that
// exporter events, which it counts; nobody else notices. Delivery is the part that all of them share which send
// over a connection: a bounded queue, retries and the count of what was lost.
package export

import (
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Encoder appends an event as one JSON object, without a newline; nothing when it has no word for it. It may be called from
// several goroutines.
type Encoder func(dst []byte, e *model.Event) []byte

// Exporter takes events to one destination.
type Exporter interface {
	// Name is the exporter's stage in the table of losses, and what status calls it: "export json".
	Name() string
	// Subscribe says what it wants.
	Subscribe() pipeline.SubscribeOptions
	// Run delivers until the subscription ends, and then what it still holds. Errors: what made it give up;
	// a destination that may come back is no reason to.
	Run(*pipeline.Subscription) error
	// Reopen is called after files may have been moved away (SIGHUP). It may run beside Run.
	Reopen() error
	// Stats may be called at any time.
	Stats() Stats
}

// Stats is how an exporter is doing. Its counts begin with the agent and count events; of metrics, exports.
type Stats struct {
	Waiting  uint64 // in its own queue
	Sent     uint64 // taken by the destination
	Retried  uint64 // sent again, once for each time
	Lost     uint64 // by the exporter itself; what the hub dropped for it is the subscription's
	Trouble  string // what keeps it from delivering now; empty when nothing does
	Capacity uint64 // bytes that may wait
	Bytes    uint64 // that wait
}
