// SPDX-License-Identifier: Apache-2.0

package agent

import "github.com/vigie-io/vigie/internal/server"

// exporters are what writes events to places outside, each behind a queue of its own.
type exporters struct{}

func (a *Agent) startExporters() (*exporters, error) { return &exporters{}, nil }

func (e *exporters) list() []server.Subscriber { return nil }
func (e *exporters) reopen()                   {}
func (e *exporters) wait() error               { return nil }
