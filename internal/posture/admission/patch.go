// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/celtext"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// place is a path of a fix: in each container, in the pod's spec, or from the top of the object.
type place struct {
	root     string // container, pod or object
	segments [][]string
	// Between two segments are all elements of a list. The last may be empty: the element itself.
}

func placeOf(path string) place {
	p := place{root: whole, segments: [][]string{nil}}
	for _, root := range []string{"container", "pod"} {
		if rest, ok := strings.CutPrefix(path, root+"."); ok {
			p.root, path = root, rest
			break
		}
	}
	for _, step := range manifest.ParsePath(path) {
		if step == "*" {
			p.segments = append(p.segments, nil)
			continue
		}
		last := len(p.segments) - 1
		p.segments[last] = append(p.segments[last], step)
	}
	return p
}

// get is CEL for what may stand at a path: an optional.
func get(of string, steps []string) string {
	var b strings.Builder
	b.WriteString(of)
	for _, s := range steps {
		if celtext.Identifier(s) == s {
			b.WriteString(".?" + s)
		} else {
			b.WriteString("[?" + celtext.Quote(s) + "]")
		}
	}
	return b.String()
}

func has(of string, steps []string) string { return get(of, steps) + ".hasValue()" }

// is is CEL for "this value of an edit's When stands there".
func is(of string, steps []string, value any) string {
	if value == nil {
		return "!" + has(of, steps)
	}
	if prefix, cut := strings.CutSuffix(fmt.Sprint(value), "*"); cut {
		return "string(" + get(of, steps) + ".orValue('')).startsWith(" + celtext.Quote(prefix) + ")"
	}
	if len(steps) == 1 && slices.Contains([]string{"kind", "apiVersion"}, steps[0]) && of == whole {
		return of + "." + steps[0] + " == " + literal(value)
	}
	return "dyn(" + get(of, steps) + ".orValue(null)) == " + literal(value)
}

// literal is a value as JSON has it, in CEL.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return celtext.Quote(v)
	case float64:
		if v == float64(int64(v)) {
			return strconv.FormatInt(int64(v), 10)
		}
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = "dyn(" + literal(item) + ")"
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, celtext.Quote(k)+": dyn("+literal(v[k])+")")
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}

// pointer is a JSON pointer.
func pointer(steps []string) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(s))
	}
	return b.String()
}

// nested is CEL for objects in each other, with a value in the innermost.
func nested(steps []string, value string) string {
	for _, s := range slices.Backward(steps) {
		value = "{" + celtext.Quote(s) + ": " + value + "}"
	}
	return value
}

// site is where an edit is made.
type site struct {
	m       *mutator
	edit    control.Edit
	place   place
	base    string // CEL of what the place's path begins in
	pointer string // CEL of its JSON pointer; empty: the object
	judged  bool   // only elements that are bad alone
	list    string // that the container stands in
}

func (s *site) path(steps []string) string {
	if s.pointer == "" {
		return celtext.Quote(pointer(steps))
	}
	return s.pointer + " + " + celtext.Quote(pointer(steps))
}

// patch is CEL for one JSONPatch, and the conditions under which it is made.
func (s *site) patch() (patch string, conditions []string, err error) {
	if len(s.place.segments) > 1 {
		return s.rebuilt()
	}
	e, steps := s.edit, s.place.segments[0]
	if conditions, err = s.m.conditions(e, s.base, s.place, ""); err != nil {
		return "", nil, err
	}
	if e.Remove != "" {
		op, made := s.removal(steps)
		return op, append(made, conditions...), nil
	}
	value := literal(e.To)
	if e.Copy != "" {
		from := placeOf(e.Copy)
		if len(from.segments) > 1 || from.root == "container" && s.base != theContainer {
			return "", nil, fmt.Errorf("%s cannot be copied from", e.Copy)
		}
		of := s.m.root(from.root)
		conditions = append(conditions, has(of, from.segments[0]))
		value = get(of, from.segments[0]) + ".value()"
	}
	if s.m.fills {
		conditions = append(conditions, "!"+has(s.base, steps))
		// What the pod says holds for a container that says nothing: it was not left out.
		if twin, ok := s.m.twin(s.place, "pod"); ok {
			conditions = append(conditions, "!"+has(s.m.root("pod"), twin.segments[0]))
		}
	}
	at, put := s.path(steps), "dyn("+value+")"
	if e.Append != "" {
		there := has(s.base, steps)
		at, put = "("+there+" ? "+s.path(append(slices.Clone(steps), "-"))+" : "+at+")", "("+there+" ? "+put+" : dyn(["+value+"]))"
		value = "[" + value + "]"
	}
	for k := len(steps) - 1; k > 0; k-- { // what is missing above is made
		there := has(s.base, steps[:k])
		at = "(" + there + " ? " + at + " : " + s.path(steps[:k]) + ")"
		put = "(" + there + " ? " + put + " : dyn(" + nested(steps[k:], value) + "))"
	}
	return "JSONPatch{op: 'add', path: " + at + ", value: " + put + "}", conditions, nil
}

