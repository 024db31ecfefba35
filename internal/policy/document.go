// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What a source may hold. A policy of a thousand rules is about 100 KiB.
const (
	maxSource = 4 << 20       // bytes
	maxValues = 1 << 18       // YAML nodes, those behind aliases counted each time
	maxDepth  = 32            // of nodes in nodes
	maxRules  = MaxRules - 16 // what allow lists deny has numbers too
)

// value is a node that was checked against its schema.
type value struct {
	node   *yaml.Node
	path   string
	fields map[string]*value
	items  []*value
	text   string
	labels map[string]string
}

func (v *value) has(name string) bool { return v != nil && v.fields[name] != nil }

// get is a field, or nil.
func (v *value) get(name string) *value {
	if v == nil {
		return nil
	}
	return v.fields[name]
}

// texts are the items of a list of texts.
func (v *value) texts(name string) []string {
	list := v.get(name)
	if list == nil {
		return nil
	}
	out := make([]string, len(list.items))
	for i, item := range list.items {
		out[i] = item.text
	}
	return out
}

// checker reads one document against the schema.
type checker struct {
	*report
	line   int // of the document in its source, from 0
	values int
}

func (c *checker) at(n *yaml.Node, path, problem string) {
	c.add(c.line+n.Line, n.Column, path, problem)
}

// decode parses the text and checks it; nil when there is none, or nothing of it can be used.
func (c *checker) decode(text string, s *schema) *value {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var root yaml.Node
	if err := decoder.Decode(&root); err != nil {
		if !errors.Is(err, io.EOF) { // nothing but comments
			c.syntax(err, 1+strings.Count(text, "\n"))
		}
		return nil
	}
	if len(root.Content) != 1 {
		return nil
	}
	var rest yaml.Node
	if err := decoder.Decode(&rest); err == nil { // split at other line breaks than those that this package knows
		c.at(&rest, "", "is a document that does not begin with a line of its own: end lines with a line feed")
		return nil
	} else if !errors.Is(err, io.EOF) {
		c.syntax(err, 1+strings.Count(text, "\n"))
		return nil
	}
	return c.top(root.Content[0], s)
}

// top checks what is at the top of a document.
func (c *checker) top(root *yaml.Node, s *schema) *value {
	if c.foreign(root) {
		return nil
	}
	return c.check(root, s, "", 0)
}

// foreign reports a document that says that it is of another kind: nothing else in it would make sense.
func (c *checker) foreign(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key, kind := n.Content[i], n.Content[i+1]; key.Value == "kind" && kind.Kind == yaml.ScalarNode && kind.Value != Kind {
			c.at(kind, "kind", fmt.Sprintf("%q is not read here: write %s", kind.Value, Kind))
			return true
		}
	}
	return false
}

// syntax reports an error of the YAML parser, which names the line in its text, and now and then one that is behind it.
func (c *checker) syntax(err error, lines int) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := regexp.MustCompile(`^line (\d+): (?s:(.*))$`).FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1]) // the expression takes digits only
		message = m[2]
	}
	c.add(c.line+min(line, lines), 1, "", "is no YAML: "+message)
}

func (c *checker) check(n *yaml.Node, s *schema, path string, depth int) *value {
	if c.values++; c.values > maxValues {
		if c.values == maxValues+1 {
			c.at(n, path, fmt.Sprintf("is the value number %d, at most that many are read, aliases counted each time: split the policy", maxValues))
		}
		return nil
	}
	if depth > maxDepth {
		c.at(n, path, "is nested too deep")
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return c.check(n.Alias, s, path, depth+1)
	}
	v := &value{node: n, path: path}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		problem := "is empty: leave it out, or write " + s.kind.String()
		if s.kind == kindList {
			problem = "is empty: write [] for a list without entries, or leave it out"
		}
		c.at(n, path, problem)
		return nil
	}
	switch s.kind {
	case kindObject:
		if n.Kind == yaml.ScalarNode && s.short != "" {
			inner := c.check(n, s.field(s.short).schema, path, depth+1)
			if inner == nil {
				return nil
			}
			v.fields = map[string]*value{s.short: inner}
			return v
		}
		return c.object(v, s, depth)
	case kindList:
		return c.list(v, s, depth)
	case kindLabels:
		return c.labelled(v)
	default:
		return c.scalar(v, s)
	}
}

