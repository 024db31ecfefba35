// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat/hubble"
)

// mountHubble makes Hubble's API and says where it is served. By default it gives way to whatever has the port, such as a
// port-forward to hubble-relay; an address that was asked for must be had.
func (a *Agent) mountHubble() server.Mount {
	a.hubble = hubble.New(hubble.Options{Backend: a, Log: a.log})
	if a.config.HubbleAPI != Off {
		a.river.observers = append(a.river.observers, a.hubble.See)
	}
	return server.Mount{Option: "--hubble-api", Addr: a.config.HubbleAPI, Socket: a.config.hubbleSocket(), TLS: true,
		Services: []string{hubble.Observer}, Handler: a.hubble.Handler(), Yield: a.config.HubbleAPI == DefaultHubbleAPI, Wait: a.hubble.Wait}
}
