// SPDX-License-Identifier: Apache-2.0

// Package execkill is the last rung below an exec: SIGKILL at sched_process_exec, before the new program runs its first
// instruction. In: nothing. Out: the guarantee. The program is a part of internal/enforce/subject, which judges every exec
// there anyway, whatever stands before it.
package execkill

import (
	"context"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/model"
)

// Backend implements enforce.Backend.
type Backend struct{}

// Name implements enforce.Backend.
func (Backend) Name() string { return "execkill" }

// Carries implements enforce.Backend.
func (Backend) Carries(op model.Operation) (enforce.Carried, error) {
	if op != model.OpExec {
		return enforce.Carried{}, enforce.ErrOtherOperations
	}
	return enforce.Carried{Rung: "SIGKILL at sched_process_exec", Guarantee: model.KilledBefore,
		Limits: []string{"a script is known by the name that it was called by"}}, nil
}

// Attach implements enforce.Backend.
func (Backend) Attach(context.Context, enforce.Kernel, []model.Operation) error { return nil }

// Load implements enforce.Backend.
func (Backend) Load(context.Context, []enforce.Loaded) error { return nil }

// Close implements enforce.Backend.
func (Backend) Close() error { return nil }
