// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"slices"
	"strings"
)

// imported is the chart with the values that it takes over from its dependencies: import-values in Chart.yaml. They are the dependencies' own
// values, not those that a user gives them, and weaker than the chart's.
func (c *Chart) imported() (*Chart, error) {
	out := *c
	out.Charts = nil
	for _, sub := range c.Charts {
		in, err := sub.imported()
		if err != nil {
			return nil, err
		}
		out.Charts = append(out.Charts, in)
	}
	if !slices.ContainsFunc(c.Meta.Dependencies, func(d Dependency) bool { return len(d.ImportValues) > 0 }) {
		return &out, nil
	}
	own, err := out.coalesce(nil)
	if err != nil {
		return nil, err
	}
	taken := map[string]any{}
	for _, d := range c.Meta.Dependencies {
		name := d.Name
		if d.Alias != "" {
			name = d.Alias
		}
		for _, v := range d.ImportValues {
			child, parent := "", ""
			switch v := v.(type) {
			case string:
				child = "exports." + v
			case map[string]any:
				child, parent = fmt.Sprint(v["child"]), fmt.Sprint(v["parent"])
			}
			table, ok := at(own, name+"."+child).(map[string]any)
			if !ok {
				continue // it is off, or has no such values
			}
			below(taken, put(parent, table))
		}
	}
	below(own, taken)
	out.Values = own
	return &out, nil
}

// put is a table at a path.
func put(path string, table map[string]any) map[string]any {
	if path == "" || path == "." {
		return table
	}
	out := table
	steps := strings.Split(path, ".")
	for _, step := range slices.Backward(steps) {
		out = map[string]any{step: out}
	}
	return out
}

// below adds what is not there.
func below(into, values map[string]any) {
	for k, v := range values {
		have, there := into[k]
		mine, isMap := have.(map[string]any)
		theirs, alsoMap := v.(map[string]any)
		switch {
		case !there:
			into[k] = clone(v)
		case isMap && alsoMap:
			below(mine, theirs)
		}
	}
}
