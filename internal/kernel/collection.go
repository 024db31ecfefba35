// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// LoadCollection is LoadBeside for programs that are made or chosen while the agent runs, with the shared maps and those in
// replace in place of their own. The caller closes the collection, after Detach. types, when not nil, is where the kernel's
// type information is kept between loads.
func (h *Host) LoadCollection(what string, spec *ebpf.CollectionSpec, replace map[string]*ebpf.Map, types *btf.Cache) (*ebpf.Collection, error) {
	options := h.prepare(spec)
	maps.Copy(options.MapReplacements, replace)
	if types != nil {
		options.Cache = types
	}
	c, err := ebpf.NewCollectionWithOptions(spec, *options)
	if err != nil {
		return nil, Explain(fmt.Sprintf("load %s", what), err)
	}
	return c, nil
}

// Account lists a program among those whose cost and missed runs are told, until Detach of its owner.
func (h *Host) Account(owner, name string, p *ebpf.Program) { h.keep(owner, name, p, nil) }
