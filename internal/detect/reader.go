// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader takes the YAML of one file apart and collects what is wrong.
type reader struct {
	path     string
	lines    []string
	problems FileErrors
}

func newReader(f File) *reader {
	return &reader{path: f.Path, lines: strings.Split(string(f.Data), "\n")}
}

// line is a line of the file, by its index; empty beyond the end.
func (r *reader) line(i int) string {
	if i < 0 || i >= len(r.lines) {
		return ""
	}
	return r.lines[i]
}

func (r *reader) bad(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, &FileError{r.path, n.Line, n.Column, fmt.Sprintf(format, args...)})
}

// root is the one mapping of the file; nil when there is none.
func (r *reader) root(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			r.syntax(err)
		} else {
			r.bad(&more, "a second YAML document begins here: keep one in a file")
		}
		return nil
	}
	if n := doc.Content[0]; n.Tag != "!!null" {
		return n
	}
	return nil
}

func (r *reader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	r.problems = append(r.problems, &FileError{r.path, line, 1, "is no YAML: " + text})
}

// mapping reads a mapping whose fields are known.
func (r *reader) mapping(n *yaml.Node, what string, fields map[string]func(*yaml.Node)) {
	seen := make(map[string]int)
	r.each(n, what, func(key, v *yaml.Node) {
		read, ok := fields[key.Value]
		switch {
		case !ok:
			r.bad(key, "%s has no field %q: known are %s", what, key.Value, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		case seen[key.Value] != 0:
			r.bad(key, "field %q was given on line %d already: remove one", key.Value, seen[key.Value])
		default:
			seen[key.Value] = key.Line
			read(v)
		}
	})
}

// each reads a mapping of any names.
func (r *reader) each(n *yaml.Node, what string, entry func(key, v *yaml.Node)) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.bad(n, "%s: want `name: value` lines, got %s", what, kindOf(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		entry(n.Content[i], n.Content[i+1])
	}
}

// list reads a sequence.
func (r *reader) list(what string, element func(*yaml.Node)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		n = resolve(n)
		if n.Kind != yaml.SequenceNode {
			r.bad(n, "%s: want a list, got %s", what, kindOf(n))
			return
		}
		for _, e := range n.Content {
			element(e)
		}
	}
}

// text reads a text. A number or a flag is taken as it is written.
func (r *reader) text(into *scalar) func(*yaml.Node) {
	return func(n *yaml.Node) {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			r.bad(n, "want a text, got %s", kindOf(n))
			return
		}
		*into = scalar{strings.TrimRight(n.Value, "\n"), n, r}
	}
}

func (r *reader) texts(what string, into *[]scalar) func(*yaml.Node) {
	return r.list(what, func(n *yaml.Node) {
		var s scalar
		r.text(&s)(n)
		if s.node != nil {
			*into = append(*into, s)
		}
	})
}

func (r *reader) flag(into **bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var b bool
		if resolve(n).Tag != "!!bool" || resolve(n).Decode(&b) != nil {
			r.bad(n, "want true or false, got %s", kindOf(n))
			return
		}
		*into = &b
	}
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return fmt.Sprintf("%q", n.Value)
}
