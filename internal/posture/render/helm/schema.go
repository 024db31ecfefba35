// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

// Effective are the chart's values with a user's laid over them: those of the dependencies that are on are under their names.
func (c *Chart) Effective(values map[string]any) (map[string]any, error) {
	_, all, err := c.resolve(values)
	return all, err
}

// Faults are what the schemas of the chart and of its dependencies (values.schema.json) do not allow of values, in order. A schema that
// cannot be read is a fault too: Helm would not go on either. What a schema refers to elsewhere is not fetched.
func (c *Chart) Faults(values map[string]any) ([]string, error) {
	on, all, err := c.resolve(values)
	if err != nil {
		return nil, err
	}
	return on.faults(all, ""), nil
}

func (c *Chart) faults(values map[string]any, above string) []string {
	var out []string
	if len(c.Schema) > 0 {
		for _, fault := range faultsOf(c.Schema, values) {
			out = append(out, above+fault)
		}
	}
	for _, sub := range c.Charts {
		own, _ := values[sub.Meta.Name].(map[string]any)
		out = append(out, sub.faults(own, above+sub.Meta.Name+": ")...)
	}
	slices.Sort(out)
	return out
}

// faultsOf are what a schema does not allow. Of its drafts after the seventh what the seventh knows is looked at.
func faultsOf(schema []byte, values map[string]any) []string {
	var document any
	if err := json.Unmarshal(schema, &document); err != nil {
		return []string{"the schema cannot be read: " + err.Error()}
	}
	if ref := foreign(document); ref != "" { // the library would fetch it
		return []string{"the schema cannot be read: " + ref + " is not in the chart"}
	}
	compiled, err := gojsonschema.NewSchema(gojsonschema.NewGoLoader(document))
	if err != nil {
		return []string{"the schema cannot be read: " + err.Error()}
	}
	if values == nil {
		values = map[string]any{}
	}
	result, err := compiled.Validate(gojsonschema.NewGoLoader(values))
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, fault := range result.Errors() {
		out = append(out, fault.String())
	}
	return out
}

// foreign is a reference to what stands elsewhere, or empty.
func foreign(schema any) string {
	switch s := schema.(type) {
	case map[string]any:
		if ref, ok := s["$ref"].(string); ok && !strings.HasPrefix(ref, "#") {
			return ref
		}
		for _, key := range slices.Sorted(maps.Keys(s)) {
			if ref := foreign(s[key]); ref != "" {
				return ref
			}
		}
	case []any:
		for _, one := range s {
			if ref := foreign(one); ref != "" {
				return ref
			}
		}
	}
	return ""
}

// Declared are the objects and values that the schemas of the chart and its dependencies declare, by name: what may be set although the
// values have it not. A value is the zero of its type, and nil where the schema names none.
func (c *Chart) Declared() map[string]any {
	out := map[string]any{}
	var document any
	if err := json.Unmarshal(c.Schema, &document); err == nil {
		if m, ok := document.(map[string]any); ok {
			out = declared(m, 0)
		}
	}
	for _, sub := range c.Charts {
		name := sub.Meta.Name
		for _, d := range c.Meta.Dependencies {
			if d.Name == sub.Meta.Name && d.Alias != "" {
				name = d.Alias
			}
		}
		mine, _ := out[name].(map[string]any)
		if mine == nil {
			mine = map[string]any{}
		}
		below(mine, sub.Declared())
		out[name] = mine
	}
	return out
}

func zeros() map[string]any {
	return map[string]any{"boolean": false, "string": "", "integer": int64(0), "number": 0.0, "array": []any{}}
}

// declared are the properties of a schema. One that refers to itself ends somewhere.
func declared(schema map[string]any, depth int) map[string]any {
	out := map[string]any{}
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		property, _ := p.(map[string]any)
		_, has := property["properties"]
		if (has || property["type"] == "object") && depth < 20 {
			out[name] = declared(property, depth+1)
		} else {
			kind, _ := property["type"].(string)
			out[name] = zeros()[kind]
		}
	}
	return out
}
