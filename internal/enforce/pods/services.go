// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vigie-io/vigie/internal/kernel"
)

// writeServices makes the maps hold the services that are planned; what stands behind them where nobody sees translations.
func (e *Enforcer) writeServices(p *plan) error {
	for k, endpoints := range p.services {
		was, there := e.in.services[k]
		if there && (e.forward != nil || slices.Equal(was.endpoints, endpoints)) {
			continue
		}
		now := service{endpoints: endpoints}
		if e.forward == nil {
			e.next++
			now.Number, now.Backends = e.next, uint32(len(endpoints))
			if err := e.writeBackends(now.Number, endpoints); err != nil {
				return err
			}
		}
		if err := put(e.objs.VgNpServices, k, now.bpfVgNpService, "services"); err != nil {
			return err
		}
		e.in.services[k] = now
		if err := e.removeBackends(was.bpfVgNpService); err != nil {
			return err
		}
	}
	return nil
}

func (e *Enforcer) writeBackends(number uint32, endpoints []netip.AddrPort) error {
	keys, values := make([]bpfVgNpBackendKey, len(endpoints)), make([]bpfVgNpBackend, len(endpoints))
	for i, to := range endpoints {
		keys[i] = bpfVgNpBackendKey{Number: number, Index: uint32(i)}
		values[i] = bpfVgNpBackend{Addr: to.Addr().As16(), Port: kernel.NetworkOrder(to.Port())}
	}
	return putAll(e.objs.VgNpBackends, keys, values, "endpoints of services")
}

func (e *Enforcer) removeBackends(s bpfVgNpService) error {
	var errs []error
	for i := range s.Backends {
		errs = append(errs, remove(e.objs.VgNpBackends, bpfVgNpBackendKey{Number: s.Number, Index: i}))
	}
	return errors.Join(errs...)
}