// removal takes away a field, or elements of a list.
func (s *site) removal(steps []string) (patch string, conditions []string) {
	e := s.edit
	if e.Values == nil && e.Except == nil {
		return "JSONPatch{op: 'remove', path: " + s.path(steps) + "}", []string{has(s.base, steps)}
	}
	var gone []string
	if e.Values != nil {
		gone = append(gone, "v in "+literal(e.Values))
	}
	if e.Except != nil {
		gone = append(gone, "!(v in "+literal(e.Except)+")")
	}
	list, goes := get(s.base, steps)+".orValue([])", strings.Join(gone, " || ")
	return "JSONPatch{op: 'replace', path: " + s.path(steps) + ", value: " + list + ".filter(v, !(" + goes + "))}", []string{list + ".exists(v, " + goes + ")"}
}

// rebuilt replaces a list by one with other elements.
func (s *site) rebuilt() (patch string, conditions []string, err error) {
	list := s.place.segments[0]
	reduced := func(elements string) string { // the object is good with these elements alone
		switch s.place.root {
		case "container":
			return s.m.holds(podSpec, s.m.only(s.list, "["+with(theContainer, list, elements, 0)+"]"))
		case "pod":
			return s.m.holds(podSpec, with(s.m.spec, list, elements, 0))
		}
		return s.m.holds(whole, with(whole, list, elements, 0))
	}
	s.judged = s.judged && slices.ContainsFunc(s.m.control.Fields, func(f string) bool {
		q := placeOf(f)
		return q.root == s.place.root && len(q.segments) >= len(s.place.segments) && slices.EqualFunc(q.segments[:len(s.place.segments)-1], s.place.segments[:len(s.place.segments)-1], slices.Equal)
	})
	was := get(s.base, list) + ".orValue([])"
	now, err := s.elements(was, 1, reduced)
	if err != nil {
		return "", nil, err
	}
	return "JSONPatch{op: 'replace', path: " + s.path(list) + ", value: " + now + "}", []string{has(s.base, list), now + " != " + was}, nil
}

// elements is CEL for a list whose elements were edited; depth is which segment they have.
func (s *site) elements(list string, depth int, reduced func(elements string) string) (string, error) {
	element := "vigieElement" + strconv.Itoa(depth)
	steps := s.place.segments[depth]
	if depth < len(s.place.segments)-1 {
		inner, err := s.elements(get(element, steps)+".orValue([])", depth+1, func(elements string) string {
			return reduced("[" + with(element, steps, elements, 10*depth) + "]")
		})
		if err != nil {
			return "", err
		}
		return list + ".map(" + element + ", " + has(element, steps) + " ? dyn(" + put(element, steps, inner, 10*depth) + ") : dyn(" + element + "))", nil
	}
	conditions, err := s.m.conditions(s.edit, s.base, s.place, element)
	if err != nil {
		return "", err
	}
	if s.judged {
		conditions = append(conditions, "!"+reduced("["+element+"]"))
	}
	if s.edit.Remove != "" && len(steps) == 0 {
		return list + ".filter(" + element + ", !(" + conjunction(conditions) + "))", nil
	}
	var edited string
	switch {
	case s.edit.Remove != "":
		conditions = append(conditions, has(element, steps))
		edited = without(element, steps, 10*depth)
	case s.edit.To == nil || s.edit.Append != "" || len(steps) == 0:
		return "", fmt.Errorf("%s: of elements of a list only a field can be set or removed", s.edit.Set+s.edit.Append)
	default:
		if s.m.fills {
			conditions = append(conditions, "!"+has(element, steps))
		}
		edited = put(element, steps, literal(s.edit.To), 10*depth)
	}
	return list + ".map(" + element + ", " + conjunction(conditions) + " ? dyn(" + edited + ") : dyn(" + element + "))", nil
}

// with is CEL for an object that has another value where it has one; n keeps the names of what is in each other apart.
func with(of string, steps []string, value string, n int) string {
	k, v := fmt.Sprintf("vigieKey%d", n), fmt.Sprintf("vigieValue%d", n)
	if len(steps) > 1 {
		value = with(v, steps[1:], value, n+1)
	}
	return of + ".transformMap(" + k + ", " + v + ", " + k + " == " + celtext.Quote(steps[0]) + " ? dyn(" + value + ") : dyn(" + v + "))"
}

// put is CEL for an object with a value at a path, whether or not it has one there.
func put(of string, steps []string, value string, n int) string {
	k, i := fmt.Sprintf("vigieKey%d", n), fmt.Sprintf("vigieIndex%d", n)
	if len(steps) > 1 {
		value = put(get(of, steps[:1])+".orValue({})", steps[1:], value, n+1)
	}
	name := celtext.Quote(steps[0])
	return "(" + of + ".map(" + k + ", " + k + ").filter(" + k + ", " + k + " != " + name + ") + [dyn(" + name + ")]).transformMapEntry(" + i + ", " + k + ", {" + k + ": " + k + " == " + name +
		" ? dyn(" + value + ") : dyn(" + of + "[" + k + "])})"
}

// without is CEL for an object that lacks the field at a path, which it has.
func without(of string, steps []string, n int) string {
	if len(steps) > 1 {
		return put(of, steps[:1], without(get(of, steps[:1])+".value()", steps[1:], n+1), n)
	}
	k, v := fmt.Sprintf("vigieKey%d", n), fmt.Sprintf("vigieValue%d", n)
	return of + ".transformMap(" + k + ", " + v + ", " + k + " != " + celtext.Quote(steps[0]) + ", " + v + ")"
}
