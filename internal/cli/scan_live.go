// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/vigie-io/vigie/internal/posture/live"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// liveFlags say whether an agent is asked what containers did.
type liveFlags struct {
	on    bool
	least time.Duration // how long it must have watched
	agent target
}

func (l *liveFlags) flags(f *pflag.FlagSet, usage string) {
	f.BoolVar(&l.on, "live", false, usage)
	l.agent.flags(f)
}

// source is the agent; nil when none is asked.
func (l *liveFlags) source(ctx context.Context, env Env) (*live.Source, error) {
	if !l.on {
		return nil, nil
	}
	client, err := l.agent.dial()
	if err != nil {
		return nil, err
	}
	source, err := live.Ask(ctx, client, env.Now)
	return source, l.agent.explain(err)
}

// adjust raises and lowers the findings of a report.
func (l *liveFlags) adjust(ctx context.Context, env Env, r *scan.Report) error {
	source, err := l.source(ctx, env)
	if err != nil || source == nil {
		return err
	}
	live.Adjust(r, source, l.least)
	return l.agent.explain(source.Err())
}
