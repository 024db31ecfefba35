// SPDX-License-Identifier: Apache-2.0

// Package sensor says what a sensor is. A sensor owns one .bpf.c file and turns its records into events.
// In: the kernel.Host that loads and attaches its programs. Out: a decoder for each record type, and the
// start-up inventory of what was there before.
package sensor

import (
	"context"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

// Sensor observes one family of things. A Sensor is started once.
type Sensor interface {
	// Name is the sensor's folder: "exec", "file", …
	Name() string
	// Start loads and attaches. What it attached stays with the host, which detaches it. An
	// error leaves nothing attached that matters: the agent runs on without the sensor and says so.
	Start(ctx context.Context, h *kernel.Host) error
	// Rung says which hook carries the sensor here, for `vigie status`: "tp_btf", "sys_exit + security_path_* fentry", …
	Rung() string
	// Decoders are the record types that this sensor writes, each with its decoder.
	Decoders() map[kernel.RecordType]Decode
}

// Decode fills ev from a record: its type and its one part, and ev.Process where the record describes a
// whole image. The agent has set what the header says (Time, Key, TID, Count, PreExisting) already. The record is
// valid only during the call. Decode is pure but for state that the sensor documents; false with a nil error means
// that the record needs no event (yet).
type Decode func(r kernel.Record, ev *model.Event) (bool, error)

// Optional is implemented by sensors that run only where they are asked for.
type Optional interface {
	// Off says why the sensor is not to be started; empty when it is.
	Off() string
}

// Inventory is implemented by sensors that can list what existed before they were started. fn gets the
// same records as the rings would carry, flagged pre-existing.
type Inventory interface {
	Inventory(ctx context.Context, h *kernel.Host, fn func(kernel.Record) error) error
}

// ArgsFiller is implemented by the sensor that finds processes: it adds what the inventory's records cannot hold.
type ArgsFiller interface {
	FillArgs(p *model.Process)
}

// Flusher is implemented by sensors that hold something back (folded counts, unanswered questions) and
// give it out with time. The agent calls Flush about once a second and once at the end, from
// the goroutine that also decodes.
type Flusher interface {
	Flush(emit func(*model.Event), final bool) error
}
