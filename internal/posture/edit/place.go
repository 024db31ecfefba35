// SPDX-License-Identifier: Apache-2.0

package edit

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// resolve follows an alias to what it names.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// at is the node at a path; nil when it is not there.
func at(root *yaml.Node, path []string) *yaml.Node {
	n := resolve(root)
	for _, step := range path {
		if n == nil {
			return nil
		}
		n = resolve(child(n, step))
	}
	return n
}

// child is an entry of an object or list, also one that an object takes in by <<.
func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	if have := own(n, step); have != nil || n.Kind != yaml.MappingNode {
		return have
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() != "!!merge" {
			continue
		}
		from := resolve(n.Content[i+1])
		sources := []*yaml.Node{from}
		if from.Kind == yaml.SequenceNode {
			sources = from.Content
		}
		for _, s := range sources {
			if have := own(resolve(s), step); have != nil {
				return have
			}
		}
	}
	return nil
}

// own is an entry that stands in the object itself.
func own(n *yaml.Node, key string) *yaml.Node {
	if i := indexOf(n, key); i >= 0 {
		return n.Content[i+1]
	}
	return nil
}

func keyNode(n *yaml.Node, key string) *yaml.Node {
	if i := indexOf(n, key); i >= 0 {
		return n.Content[i]
	}
	return nil
}

// indexOf is where a key stands in the content of an object, or -1.
func indexOf(n *yaml.Node, key string) int {
	if n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i
		}
	}
	return -1
}

func entries(n *yaml.Node) int {
	if n.Kind == yaml.MappingNode {
		return len(n.Content) / 2
	}
	return len(n.Content)
}

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// node makes nodes of a value.
func node(value any) *yaml.Node {
	scalar := func(tag, text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text} }
	switch v := value.(type) {
	case nil:
		return scalar("!!null", "null")
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	case int:
		return scalar("!!int", strconv.Itoa(v))
	case int64:
		return scalar("!!int", strconv.FormatInt(v, 10))
	case float64:
		return scalar("!!float", strconv.FormatFloat(v, 'g', -1, 64))
	case string:
		return scalar("!!str", v)
	case []any:
		out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range v {
			out.Content = append(out.Content, node(item))
		}
		return out
	case map[string]any:
		out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range sortedKeys(v) {
			out.Content = append(out.Content, scalar("!!str", key), node(v[key]))
		}
		return out
	}
	return scalar("!!str", "")
}

func pathString(path []string) string { return strings.Join(path, ".") }
