// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"slices"
	"strings"
)

// enabled is the chart with those of its dependencies that its values turn on, each under its alias. The chart itself stays as it is.
func (c *Chart) enabled(values map[string]any) *Chart {
	out := *c
	out.Charts = nil
	for _, sub := range c.Charts {
		if !slices.ContainsFunc(c.Meta.Dependencies, func(d Dependency) bool { return d.Name == sub.Meta.Name }) {
			out.Charts = append(out.Charts, sub) // nobody says anything of it
		}
	}
	for _, d := range c.Meta.Dependencies {
		i := slices.IndexFunc(c.Charts, func(sub *Chart) bool { return sub.Meta.Name == d.Name })
		if i < 0 || !d.on(values) {
			continue
		}
		sub := *c.Charts[i]
		if d.Alias != "" {
			sub.Meta.Name = d.Alias
		}
		out.Charts = append(out.Charts, &sub)
	}
	for i, sub := range out.Charts {
		own, _ := values[sub.Meta.Name].(map[string]any)
		out.Charts[i] = sub.enabled(own)
	}
	return &out
}

// on: the first condition that has a value decides; without one the tags do, and without those it is on.
func (d *Dependency) on(values map[string]any) bool {
	for condition := range strings.SplitSeq(d.Condition, ",") {
		if b, ok := at(values, strings.TrimSpace(condition)).(bool); ok {
			return b
		}
	}
	tags, _ := values["tags"].(map[string]any)
	off := false
	for _, tag := range d.Tags {
		b, ok := tags[tag].(bool)
		if ok && b {
			return true
		}
		off = off || ok
	}
	return !off
}

func at(values map[string]any, path string) any {
	var v any = values
	for step := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[step]
	}
	return v
}

// coalesce lays values over the chart's own: what is null goes away, objects are put together. Those of its dependencies are under their
// names, and what is global is everybody's.
func (c *Chart) coalesce(values map[string]any) (map[string]any, error) {
	// What is null for a dependency takes away a value of its own, and so is still needed.
	out := over(values, c.Values, func(key string) bool {
		return slices.ContainsFunc(c.Charts, func(sub *Chart) bool { return sub.Meta.Name == key })
	}, false)
	for _, sub := range c.Charts {
		name := sub.Meta.Name
		own, ok := out[name].(map[string]any)
		if have, there := out[name]; there && !ok && have != nil {
			return nil, fmt.Errorf("the value %s must be an object: it is the chart's of that name", name)
		}
		inner := over(nil, own, always, true)
		global, _ := out["global"].(map[string]any)
		theirs, _ := inner["global"].(map[string]any)
		inner["global"] = over(global, theirs, always, true)
		var err error
		if out[name], err = sub.coalesce(inner); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

func always(string) bool { return true }
func never(string) bool  { return false }

// over is a copy of base with values laid over it. keepNull are the keys in whose objects null stays null; in others it takes away. keepOwn:
// what is null in base and stands alone stays so too.
func over(values, base map[string]any, keepNull func(key string) bool, keepOwn bool) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		if _, has := values[k]; has || v == nil && !keepOwn {
			continue
		}
		out[k] = clone(v)
		if m, isMap := out[k].(map[string]any); isMap && !keepOwn {
			out[k] = over(nil, m, never, false) // without the nulls in it
		}
	}
	for k, v := range values {
		below, has := base[k].(map[string]any)
		m, isMap := v.(map[string]any)
		switch {
		case v == nil && hasKey(base, k) && !keepNull(k):
			// taken away
		case isMap && has && keepNull(k):
			out[k] = over(m, below, always, true)
		case isMap && has:
			out[k] = over(m, below, never, false)
		default:
			out[k] = clone(v)
		}
	}
	return out
}

func hasKey(m map[string]any, k string) bool {
	_, ok := m[k]
	return ok
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, in := range v {
			out[k] = clone(in)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, in := range v {
			out[i] = clone(in)
		}
		return out
	}
	return v
}

// Merge lays values over others, in place. Of two files with values the last one wins.
func Merge(into, values map[string]any) {
	for k, v := range values {
		below, has := into[k].(map[string]any)
		m, isMap := v.(map[string]any)
		if has && isMap {
			Merge(below, m)
			continue
		}
		into[k] = v
	}
}
