// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
)

// replay is Run with a capture as its source: everything above the kernel is as it was when it was recorded. It
// needs no privilege. At the end of the capture the agent goes on answering until ctx ends, unless it exports:
// then the export is what was wanted, and it is complete.
func (a *Agent) replay(ctx context.Context) error {
	r, err := capture.Open(a.config.Replay)
	if err != nil {
		return cannot{fmt.Errorf("replay: %w", err)}
	}
	defer r.Close()
	header := r.Header()
	if len(header.BootID) < 8 {
		return cannot{fmt.Errorf("replay %s: the capture names no boot: record it again", a.config.Replay)}
	}
	a.bootWhole, a.boot, a.replayed = header.BootID, shortBoot(header.BootID), header
	a.newTable(nil)
	a.policies = a.newPolicies(nil)
	return a.serve(ctx, func(ctx context.Context) error {
		a.ready()
		err := capture.Replay(ctx, r, capture.ReplayOptions{Speed: a.config.Speed}, func(batch []*model.Event) error {
			for _, ev := range batch {
				a.table.Restore(ev)
			}
			a.river.batch = append(a.river.batch, a.played.add(batch)...)
			a.river.flush()
			return nil
		})
		a.river.batch = append(a.river.batch, a.played.flush(true)...)
		a.river.flush()
		var damaged *capture.Error
		switch {
		case errors.As(err, &damaged) && damaged.Interrupted:
			a.log.Warn("the recording was cut off: all that is whole was played", "capture", a.config.Replay, "at", damaged.Offset, "reason", damaged.Reason)
		case errors.As(err, &damaged):
			return fmt.Errorf("replay %s: what was whole was played, then: %w", a.config.Replay, err)
		case err != nil:
			return err
		default:
			a.log.Info("the capture was played to its end", "capture", a.config.Replay)
		}
		if a.config.ExportJSON == "" {
			<-ctx.Done()
		}
		return nil
	})
}
