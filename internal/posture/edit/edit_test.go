// SPDX-License-Identifier: Apache-2.0

package edit

import (
	"strings"
	"testing"
)

func path(s string) []string { return strings.Split(s, "/") }

func TestApply(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		op               Op
	}{
		{"a value, its comment stays", "a:\n  b: true # why\n", "a:\n  b: false # why\n", Op{Path: path("a/b"), Value: false}},
		{"a value in quotes", "a: \"x\"\n", "a: \"y\"\n", Op{Path: path("a"), Value: "y"}},
		{"a value with an anchor", "a: &x true\nb: *x\n", "a: &x false\nb: *x\n", Op{Path: path("a"), Value: false}},
		{"an alias", "a: &x true\nb: *x\n", "a: &x true\nb: false\n", Op{Path: path("b"), Value: false}},
		{"a new key at the end", "a:\n  b: 1\n# end\nc: 2\n", "a:\n  b: 1\n  d: true\n# end\nc: 2\n", Op{Path: path("a/d"), Value: true}},
		{"objects above it", "a:\n- n: x\n  p:\n  - q\n\n- n: y\n", "a:\n- n: x\n  p:\n  - q\n  s:\n    c:\n      drop: [ALL]\n\n- n: y\n", Op{Path: path("a/0/s/c/drop"), Value: "ALL", Append: true}},
		{"four spaces", "a:\n    b: 1\n", "a:\n    b: 1\n    c:\n        d: 2\n", Op{Path: path("a/c/d"), Value: 2}},
		{"in braces", "a: {b: 1}\n", "a: {b: 1, c: {d: x}}\n", Op{Path: path("a/c/d"), Value: "x"}},
		{"in braces with spaces", "a: { b: 1 }\n", "a: { b: 1, c: 2 }\n", Op{Path: path("a/c"), Value: 2}},
		{"in empty braces", "a: {}\n", "a: {c: 2}\n", Op{Path: path("a/c"), Value: 2}},
		{"where nothing stands", "a:\nb: 1\n", "a:\n  c: 2\nb: 1\n", Op{Path: path("a/c"), Value: 2}},
		{"in place of null", "a: null\n", "a: {c: 2}\n", Op{Path: path("a/c"), Value: 2}},
		{"dos line ends", "a:\r\n  b: 1\r\n", "a:\r\n  b: 1\r\n  c: 2\r\n", Op{Path: path("a/c"), Value: 2}},
		{"no end of the last line", "a:\n  b: 1", "a:\n  b: 1\n  c: 2", Op{Path: path("a/c"), Value: 2}},
		{"json", "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n", "{\n  \"a\": {\n    \"b\": 1,\n    \"c\": \"x\"\n  }\n}\n", Op{Path: path("a/c"), Value: "x"}},
		{"json with tabs", "{\n\t\"a\": {\n\t\t\"b\": true\n\t}\n}\n", "{\n\t\"a\": {\n\t\t\"b\": false\n\t}\n}\n", Op{Path: path("a/b"), Value: false}},
		{"a list in brackets", "a: [x]\n", "a: [x, z]\n", Op{Path: path("a"), Value: "z", Append: true}},
		{"a list of lines", "a:\n- x\n# c\nb: 1\n", "a:\n- x\n- z\n# c\nb: 1\n", Op{Path: path("a"), Value: "z", Append: true}},
		{"it is in the list", "a: [y]\n", "a: [y]\n", Op{Path: path("a"), Value: "y", Append: true}},
		{"a key goes", "a: 1\nb:\n  c: 2\n# about d\nd: 3\n", "a: 1\n# about d\nd: 3\n", Op{Path: path("b"), Remove: true}},
		{"the only key of an object", "a: 1\nb:\n  c: 2\n", "a: 1\n", Op{Path: path("b/c"), Remove: true}},
		{"the first key behind a dash", "a:\n- b: 1\n  c: 2\n", "a:\n- c: 2\n", Op{Path: path("a/0/b"), Remove: true}},
		{"a key in braces", "a: {b: 1, c: 2, d: 3}\n", "a: {b: 1, d: 3}\n", Op{Path: path("a/c"), Remove: true}},
		{"the last in braces", "a: {b: 1, c: 2}\n", "a: {b: 1}\n", Op{Path: path("a/c"), Remove: true}},
		{"an element", "a:\n- x # 1\n- y # 2\n- z\n", "a:\n- x # 1\n- z\n", Op{Path: path("a/1"), Remove: true}},
		{"an object in a list", "a:\n  - n: x\n    v: 1\n  - n: y\n    v: 2\nb: 1\n", "a:\n  - n: x\n    v: 1\nb: 1\n", Op{Path: path("a/1"), Remove: true}},
		{"the only element", "a:\n  b: 1\n  c:\n  - x\n", "a:\n  b: 1\n", Op{Path: path("a/c/0"), Remove: true}},
		{"the only key of what must stay", "spec:\n  a: 1\nb: 2\n", "spec:\n  {}\nb: 2\n", Op{Path: path("spec/a"), Remove: true}},
		{"the only element of what must stay", "containers:\n- x\nb: 2\n", "containers:\n  []\nb: 2\n", Op{Path: path("containers/0"), Remove: true}},
		{"what is not there", "a: 1\n", "a: 1\n", Op{Path: path("b"), Remove: true}},
		{"a text of several lines before it", "a:\n  b: |+\n    x\n\n\nc: 1\n", "a:\n  b: |+\n    x\n\n\n  d: 2\nc: 1\n", Op{Path: path("a/d"), Value: 2}},
		{"a word that YAML takes for a boolean", "a: 1\n", "a: 1\nb: \"no\"\n", Op{Path: path("b"), Value: "no"}},
		{"characters of several bytes", "a: {é: ü, b: true}\n", "a: {é: ü, b: false}\n", Op{Path: path("a/b"), Value: false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Apply([]byte(tt.text), tt.op)
			if err != nil || string(got) != tt.want {
				t.Fatalf("%v\ngot\n%s\nwant\n%s", err, got, tt.want)
			}
			again, err := Apply(got, tt.op)
			if tt.op.Remove && strings.ContainsAny(tt.op.Path[len(tt.op.Path)-1], "0123456789") {
				return // another element has the place now
			}
			if err != nil || string(again) != tt.want {
				t.Errorf("once more: %v\n%s", err, again)
			}
		})
	}
}
