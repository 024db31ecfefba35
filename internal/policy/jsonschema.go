// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Schema is the JSON Schema (draft 2020-12) of a WorkloadPolicy, for editors and pipelines. It is made from what the
// parser checks; the parser also checks what a schema cannot say: globs, CIDRs, ranges, names that fit together.
func Schema() ([]byte, error) {
	s := policySchema().json()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = Kind
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return b.Bytes(), nil
}

// json is one schema as JSON Schema.
func (s *schema) json() map[string]any {
	out := map[string]any{}
	switch s.kind {
	case kindObject:
		properties := map[string]any{}
		required := []string{}
		for _, f := range s.fields {
			properties[f.name] = f.json()
			if f.required {
				required = append(required, f.name)
			}
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", properties, false
		if len(required) > 0 {
			out["required"] = required
		}
		if s.short != "" {
			bare := s.field(s.short).schema
			if bare.kind == kindList {
				bare = bare.items
			}
			out = map[string]any{"anyOf": []any{bare.json(), out}}
		}
	case kindList:
		out["type"], out["items"] = "array", s.items.json()
		if s.one {
			out["minItems"] = 1
			out = map[string]any{"anyOf": []any{s.items.json(), out}}
		}
	case kindLabels:
		out["type"], out["additionalProperties"] = "object", map[string]any{"type": "string"}
	case kindText:
		out["type"] = "string"
		if s.number {
			out["type"] = []string{"string", "integer"}
		}
		if len(s.values) > 0 {
			out["enum"] = s.values
		}
		if s.pattern != "" {
			out["pattern"] = s.pattern
		}
	}
	if s.doc != "" {
		out["description"] = s.doc
	}
	return out
}
