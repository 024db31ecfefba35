// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Place is where a value stands.
type Place struct {
	File         string
	Line, Column int
	Value        string // the text, when it is a single value
	Found        bool   // the path is there; else the place is that of the nearest object above it
}

// At finds a path of keys and indices. What is not there is placed at the nearest object above that is.
func (d *Document) At(path []string) Place {
	p := Place{File: d.File, Line: d.Line, Column: 1}
	if d.Err != nil {
		p.Line, p.Column = d.Err.Line, d.Err.Column
		return p
	}
	n, at := d.root, d.root
	if n == nil {
		return p
	}
	whole := append(append([]string{}, d.prefix...), path...)
	for i, step := range whole {
		key, value := child(n, step)
		if value == nil {
			p.Line, p.Column = at.Line, at.Column
			return p
		}
		n, at = value, value
		if key != nil && (i < len(whole)-1 || value.Kind != yaml.ScalarNode) {
			at = key
		}
	}
	p.Line, p.Column, p.Found = at.Line, at.Column, true
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode {
		p.Value = n.Value
	}
	return p
}

// child is a member of a mapping or list; key is nil in a list.
func child(n *yaml.Node, step string) (key, value *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return nil, n.Content[i]
		}
	case yaml.MappingNode:
		var merges []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			switch {
			case n.Content[i].Value == step && !isMerge(n.Content[i]):
				return n.Content[i], n.Content[i+1]
			case isMerge(n.Content[i]):
				merges = append(merges, n.Content[i+1])
			}
		}
		for _, m := range merges {
			for m.Kind == yaml.AliasNode {
				m = m.Alias
			}
			sources := []*yaml.Node{m}
			if m.Kind == yaml.SequenceNode {
				sources = m.Content
			}
			for _, s := range sources {
				if k, v := child(s, step); v != nil {
					return k, v
				}
			}
		}
	}
	return nil, nil
}

// PathString writes a path as people do: spec.containers[0].image.
func PathString(path []string) string {
	var b strings.Builder
	for i, step := range path {
		switch _, err := strconv.Atoi(step); {
		case err == nil:
			b.WriteString("[" + step + "]")
		case strings.ContainsAny(step, ".[]/"):
			b.WriteString("[" + strconv.Quote(step) + "]")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	return b.String()
}
