// SPDX-License-Identifier: Apache-2.0

// Package export says what an exporter is: something that takes events to a place outside, by itself. In: a
// subscription of its own. Out: whatever its destination wants. A destination that is slow or gone costs that
// exporter events, which it counts; nobody else notices.
package export

import "github.com/vigie-io/vigie/internal/pipeline"

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
}
