// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/policy.schema.json and the golden files")

func TestSchemaFileIsUpToDate(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/policy.schema.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/policy.schema.json is old (%v): run go test ./internal/policy -run Schema -update", err)
	}
}

// valid is as much of JSON Schema as Schema uses.
func valid(t *testing.T, s map[string]any, v any) bool {
	if ways, ok := s["anyOf"].([]any); ok {
		return slices.ContainsFunc(ways, func(one any) bool { return valid(t, one.(map[string]any), v) })
	}
	types, ok := s["type"].([]any)
	if !ok {
		types = []any{s["type"]}
	}
	if values, ok := s["enum"].([]any); ok && !slices.ContainsFunc(values, func(one any) bool { return reflect.DeepEqual(one, v) }) {
		return false
	}
	switch v := v.(type) {
	case string:
		pattern, ok := s["pattern"].(string)
		return slices.Contains(types, any("string")) && (!ok || regexp.MustCompile(pattern).MatchString(v))
	case int:
		return slices.Contains(types, any("integer"))
	case []any:
		least, _ := s["minItems"].(float64)
		return slices.Contains(types, any("array")) && len(v) >= int(least) &&
			!slices.ContainsFunc(v, func(item any) bool { return !valid(t, s["items"].(map[string]any), item) })
	case map[string]any:
		if !slices.Contains(types, any("object")) {
			return false
		}
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				return false
			}
		}
		properties, _ := s["properties"].(map[string]any)
		for name, one := range v {
			inner, ok := properties[name].(map[string]any)
			if !ok {
				if inner, ok = s["additionalProperties"].(map[string]any); !ok {
					return false
				}
			}
			if !valid(t, inner, one) {
				return false
			}
		}
		return true
	}
	return false
}

// TestSchemaAgreesWithTheParser: what the parser takes the schema takes; what it refuses for its form the schema refuses.
func TestSchemaAgreesWithTheParser(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	formal := regexp.MustCompile(`is no field of|not a list|not fields|is missing|is not known|not a text|is an empty list|is no name|has no protocol`)
	refused := 0
	check := func(doc string) {
		var v any
		if err := yaml.Unmarshal([]byte(doc), &v); err != nil || v == nil {
			return
		}
		_, err := Parse("x", []byte(doc))
		got := valid(t, schema, v)
		switch {
		case err == nil && !got:
			t.Errorf("the schema refuses what the parser takes:\n%s", doc)
		case err != nil && got && formal.MatchString(err.Error()):
			t.Errorf("the schema takes what the parser refuses with %v:\n%s", err, doc)
		case err != nil && !got:
			refused++
		}
	}
	for _, doc := range Split(everything) {
		check(doc.Text)
	}
	for seed := range uint64(200) {
		w := world{rand.New(rand.NewPCG(seed, 9))}
		doc := w.policy()
		check(doc)
		// One word in the place of another.
		words := regexp.MustCompile(`[A-Za-z]+|\[|\{\}`).FindAllStringIndex(doc, -1)
		at := words[w.IntN(len(words))]
		check(doc[:at[0]] + w.of("path", "x", "read", "7", "true", "deny", "{a: b}") + doc[at[1]:])
		if line := strings.SplitAfter(doc, "\n"); len(line) > 3 { // a line less
			i := w.IntN(len(line))
			check(strings.Join(append(line[:i:i], line[i+1:]...), ""))
		}
	}
	if refused < 50 {
		t.Errorf("only %d documents were refused: the test tries too little", refused)
	}
}
