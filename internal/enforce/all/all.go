// SPDX-License-Identifier: Apache-2.0

// Package all lists the back-ends. In: what they share. Out: every back-end, the best first. A new one is one folder and
// one line here.
package all

import (
	"log/slog"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/enforce/after"
	"github.com/vigie-io/vigie/internal/enforce/execkill"
	"github.com/vigie-io/vigie/internal/enforce/fanotify"
	"github.com/vigie-io/vigie/internal/enforce/lsm"
	"github.com/vigie-io/vigie/internal/enforce/network"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Options are what the back-ends are given.
type Options struct {
	Log    *slog.Logger // of what a back-end does without; nil: nobody reads it
	Losses *pipeline.Losses
	Prober lsm.Prober
	// Watchdog is the command of fanotify's watchdog, whole.
	Watchdog []string
	// FanotifyMounts are directories, and kinds of file systems ("overlay"): fanotify asks about opens only on mounts at or
	// below these, or of these kinds; anywhere when empty.
	FanotifyMounts []string
}

// Backends returns every back-end, the best first: of two that carry an operation equally well, the first does.
func Backends(o Options) []enforce.Backend {
	return []enforce.Backend{
		lsm.New(o.Prober),
		lsm.NewModRet(o.Prober),
		fanotify.New(fanotify.Options{Log: o.Log, Losses: o.Losses, Watchdog: o.Watchdog, Mounts: o.FanotifyMounts}),
		execkill.Backend{},
		after.New(),
		network.New(network.Options{Log: o.Log, Prober: o.Prober}),
	}
}
