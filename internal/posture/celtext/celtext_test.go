// SPDX-License-Identifier: Apache-2.0

package celtext

import "testing"

func TestRenameTouchesNamesOnly(t *testing.T) {
	variable := func(s string) string { return "my_" + s }
	for in, want := range map[string]string{
		"variables.a.all(c, c.x)":                     "variables.my_a.all(c, c.x)",
		"variables . a + object.variables.b":          "variables . my_a + object.variables.b",
		"variables.?a.orValue(1)":                     "variables.?my_a.orValue(1)",
		"params.data.x + object.params + c.?params":   "mine.data.x + object.params + c.?params",
		`'variables.a' + "params" + variables.b`:      `'variables.a' + "params" + variables.my_b`,
		`'it\'s variables.a' + r'\' + variables.b`:    `'it\'s variables.a' + r'\' + variables.my_b`,
		`"""variables.a "params" """ + params.x`:      `"""variables.a "params" """ + mine.x`,
		"1.5e3 + params.x // variables.a\n+ params.y": "1.5e3 + mine.x // variables.a\n+ mine.y",
		"variables":                  "variables",
		"x ? params.a : variables.b": "x ? mine.a : variables.my_b",
		"params_other.data + my.params.x + variablesX": "params_other.data + my.params.x + variablesX",
	} {
		if got := Rename(in, variable, "mine"); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", in, got, want)
		}
	}
	if got := Rename("params.x", variable, ""); got != "params.x" {
		t.Errorf("params without a name: %s", got)
	}
}

func TestReplaceTakesWholeSelections(t *testing.T) {
	variable := func(s string) (string, bool) { return "(x + 1)", s == "a" }
	for in, want := range map[string]string{
		"variables.a.all(c, c.object) + variables.b": "(x + 1).all(c, c.object) + variables.b",
		"variables . a == object.kind":               "(x + 1) == one.kind",
		"variables.?a.orValue(1)":                    "optional.of((x + 1)).orValue(1)",
		"'object' + c.variables.a":                   "'object' + c.variables.a",
	} {
		if got := Replace(in, variable, map[string]string{"object": "one"}); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", in, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"a": "'a'", `it's \d`: `'it\'s \\d'`, "a\nb\x01": `'a\nb\x01'`, "é": "'é'"} {
		if got := Quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if got := List([]string{"a", "b"}); got != "['a', 'b']" {
		t.Error(got)
	}
	if got := Identifier("image-registry.2"); got != "image_registry_2" {
		t.Error(got)
	}
}
