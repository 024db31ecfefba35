// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat/tetragon"
)

// mountTetragon makes Tetragon's API and says where it is served. By default it gives way to a Tetragon on the same host;
// an address that was asked for must be had.
func (a *Agent) mountTetragon() server.Mount {
	options := tetragon.Options{Backend: a, Log: a.log, Level: a.deps.LogLevel}
	if a.tracer != nil { // there is none when a capture is played
		options.Policies = tetragonPolicies{a.tracer, a.policies}
	}
	a.tetragon = tetragon.New(options)
	return server.Mount{Option: "--tetragon-api", Addr: a.config.TetragonAPI, Socket: a.config.tetragonSocket(),
		Handler: a.tetragon.Handler(), Yield: a.config.TetragonAPI == DefaultTetragonAPI, Wait: a.tetragon.Wait}
}
