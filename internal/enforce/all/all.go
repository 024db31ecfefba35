// SPDX-License-Identifier: Apache-2.0

// Package all lists the back-ends. In: what they share. Out: every back-end, the best first. A new one is one folder and
// one line here.
package all

import (
	"log/slog"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/enforce/execkill"
	"github.com/vigie-io/vigie/internal/enforce/lsm"
	"github.com/vigie-io/vigie/internal/enforce/network"
)

// Options are what the back-ends are given.
type Options struct {
	Prober lsm.Prober
	Log    *slog.Logger // of what a back-end does without; nil: nobody reads it
}

// Backends returns every back-end, the best first: of two that carry an operation equally well, the first does.
func Backends(o Options) []enforce.Backend {
	return []enforce.Backend{
		lsm.New(o.Prober),
		lsm.NewModRet(o.Prober),
		execkill.Backend{},
		network.New(network.Options{Log: o.Log, Prober: o.Prober}),
	}
}