func (c *checker) object(v *value, s *schema, depth int) *value {
	if v.node.Kind != yaml.MappingNode {
		want := "write the fields " + joinOr(s.names())
		if s.short != "" {
			want += ", or the text of " + s.short + " alone"
		}
		c.at(v.node, v.path, "is "+what(v.node)+", not fields: "+want)
		return nil
	}
	v.fields = map[string]*value{}
	whole := c.keys(v.node, v.path, func(key, node *yaml.Node) bool {
		f := s.field(key.Value)
		if f == nil {
			c.at(key, join(v.path, key.Value), "is no field of "+place(v.path)+suggest(key.Value, s.names()))
			return false
		}
		inner := c.check(node, f.schema, join(v.path, key.Value), depth+1)
		v.fields[key.Value] = inner
		return inner != nil
	})
	for _, f := range s.fields {
		if _, given := v.fields[f.name]; f.required && !given {
			c.at(v.node, join(v.path, f.name), "is missing: write "+f.name+", "+lowerFirst(f.doc))
			whole = false
		}
	}
	if !whole {
		return nil
	}
	if s.whole != nil {
		if name, problem := s.whole(v); problem != "" {
			at := v
			if name != "" {
				at = v.fields[name]
			}
			c.at(at.node, at.path, problem)
			return nil
		}
	}
	return v
}

// keys calls each with the keys and values of a mapping, each key once, and reports whether all are fine.
func (c *checker) keys(n *yaml.Node, path string, each func(key, node *yaml.Node) bool) bool {
	fine := true
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, node := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			c.at(key, path, "has a key that is no text: write the fields out, merge keys are not read")
			fine = false
			continue
		}
		name := key.Value
		if problem := badText(name); problem != "" {
			c.at(key, path, "has a key that "+problem)
			fine = false
			continue
		}
		if line := lines[name]; line != 0 {
			c.at(key, join(path, name), fmt.Sprintf("is there twice, first in line %d: remove one", line))
			fine = false
			continue
		}
		lines[name] = c.line + key.Line
		fine = each(key, node) && fine
	}
	return fine
}

func (c *checker) list(v *value, s *schema, depth int) *value {
	n := v.node
	if n.Kind != yaml.SequenceNode {
		if !s.one || n.Kind != yaml.ScalarNode {
			c.at(n, v.path, "is "+what(n)+", not a list: begin each entry with '-', or write [ ]")
			return nil
		}
		item := c.check(n, s.items, v.path, depth+1)
		if item == nil {
			return nil
		}
		v.items = []*value{item}
		return v
	}
	if s.one && len(n.Content) == 0 {
		c.at(n, v.path, "is an empty list: leave it out, or name something")
		return nil
	}
	whole := true
	for i, node := range n.Content {
		item := c.check(node, s.items, v.path+"["+strconv.Itoa(i)+"]", depth+1)
		if item == nil {
			whole = false
			continue
		}
		v.items = append(v.items, item)
	}
	if !whole {
		return nil
	}
	return v
}

func (c *checker) labelled(v *value) *value {
	if v.node.Kind != yaml.MappingNode {
		c.at(v.node, v.path, "is "+what(v.node)+", not texts by name: write {app: web}")
		return nil
	}
	v.labels = map[string]string{}
	whole := c.keys(v.node, v.path, func(key, node *yaml.Node) bool {
		inner := c.check(node, &schema{kind: kindText}, join(v.path, key.Value), 1)
		if inner != nil {
			v.labels[key.Value] = inner.text
		}
		return inner != nil
	})
	if !whole {
		return nil
	}
	return v
}

func (c *checker) scalar(v *value, s *schema) *value {
	n := v.node
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode || (tag != "!!str" && (tag != "!!int" || !s.number)) {
		want := "write a text"
		if n.Kind == yaml.ScalarNode {
			want = "write it in quotes"
		}
		if len(s.values) > 0 {
			want = "write " + joinOr(s.values)
		}
		c.at(n, v.path, "is "+what(n)+", not a text: "+want)
		return nil
	}
	v.text = n.Value
	problem := badText(v.text)
	switch {
	case problem != "":
	case len(s.values) > 0 && !contains(s.values, v.text):
		problem = fmt.Sprintf("%q is not known: write %s", v.text, joinOr(s.values))
	case s.check != nil:
		problem = s.check(v.text)
	}
	if problem != "" {
		c.at(n, v.path, problem)
		return nil
	}
	return v
}

// what says what a node is, for people.
func what(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "a text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	}
	return "a value of the type " + n.ShortTag()
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func place(path string) string {
	if path == "" {
		return "a policy"
	}
	return path
}

func joinOr(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + strings.TrimSuffix(s[1:], ".")
}
