// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// containerLists are the fields of a pod's spec that hold containers.
func containerLists() []string {
	return []string{"containers", "initContainers", "ephemeralContainers"}
}

// elements are those of a list in the object.
func (l *locator) elements(path []string) []any { return listAt(l.all(), path) }

func listAt(fields map[string]any, path []string) []any {
	var at any = fields
	for _, step := range path {
		switch v := at.(type) {
		case map[string]any:
			at = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(v) {
				return nil
			}
			at = v[i]
		default:
			return nil
		}
	}
	list, _ := at.([]any)
	return list
}

// partsOf are the objects with one element of a list each, made once for all controls.
func (l *locator) partsOf(list string) []part {
	if have, ok := l.single[list]; ok {
		return have
	}
	var out []part
	paths := [][]string{strings.Split(list, "\x00")}
	if list == containerWord {
		paths = nil
		for _, name := range containerLists() {
			paths = append(paths, append(slices.Clone(l.podPath), name))
		}
	}
	for _, path := range paths {
		for i := range l.elements(path) {
			out = append(out, part{at: append(slices.Clone(path), strconv.Itoa(i))})
		}
	}
	if len(out) > 1 {
		for i := range out {
			out[i].fields = l.all()
			for _, path := range paths {
				keep := []any{}
				if slices.Equal(out[i].at[:len(out[i].at)-1], path) {
					index, _ := strconv.Atoi(out[i].at[len(out[i].at)-1]) // it was made of a number
					keep = []any{l.elements(path)[index]}
				}
				out[i].fields = replaced(out[i].fields, path, keep)
			}
			out[i].object = l.decode(out[i].fields)
		}
	}
	l.single[list] = out
	return out
}

// without is the object with no container at all.
func (l *locator) without() *object.Object {
	fields := l.all()
	for _, name := range containerLists() {
		fields = replaced(fields, append(slices.Clone(l.podPath), name), []any{})
	}
	return l.decode(fields)
}

func (l *locator) decode(fields map[string]any) *object.Object {
	o, err := l.judge.decoder.Decode(fields)
	if err != nil {
		return nil
	}
	return o
}

// inner finds the element of a list within an element that is bad alone; the first when only one is there.
func (l *locator) inner(path, element []string, v engine.Verdict, p part) (int, bool) {
	list := l.elements(path)
	if len(list) <= 1 {
		return 0, len(list) == 1
	}
	fields := l.all()
	inReduced := path
	if p.fields != nil { // the element is the only one of its list there
		fields = p.fields
		inReduced = slices.Clone(path)
		inReduced[len(element)-1] = "0"
	}
	for i := range list {
		o := l.decode(replaced(fields, inReduced, []any{list[i]}))
		if len(l.still(o, []engine.Verdict{v})) > 0 {
			return i, true
		}
	}
	return 0, false
}

// replaced is a copy of fields with another value at a path; what is not on the path is shared. A path that is not there
// stays so.
func replaced(fields map[string]any, path []string, value any) map[string]any {
	out, ok := replace(fields, path, value).(map[string]any)
	if !ok {
		return fields
	}
	return out
}

func replace(at any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	switch v := at.(type) {
	case map[string]any:
		if _, ok := v[path[0]]; !ok {
			return v
		}
		out := maps.Clone(v)
		out[path[0]] = replace(v[path[0]], path[1:], value)
		return out
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(v) {
			return v
		}
		out := slices.Clone(v)
		out[i] = replace(v[i], path[1:], value)
		return out
	}
	return at
}
