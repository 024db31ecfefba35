// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/vigie-io/vigie/internal/posture/live"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// liveFlags say whether an agent is asked what containers did, and how long it must have watched.
type liveFlags struct {
	on    bool
	least time.Duration
	agent target
}

func (l *liveFlags) flags(f *pflag.FlagSet) {
	f.BoolVar(&l.on, "live", false, "ask an agent what the containers did: findings are raised and lowered by it")
	f.DurationVar(&l.least, "watched", 24*time.Hour, "with --live: how long a container was watched before what was not seen counts")
	l.agent.flags(f)
}

// adjust asks the agent about the findings of a report.
func (l *liveFlags) adjust(ctx context.Context, env Env, r *scan.Report) error {
	if !l.on {
		return nil
	}
	client, err := l.agent.dial()
	if err != nil {
		return err
	}
	source, err := live.Ask(ctx, client, env.Now)
	if err != nil {
		return l.agent.explain(err)
	}
	live.Adjust(r, source, l.least)
	return l.agent.explain(source.Err())
}
