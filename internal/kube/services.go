// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/vigie-io/vigie/internal/model"
)

// ServiceName names a service.
type ServiceName struct{ Namespace, Name string }

// serviceEntry is a service and the EndpointSlices of its name, either of which can come first. It changes under View.mu.
type serviceEntry struct {
	bare     *model.ClusterService // without endpoints; nil: not known
	slices   map[string]endpoints  // by the slice's name
	composed atomic.Pointer[model.ClusterService]
}

// front is where a service is reached.
type front struct {
	addr     netip.Addr
	port     uint16
	protocol uint8
}

// ServiceByAddress is the service that is reached at an address: one of its own, or any node's with one of its node ports. protocol
// is IPPROTO_*. Nil when there is none.
func (v *View) ServiceByAddress(at netip.AddrPort, protocol uint8) *model.ClusterService {
	f := front{at.Addr().Unmap(), at.Port(), protocol}
	v.mu.RLock()
	defer v.mu.RUnlock()
	e := v.fronts[f]
	if e == nil {
		by := v.nodePorts[front{port: f.port, protocol: protocol}]
		if by == nil || !v.isNode(f.addr) {
			return nil
		}
		e = by
	}
	return e.known()
}

// isNode reports whether an address is a node's. It is asked for node ports alone, so no index is kept. Under mu.
func (v *View) isNode(addr netip.Addr) bool {
	for _, n := range v.nodes {
		if slices.Contains(n.Addresses, addr) {
			return true
		}
	}
	return false
}

// known is the service with its endpoints, put together when it is asked for; nil without a service. Under mu, for reading at least.
func (e *serviceEntry) known() *model.ClusterService {
	if s := e.composed.Load(); s != nil || e.bare == nil {
		return s
	}
	s := *e.bare
	s.Ports = slices.Clone(e.bare.Ports)
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, slice := range e.slices {
			p.Endpoints = append(p.Endpoints, slice[p.Name]...)
		}
		slices.SortFunc(p.Endpoints, netip.AddrPort.Compare)
		p.Endpoints = slices.Compact(p.Endpoints)
	}
	e.composed.Store(&s)
	return &s
}

// setService takes in a service; nil: it is gone.
func (v *View) setService(name ServiceName, s *model.ClusterService) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.services[name]
	if e == nil {
		if s == nil {
			return
		}
		e = &serviceEntry{slices: make(map[string]endpoints)}
		v.services[name] = e
	}
	if e.bare != nil && s != nil && reflect.DeepEqual(e.bare, s) {
		return
	}
	v.front(e, e.bare, false)
	e.bare = s
	v.front(e, s, true)
	v.serviceChanged(name, e)
}

// front adds the places at which a service is reached, or takes them away.
func (v *View) front(e *serviceEntry, s *model.ClusterService, add bool) {
	if s == nil {
		return
	}
	put := func(m map[front]*serviceEntry, f front) {
		if add {
			m[f] = e
		} else if m[f] == e {
			delete(m, f)
		}
	}
	for _, p := range s.Ports {
		for _, a := range s.Addresses {
			put(v.fronts, front{a, p.Port, p.Protocol})
		}
		if p.NodePort != 0 {
			put(v.nodePorts, front{port: p.NodePort, protocol: p.Protocol})
		}
	}
}

// setSlice takes in an EndpointSlice of a service; nil: it is gone.
func (v *View) setSlice(of ServiceName, slice string, ends endpoints) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.services[of]
	if e == nil {
		if ends == nil {
			return
		}
		e = &serviceEntry{slices: make(map[string]endpoints)}
		v.services[of] = e
	}
	if old, ok := e.slices[slice]; ok == (ends != nil) && reflect.DeepEqual(old, ends) {
		return
	}
	if ends == nil {
		delete(e.slices, slice)
	} else {
		e.slices[slice] = ends
	}
	v.serviceChanged(of, e)
}

func (v *View) serviceChanged(name ServiceName, e *serviceEntry) {
	e.composed.Store(nil)
	if e.bare == nil && len(e.slices) == 0 {
		delete(v.services, name)
	}
	v.changed(func(c *Changes) { c.service(name) })
}

// keepServices drops the services that a list of all does not name.
func (v *View) keepServices(there map[ServiceName]bool) {
	v.mu.RLock()
	var gone []ServiceName
	for name, e := range v.services {
		if e.bare != nil && !there[name] {
			gone = append(gone, name)
		}
	}
	v.mu.RUnlock()
	for _, name := range gone {
		v.setService(name, nil)
	}
}

// sliceName names an EndpointSlice.
type sliceName struct {
	of    ServiceName
	slice string
}

// keepSlices drops the EndpointSlices that a list of all does not name.
func (v *View) keepSlices(there map[sliceName]bool) {
	v.mu.RLock()
	var gone []sliceName
	for name, e := range v.services {
		for slice := range e.slices {
			if s := (sliceName{name, slice}); !there[s] {
				gone = append(gone, s)
			}
		}
	}
	v.mu.RUnlock()
	for _, s := range gone {
		v.setSlice(s.of, s.slice, nil)
	}
}
