// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/edit"
	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// target is the document that a finding is in.
type target struct {
	finding scan.Finding
	text    []byte
	value   map[string]any
}

func parseValue(text []byte) (map[string]any, error) {
	d := manifest.Text{Line: 1, Bytes: text}.Parse()
	if d.Err != nil {
		return nil, fmt.Errorf("line %d: %s", d.Err.Line, d.Err.Message)
	}
	return d.Value, nil
}

// resolve is the path of a field in the document; ok is false when the finding has no such place: it is not about a container.
// [*] is the element that the finding is about.
func (t *target) resolve(field string) (path []string, ok bool) {
	found := manifest.ParsePath(t.finding.Path)
	if field == control.Found {
		return slices.Concat(t.finding.Item, found), true
	}
	pod := control.PodPath(t.finding.Object.Kind)
	base := []string{}
	if rest, is := strings.CutPrefix(field, "container."); is {
		n := len(pod) + 2 // the list and the index
		if pod == nil || len(found) < n || !slices.Equal(found[:len(pod)], pod) || !slices.Contains(control.ContainerLists(), found[len(pod)]) {
			return nil, false
		}
		base, field = found[:n], rest
	} else if rest, is := strings.CutPrefix(field, "pod."); is {
		if pod == nil {
			return nil, false
		}
		base, field = pod, rest
	}
	path = slices.Clone(base)
	for _, step := range manifest.ParsePath(field) {
		if step == "*" {
			if len(found) <= len(path) || !slices.Equal(found[:len(path)], path) {
				return nil, false
			}
			step = found[len(path)]
		}
		path = append(path, step)
	}
	return slices.Concat(t.finding.Item, path), true
}

// at is the value at a path.
func (t *target) at(path []string) (any, bool) {
	var v any = t.value
	for _, step := range path {
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[step]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// is reports whether a value that an edit's When names stands at a path.
func (t *target) is(path []string, want any) bool {
	have, ok := t.at(path)
	if want == nil {
		return !ok || have == nil
	}
	if prefix, cut := strings.CutSuffix(fmt.Sprint(want), "*"); cut {
		text, is := have.(string)
		return is && strings.HasPrefix(text, prefix)
	}
	return ok && equal(have, want)
}

// holds reports whether a value stands at a path, or in the list that is there.
func (t *target) holds(path []string, want any) bool {
	have, _ := t.at(path)
	if list, ok := have.([]any); ok {
		return slices.ContainsFunc(list, func(v any) bool { return equal(v, want) })
	}
	return have != nil && equal(have, want)
}

// equal compares what YAML and JSON decoders made: their numbers have different types.
func equal(a, b any) bool {
	number := func(v any) any {
		switch n := v.(type) {
		case int64:
			return float64(n)
		case int:
			return float64(n)
		}
		return v
	}
	return reflect.DeepEqual(number(a), number(b))
}

// ops are the changes that an edit means here.
func (t *target) ops(e control.Edit) ([]edit.Op, error) {
	for field, values := range e.When {
		path, ok := t.resolve(field)
		if !ok {
			return nil, nil
		}
		if !slices.ContainsFunc(values, func(v any) bool { return t.is(path, v) }) {
			return nil, nil
		}
	}
	path, ok := t.resolve(e.Set + e.Append + e.Remove)
	if !ok {
		return nil, nil
	}
	if e.Remove != "" {
		return t.removals(e, path), nil
	}
	value := e.To
	if e.Copy != "" {
		from, ok := t.resolve(e.Copy)
		if !ok {
			return nil, errNoSuchPlace
		}
		if value, ok = t.at(from); !ok {
			return nil, nil
		}
	}
	if n, is := value.(float64); is && n == float64(int64(n)) {
		value = int64(n) // as JSON has it
	}
	return []edit.Op{{Path: path, Value: value, Append: e.Append != ""}}, nil
}

// removals are those of a whole field, or of some elements of a list: the last first, so that the others stay where they are.
func (t *target) removals(e control.Edit, path []string) []edit.Op {
	have, ok := t.at(path)
	if !ok {
		return nil
	}
	list, isList := have.([]any)
	if e.Values == nil && e.Except == nil || !isList {
		return []edit.Op{{Path: path, Remove: true}}
	}
	var ops []edit.Op
	for i, item := range slices.Backward(list) {
		has := func(v any) bool { return equal(item, v) }
		if slices.ContainsFunc(e.Values, has) || e.Except != nil && !slices.ContainsFunc(e.Except, has) {
			ops = append(ops, edit.Op{Path: append(slices.Clone(path), strconv.Itoa(i)), Remove: true})
		}
	}
	return ops
}

// documents are the parts of a file: those that a scan would read, and what stands between them.
type documents []document

type document struct {
	text   []byte
	first  int // line
	lines  int
	inline bool // it does not stand on lines of its own
	filler bool
}

// split cuts a file into documents, of which join makes the same file.
func split(text []byte) documents {
	var lines [][]byte
	for line := range bytes.Lines(text) {
		lines = append(lines, line)
	}
	var out documents
	next := 1
	fill := func(until int) {
		if until > next {
			out = append(out, document{text: bytes.Join(lines[next-1:until-1], nil), first: next, lines: until - next, filler: true})
		}
		next = until
	}
	r := manifest.NewReader(bytes.NewReader(text), "")
	for {
		t, err := r.NextText()
		if err != nil {
			break // the end: nothing else can go wrong with bytes
		}
		n := bytes.Count(t.Bytes, []byte("\n"))
		if len(t.Bytes) > 0 && t.Bytes[len(t.Bytes)-1] != '\n' {
			n++
		}
		if t.Bytes == nil || t.Line < next || t.Line+n-1 > len(lines) {
			continue // too large, or not as it is in the file
		}
		fill(t.Line)
		own := bytes.Join(lines[t.Line-1:t.Line-1+n], nil)
		out = append(out, document{text: own, first: t.Line, lines: n, inline: !bytes.Equal(own, t.Bytes)})
		next = t.Line + n
	}
	fill(len(lines) + 1)
	return out
}

// of is the document that a line is in; -1 when it cannot be changed.
func (d documents) of(line int) int {
	return slices.IndexFunc(d, func(x document) bool {
		return !x.filler && !x.inline && line >= x.first && line < x.first+x.lines
	})
}

func (d documents) join() []byte {
	var out []byte
	for _, x := range d {
		out = append(out, x.text...)
	}
	return out
}
