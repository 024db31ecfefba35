// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// LoadCollection loads programs that are made while the agent runs, with the shared maps and those in replace in place of
// their own. The caller closes the collection. types is where the kernel's type information is kept between loads.
func (h *Host) LoadCollection(what string, spec *ebpf.CollectionSpec, replace map[string]*ebpf.Map, types *btf.Cache) (*ebpf.Collection, error) {
	in := h.sharedIn(spec)
	for name, m := range map[string]*ebpf.Map{"vg_security": h.objs.VgSecurity, "vg_telemetry": h.objs.VgTelemetry, "vg_losses": h.objs.VgLosses, "vg_state": h.objs.VgState} {
		if own := spec.Maps[name]; own != nil {
			own.MaxEntries = m.MaxEntries() // as in Load
			in[name] = m
		}
	}
	maps.Copy(in, replace)
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: in, Cache: types})
	if err != nil {
		return nil, Explain(fmt.Sprintf("load %s", what), err)
	}
	return c, nil
}

// Account lists a program among those whose cost and missed runs are told, until Detach of its owner.
func (h *Host) Account(owner, name string, p *ebpf.Program) { h.keep(owner, name, p, nil) }
