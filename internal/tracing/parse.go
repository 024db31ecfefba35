// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// apiVersion is the only one that there is.
const apiVersion = "cilium.io/v1alpha1"

// Policy is a policy that was read and found well-formed. Whether this kernel can carry it, Manager.Add tells.
type Policy struct {
	Name      string
	Namespace string // of a TracingPolicyNamespaced; else empty
	Document  Document
	Source    []byte // its YAML

	file   string
	places map[string]place // of the fields that are written, by path
}

// place is where something stands in a file, counted from 1.
type place struct{ line, column int }

// FieldError is one thing that is wrong with a policy.
type FieldError struct {
	File         string // as it was given to Parse
	Line, Column int
	Field        string // "spec.kprobes[0].selectors[1].matchArgs[0].operator"
	Problem      string // what is wrong and what to do
}

// Error is "FILE:LINE:COLUMN: FIELD: PROBLEM".
func (e *FieldError) Error() string {
	where := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Field == "" {
		return where + e.Problem
	}
	return where + e.Field + ": " + e.Problem
}

// Parse reads the TracingPolicies of a YAML file, which may hold several documents. name is what errors call the
// file. The error joins a *FieldError for everything that is wrong; documents are returned only when nothing is.
func Parse(name string, source []byte) ([]*Policy, error) {
	var policies []*Policy
	var errs []error
	d := yaml.NewDecoder(bytes.NewReader(source))
	for {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			errs = append(errs, &FieldError{File: name, Line: yamlLine(err), Column: 1, Problem: strings.TrimPrefix(err.Error(), "yaml: ")})
			break
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		p, err := parseDocument(name, doc.Content[0])
		errs = append(errs, err)
		policies = append(policies, p)
	}
	if len(policies) == 0 && errors.Join(errs...) == nil {
		errs = append(errs, &FieldError{File: name, Line: 1, Column: 1, Problem: "there is no policy in the file"})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return policies, nil
}

func yamlLine(err error) int {
	if _, after, ok := strings.Cut(err.Error(), "line "); ok {
		digits, _, _ := strings.Cut(after, ":")
		if n, err := strconv.Atoi(digits); err == nil {
			return n
		}
	}
	return 1
}

func parseDocument(name string, root *yaml.Node) (*Policy, error) {
	p := &Policy{file: name, places: make(map[string]place)}
	d := decoder{policy: p}
	d.value(root, reflect.ValueOf(&p.Document).Elem(), "")
	if m := &p.Document.Metadata; p.Document.Kind == "TracingPolicyNamespaced" && m.Namespace == "" {
		m.Namespace = "default"
	}
	p.Name, p.Namespace = p.Document.Metadata.Name, p.Document.Metadata.Namespace
	var err error
	if p.Source, err = yaml.Marshal(root); err != nil {
		return nil, fmt.Errorf("write %s again: %w", name, err)
	}
	errs := append(d.errs, validate(p)...)
	return p, errors.Join(errs...)
}

// problem makes an error about a field. One that is not written stands where the nearest that holds it does.
func (p *Policy) problem(field, format string, args ...any) *FieldError {
	at, ok := p.places[field]
	for path := field; !ok && path != ""; {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
		at, ok = p.places[path]
	}
	return &FieldError{File: p.file, Line: at.line, Column: at.column, Field: field, Problem: fmt.Sprintf(format, args...)}
}

// decoder fills the types of spec.go from nodes and remembers where every field stands.
type decoder struct {
	policy *Policy
	errs   []error
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, &FieldError{File: d.policy.file, Line: n.Line, Column: n.Column, Field: path, Problem: fmt.Sprintf(format, args...)})
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.policy.places[path] = place{n.Line, n.Column}
	if n.Tag == "!!null" {
		return // as if it were not there
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.fields(n, v, path)
	case reflect.Map:
		d.entries(n, v, path)
	case reflect.Slice:
		d.items(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) fields(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "a mapping of fields is wanted")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		field := fieldOf(v, key.Value)
		switch {
		case !field.IsValid() && path == "metadata":
			// What Kubernetes adds to an object's metadata (uid, resourceVersion, …) is no concern of a policy.
		case !field.IsValid():
			d.fail(key, at, "there is no such field; there are %s", strings.Join(fieldNames(v.Type()), ", "))
		case slices.ContainsFunc(n.Content[:i], func(o *yaml.Node) bool { return o.Line < key.Line && o.Column == key.Column && o.Value == key.Value }):
			d.fail(key, at, "the field is there twice")
		default:
			d.value(n.Content[i+1], field, at)
			if n.Content[i+1].Kind == yaml.ScalarNode {
				continue
			}
			d.policy.places[at] = place{key.Line, key.Column}
		}
	}
}

func fieldOf(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("yaml"))
	}
	return names
}

func (d *decoder) entries(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "a mapping of names to values is wanted")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		entry := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[i+1], entry, path+"."+n.Content[i].Value)
		v.SetMapIndex(reflect.ValueOf(n.Content[i].Value), entry)
	}
}

func (d *decoder) items(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "a list is wanted")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "one value is wanted, not a list or a mapping")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value) // numbers in lists of values are often written without quotes
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil {
			d.fail(n, path, "%q is neither true nor false", n.Value)
			return
		}
		v.SetBool(b)
	case reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 0, v.Type().Bits())
		if err != nil {
			d.fail(n, path, "%q is not a whole number of %d bits", n.Value, v.Type().Bits())
			return
		}
		v.SetInt(i)
	default:
		u, err := strconv.ParseUint(n.Value, 0, v.Type().Bits())
		if err != nil {
			d.fail(n, path, "%q is not a whole number of %d bits, zero or more", n.Value, v.Type().Bits())
			return
		}
		v.SetUint(u)
	}
}
