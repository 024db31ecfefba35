// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Bounds of one document. Aliases count each time that they are used, so that a "billion laughs" ends here.
const (
	maxNodes = 300_000
	maxDepth = 500
)

// converter turns nodes into values as kubectl does, which reads YAML 1.1: yes, no, on and off are booleans.
type converter struct{ nodes int }

func fault(n *yaml.Node, format string, args ...any) error {
	return &Error{Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)}
}

func (c *converter) value(n *yaml.Node, depth int) (any, error) {
	c.nodes--
	switch {
	case c.nodes < 0:
		return nil, fault(n, "more than %d values when its aliases are followed", maxNodes)
	case depth > maxDepth:
		return nil, fault(n, "nested more than %d levels deep", maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.ScalarNode:
		return scalar(n)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			v, err := c.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case yaml.MappingNode:
		return c.mapping(n, depth)
	}
	return nil, fault(n, "a node of unknown kind")
}

func (c *converter) mapping(n *yaml.Node, depth int) (any, error) {
	out := make(map[string]any, len(n.Content)/2)
	var merges []*yaml.Node
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if isMerge(key) {
			merges = append(merges, value)
			continue
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fault(key, "a %s cannot be a key", kindName(key))
		}
		if line, ok := lines[key.Value]; ok {
			return nil, fault(key, "the key %q is here twice, first in line %+d", key.Value, line-key.Line)
		}
		lines[key.Value] = key.Line
		v, err := c.value(value, depth+1)
		if err != nil {
			return nil, err
		}
		out[key.Value] = v
	}
	for _, m := range merges {
		if err := c.merge(out, m, depth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// merge takes in what << names; a key that is there already stays.
func (c *converter) merge(out map[string]any, from *yaml.Node, depth int) error {
	v, err := c.value(from, depth+1)
	if err != nil {
		return err
	}
	sources, isList := v.([]any)
	if !isList {
		sources = []any{v}
	}
	for _, s := range sources {
		object, ok := s.(map[string]any)
		if !ok {
			return fault(from, "<< merges objects, and this is none")
		}
		for k, v := range object {
			if _, has := out[k]; !has {
				out[k] = v
			}
		}
	}
	return nil
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" }

func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return nil, fault(n, "%q is no boolean", n.Value)
		}
		return b, nil
	case "!!int":
		var i int64
		if err := n.Decode(&i); err == nil {
			return i, nil
		}
		fallthrough // too large for an integer
	case "!!float":
		var f float64
		if err := n.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, fault(n, "%q is no number that JSON has", n.Value)
		}
		return f, nil
	}
	if n.Style == 0 {
		switch n.Value {
		case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
			return true, nil
		case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
			return false, nil
		}
	}
	return n.Value, nil
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	case yaml.ScalarNode:
		return "single value"
	}
	return "node " + strconv.Itoa(int(n.Kind))
}
