// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
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

// offline refuses what a schema wants from elsewhere.
type offline struct{}

// Load implements jsonschema.URLLoader.
func (offline) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is not in the chart", url)
}

func faultsOf(schema []byte, values map[string]any) []string {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return []string{"the schema cannot be read: " + err.Error()}
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(offline{})
	const name = "file:///values.schema.json"
	if err := compiler.AddResource(name, document); err != nil {
		return []string{"the schema cannot be read: " + err.Error()}
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return []string{"the schema cannot be read: " + err.Error()}
	}
	if values == nil {
		values = map[string]any{}
	}
	err = compiled.Validate(values)
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		if err != nil {
			return []string{err.Error()}
		}
		return nil
	}
	var out []string
	printer := message.NewPrinter(language.English)
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			out = append(out, fmt.Sprintf("%q: %s", e.InstanceLocation, e.ErrorKind.LocalizedString(printer)))
		}
		for _, cause := range e.Causes {
			walk(cause)
		}
	}
	walk(invalid)
	return out
}

// Declared are the objects and values that the schemas of the chart and its dependencies declare, by name: what may be set although the
// values have it not. A value is the zero of its type, and nil where the schema names none.
func (c *Chart) Declared() map[string]any {
	out := map[string]any{}
	if document, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Schema)); err == nil {
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
