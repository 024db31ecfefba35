// SPDX-License-Identifier: Apache-2.0

// Package edit changes values in YAML and JSON texts in place. In: the text of one document and a change. Out: the text
// with the change, in which everything else is as it was: comments, order, anchors, quotes, line ends.
//
// Every change is checked: the new text is parsed, and must hold what the old one did with that change and nothing else.
// What cannot be changed like this is refused.
package edit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Op is one change of a document.
type Op struct {
	Path   []string // keys and indices
	Value  any      // that shall stand there: string, bool, int, int64, map[string]any or []any. What is missing above it is made.
	Remove bool     // the key or element goes away, and an object or list that is empty then; not there is well
	Append bool     // Value becomes an element of the list, if it is not there
}

// ErrNotInPlace is a change that cannot be made without touching something else.
var ErrNotInPlace = errors.New("it cannot be changed in place")

// Apply makes a change in the text of one document. A text that has it already comes back as it is.
func Apply(text []byte, op Op) ([]byte, error) {
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	want, err := parse(text) // a tree of its own
	if err != nil {
		return nil, err
	}
	if op.Remove {
		op.Path = prune(root, op.Path)
	}
	if !change(want, op) {
		return nil, fmt.Errorf("%w: %s is not what it should be", ErrNotInPlace, pathString(op.Path))
	}
	if same(root, want) {
		return text, nil
	}
	e := &editor{text: text, root: root, lines: lineStarts(text)}
	for _, candidate := range e.candidates(op) {
		if got, err := parse(candidate); err == nil && same(got, want) {
			return candidate, nil
		}
	}
	return nil, fmt.Errorf("%w: change %s by hand", ErrNotInPlace, pathString(op.Path))
}

// parse reads a document as nodes. Tabs that indent JSON are read as spaces: no column changes.
func parse(text []byte) (*yaml.Node, error) {
	if t := bytes.TrimSpace(text); len(t) > 0 && (t[0] == '{' || t[0] == '[') && bytes.IndexByte(text, '\t') >= 0 {
		var out []byte
		for line := range bytes.Lines(text) {
			indent := len(line) - len(bytes.TrimLeft(line, " \t"))
			out = append(append(out, bytes.Repeat([]byte{' '}, indent)...), line[indent:]...)
		}
		text = out
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil, errors.New("parse: the document is empty")
	}
	return doc.Content[0], nil
}

// prune goes up from what is removed to what would be empty without it; what must be there stays.
func prune(root *yaml.Node, path []string) []string {
	if at(root, path) == nil {
		return path
	}
	for len(path) > 1 {
		parent := at(root, path[:len(path)-1])
		if parent == nil || entries(parent) != 1 || slices.Contains([]string{"spec", "metadata", "template", "containers"}, path[len(path)-2]) {
			break
		}
		if _, err := strconv.Atoi(path[len(path)-2]); err == nil {
			break // an element of a list
		}
		path = path[:len(path)-1]
	}
	return path
}

// change does to the tree what candidates do to the text. false: the path runs through something that has no entries.
func change(root *yaml.Node, op Op) bool {
	parent, rest := deepest(root, op.Path)
	key := op.Path[len(op.Path)-1]
	if op.Remove {
		if len(rest) == 1 {
			removeChild(parent, key)
		}
		return len(rest) == 1 || parent.Kind != yaml.ScalarNode
	}
	target := at(root, op.Path)
	if op.Append && target != nil && target.Kind == yaml.SequenceNode {
		value := node(op.Value)
		if !slices.ContainsFunc(target.Content, func(n *yaml.Node) bool { return same(n, value) }) {
			target.Content = append(target.Content, value)
		}
		return true
	}
	value := op.Value
	if op.Append {
		value = []any{op.Value}
	}
	for i := len(rest) - 1; i > 0; i-- {
		value = map[string]any{rest[i]: value}
	}
	return setChild(parent, rest[0], node(value))
}

// deepest is the last object or list on a path that has no entry for the rest, or the parent of the path's end.
func deepest(root *yaml.Node, path []string) (parent *yaml.Node, rest []string) {
	parent = resolve(root)
	for i := range path[:len(path)-1] {
		next := child(parent, path[i])
		if next == nil || next.Kind == yaml.ScalarNode && next.ShortTag() == "!!null" {
			return parent, path[i:]
		}
		parent = resolve(next)
	}
	return parent, path[len(path)-1:]
}

func setChild(parent *yaml.Node, key string, value *yaml.Node) bool {
	switch parent.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(parent.Content); i += 2 {
			if parent.Content[i].Value == key {
				value.Anchor = parent.Content[i+1].Anchor
				parent.Content[i+1] = value
				return true
			}
		}
		parent.Content = append(parent.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
		return true
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i < len(parent.Content) {
			parent.Content[i] = value
			return true
		}
	}
	return false
}

func removeChild(parent *yaml.Node, key string) {
	switch parent.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(parent.Content); i += 2 {
			if parent.Content[i].Value == key {
				parent.Content = slices.Delete(parent.Content, i, i+2)
				return
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i < len(parent.Content) {
			parent.Content = slices.Delete(parent.Content, i, i+1)
		}
	}
}

// same compares trees; objects need not have the same order, and how a value is written does not count.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Anchor != b.Anchor {
		return false
	}
	switch a.Kind {
	case yaml.ScalarNode:
		return a.ShortTag() == b.ShortTag() && a.Value == b.Value
	case yaml.AliasNode:
		return a.Value == b.Value
	case yaml.SequenceNode:
		return slices.EqualFunc(a.Content, b.Content, same)
	case yaml.MappingNode:
		if len(a.Content) != len(b.Content) {
			return false
		}
		for i := 0; i+1 < len(a.Content); i += 2 {
			other := own(b, a.Content[i].Value)
			if other == nil || !same(a.Content[i+1], other) {
				return false
			}
		}
		return true
	}
	return false
}
