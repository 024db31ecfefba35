// SPDX-License-Identifier: Apache-2.0

package edit

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func quoted(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
}

func (e *editor) isJSON() bool {
	t := bytes.TrimSpace(e.text)
	return len(t) > 0 && (t[0] == '{' || t[0] == '[')
}

// skipProperties passes an anchor and a tag.
func (e *editor) skipProperties(at int) int {
	for at < len(e.text) && (e.text[at] == '&' || e.text[at] == '!') {
		for at < len(e.text) && !space(e.text[at]) {
			at++
		}
		for at < len(e.text) && space(e.text[at]) {
			at++
		}
	}
	return at
}

func space(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// valueEnd is where a value ends that is no block.
func (e *editor) valueEnd(n *yaml.Node, inFlow bool) int {
	start := e.offset(n.Line, n.Column)
	switch n.Kind {
	case yaml.AliasNode:
		return e.plainEnd(start, inFlow)
	case yaml.ScalarNode:
		return e.scalarEnd(start, n, inFlow)
	}
	return e.flowEnd(e.skipProperties(start))
}

func (e *editor) scalarEnd(start int, n *yaml.Node, inFlow bool) int {
	at := e.skipProperties(start)
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0, n.Style&yaml.SingleQuotedStyle != 0:
		return e.quoteEnd(at)
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return len(e.text) // never in place
	}
	if end := at + len(n.Value); end <= len(e.text) && string(e.text[at:end]) == n.Value {
		return end
	}
	return e.plainEnd(at, inFlow)
}

// quoteEnd is behind the quote that closes the one at a place.
func (e *editor) quoteEnd(at int) int {
	if at >= len(e.text) {
		return at
	}
	quote := e.text[at]
	for at++; at < len(e.text); at++ {
		switch {
		case quote == '"' && e.text[at] == '\\':
			at++
		case e.text[at] == quote && quote == '\'' && at+1 < len(e.text) && e.text[at+1] == quote:
			at++
		case e.text[at] == quote:
			return at + 1
		}
	}
	return len(e.text)
}

// plainEnd is where a value without quotes ends, on its line.
func (e *editor) plainEnd(at int, inFlow bool) int {
	end := at
	for ; end < len(e.text) && e.text[end] != '\n'; end++ {
		if e.text[end] == '#' && end > at && space(e.text[end-1]) || inFlow && strings.IndexByte(",[]{}", e.text[end]) >= 0 {
			break
		}
	}
	return at + len(bytes.TrimRight(e.text[at:end], " \t\r"))
}

// flowEnd is behind the bracket that closes the one at a place.
func (e *editor) flowEnd(at int) int {
	depth, before := 0, byte(0) // before: the last byte that was no space
	for ; at < len(e.text); at++ {
		switch b := e.text[at]; {
		case (b == '"' || b == '\'') && strings.IndexByte("{[,:", before) >= 0:
			at = e.quoteEnd(at) - 1
		case b == '#' && at > 0 && space(e.text[at-1]):
			for at < len(e.text) && e.text[at] != '\n' {
				at++
			}
			continue
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			depth--
			if depth == 0 {
				return at + 1
			}
		}
		if at < len(e.text) && !space(e.text[at]) {
			before = e.text[at]
		}
	}
	return len(e.text)
}

// inline writes a value on one line; json: with quotes as JSON wants them.
func (e *editor) inline(value any, asJSON bool) string {
	switch v := value.(type) {
	case string:
		if asJSON || !plain(v) {
			return quote(v)
		}
		return v
	case map[string]any:
		var parts []string
		for _, key := range sortedKeys(v) {
			parts = append(parts, e.inline(key, asJSON)+": "+e.inline(v[key], asJSON))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, item := range v {
			parts = append(parts, e.inline(item, asJSON))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return node(value).Value
}

func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""` // a string can always be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// plain reports whether a string without quotes is read as that string, by YAML 1.1 too.
func plain(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return false
	}
	var n yaml.Node
	if strings.ContainsAny(s, ",[]{}#&*!|>'\"%@`") || strings.TrimSpace(s) != s || strings.Contains(s, ": ") || strings.HasSuffix(s, ":") {
		return false
	}
	if err := yaml.Unmarshal([]byte(s), &n); err != nil || len(n.Content) != 1 {
		return false
	}
	return n.Content[0].Kind == yaml.ScalarNode && n.Content[0].ShortTag() == "!!str" && n.Content[0].Value == s
}

// block writes an entry of an object, each level of objects on lines of its own.
func (e *editor) block(key string, value any, indent int) string {
	pad := strings.Repeat(" ", indent)
	if m, ok := value.(map[string]any); ok && len(m) > 0 {
		var b strings.Builder
		b.WriteString(pad + e.inline(key, false) + ":" + e.newline())
		for _, name := range sortedKeys(m) {
			b.WriteString(e.block(name, m[name], indent+e.step()))
		}
		return b.String()
	}
	return pad + e.inline(key, false) + ": " + e.inline(value, false) + e.newline()
}

// step is by how much the text indents objects in objects.
func (e *editor) step() int {
	if e.root.Kind == yaml.MappingNode {
		for i := 1; i < len(e.root.Content); i += 2 {
			if v := e.root.Content[i]; v.Kind == yaml.MappingNode && !isFlow(v) && v.Line > e.root.Content[i-1].Line {
				return max(v.Column-e.root.Content[i-1].Column, 1)
			}
		}
	}
	return 2
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
