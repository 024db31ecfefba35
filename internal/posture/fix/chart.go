// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/render"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// Proposal is a value that a chart offers, and what setting it mends.
type Proposal struct {
	Set     string // as `helm --set` takes it
	Control *control.Control
	Mends   int // findings that are gone with it
	Of      int // that there were
}

// maxTrials bounds how often a chart is rendered.
const maxTrials = 200

// Chart proposes values: a template is not changed, because a chart is most often somebody else's. Values of its dependencies are among them.
// Each proposal was tried: the schemas of the chart's values allow it, the chart was rendered with it, and the findings counted.
func (f *Fixer) Chart(ctx context.Context, root string, values render.Values) ([]Proposal, *scan.Report, error) {
	c, err := render.OpenChart(root)
	if err != nil {
		return nil, nil, err
	}
	in := scan.Input{Paths: []string{root}, Values: values}
	before, err := f.Judge.Scan(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	counts := count(before)
	settable, err := c.Settable(values)
	if err != nil {
		return nil, nil, err
	}
	faults, err := c.Faults(values)
	if err != nil {
		return nil, nil, err
	}
	var out []Proposal
	trials := 0
	for _, ctl := range f.Judge.Controls {
		if counts[ctl.ID] == 0 || ctl.Fix == nil {
			continue
		}
		for _, set := range candidates(settable, ctl.Fix) {
			in.Values.Set = append(slices.Clone(values.Set), set)
			if now, err := c.Faults(in.Values); err != nil || slices.ContainsFunc(now, func(f string) bool { return !slices.Contains(faults, f) }) {
				continue // Helm would not take it
			}
			if trials++; trials > maxTrials {
				return out, before, nil
			}
			after, err := f.Judge.Scan(ctx, in)
			if err != nil {
				return nil, nil, err
			}
			if left := count(after)[ctl.ID]; left < counts[ctl.ID] && len(after.Problems) <= len(before.Problems) {
				out = append(out, Proposal{Set: set, Control: ctl, Mends: counts[ctl.ID] - left, Of: counts[ctl.ID]})
			}
		}
	}
	return out, before, nil
}

func count(r *scan.Report) map[string]int {
	out := map[string]int{}
	for i := range r.Findings {
		out[r.Findings[i].Control]++
	}
	return out
}

// candidates are values whose names are those of the fields that a fix sets: securityContext, or podSecurityContext.
func candidates(defaults map[string]any, fix *control.Fix) []string {
	var out []string
	for _, e := range fix.Edits {
		field, value := e.Set, e.To
		if e.Append != "" {
			field, value = e.Append, []any{e.To}
		}
		if e.Remove != "" && !strings.Contains(e.Remove, "[") {
			field, value = e.Remove, false // such as hostNetwork
		}
		field = strings.TrimPrefix(strings.TrimPrefix(field, "container."), "pod.")
		if field == "" || field == control.Found || strings.Contains(field, "[") || value == nil {
			continue
		}
		first, rest, _ := strings.Cut(field, ".")
		for _, at := range named(defaults, nil, first, rest != "") {
			path := strings.Join(at, ".")
			if rest != "" {
				path += "." + rest
			}
			if set := path + literal(value); !slices.Contains(out, set) {
				out = append(out, set)
			}
		}
	}
	return out
}

// named are the places in values whose last key is a name, or ends with it as in podSecurityContext; object: an object must stand there.
func named(values map[string]any, above []string, name string, object bool) [][]string {
	var out [][]string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path := append(slices.Clone(above), strings.ReplaceAll(key, ".", `\.`))
		inner, isObject := values[key].(map[string]any)
		if (isObject || values[key] == nil) == object && strings.HasSuffix(strings.ToLower(key), strings.ToLower(name)) {
			out = append(out, path)
		}
		if isObject {
			out = append(out, named(inner, path, name, object)...)
		}
	}
	return out
}

func literal(v any) string {
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, item := range list {
			parts[i] = fmt.Sprint(item)
		}
		return "={" + strings.Join(parts, ",") + "}"
	}
	return "=" + fmt.Sprint(v)
}
