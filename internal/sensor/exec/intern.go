// SPDX-License-Identifier: Apache-2.0

package exec

import "github.com/vigie-io/vigie/internal/kernel"

// maxInterned bounds each of the tables below: about half a megabyte when full. A full one is emptied.
const maxInterned = 2048

// maxInternedBytes is the longest record part that is remembered.
const maxInternedBytes = 512

// interned remembers what records were decoded to. Hosts run few programs many times: 50,000 processes share some
// hundred paths and command lines, and most need not be decoded again. Used by the decoding goroutine alone.
type interned struct {
	paths map[string]string
	args  map[string][]string
}

func newInterned() *interned {
	return &interned{paths: make(map[string]string), args: make(map[string][]string)}
}

// path is kernel.Path.
func (n *interned) path(components []byte, cut bool) string {
	if cut || len(components) > maxInternedBytes {
		return kernel.Path(components, cut)
	}
	if p, ok := n.paths[string(components)]; ok {
		return p
	}
	if len(n.paths) >= maxInterned {
		clear(n.paths)
	}
	p := kernel.Path(components, cut)
	n.paths[string(components)] = p
	return p
}

// split is SplitArgs. Nobody changes what it returns.
func (n *interned) split(raw []byte) []string {
	if len(raw) > maxInternedBytes {
		return SplitArgs(raw)
	}
	if a, ok := n.args[string(raw)]; ok {
		return a
	}
	if len(n.args) >= maxInterned {
		clear(n.args)
	}
	a := SplitArgs(raw)
	n.args[string(raw)] = a
	return a
}
