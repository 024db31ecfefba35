// SPDX-License-Identifier: Apache-2.0

// Package object makes of a document what an admission policy would see in the API server. In: the fields as written.
// Out: an Object that went through its typed struct, so that a null is an absent field, and that has the
// API's defaults. Kinds that vigie has no struct for (custom resources, removed versions) stay as they were written.
package object

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is one Kubernetes object.
type Object struct {
	Kind      schema.GroupVersionKind // as written
	Resource  schema.GroupVersionResource
	Served    schema.GroupVersionKind // the version that policies are evaluated in: Kind, or its equivalent
	Namespace string                  // empty when it is not in one
	Name      string                  // or its generateName
	API       runtime.Object          // typed, or *unstructured.Unstructured
	Size      Size
	Unknown   []string // fields that the kind does not have: the API server drops or refuses them
}

// Size is how large the parts of an object are.
type Size struct {
	List int // elements of the longest list or object
	Text int // bytes of the longest text
}

// SizeOf measures fields as JSON has them. What the API's defaults add is counted in.
func SizeOf(fields map[string]any) Size {
	s := Size{List: LeastList, Text: 32} // no default is longer
	s.measure(fields)
	return s
}

// LeastList is the least that Size.List can be: how many fields the API's defaults may add to an object, at most.
const LeastList = 8

// With is the larger of two sizes in each.
func (s Size) With(other Size) Size {
	return Size{List: max(s.List, other.List), Text: max(s.Text, other.Text)}
}

func (s *Size) measure(v any) {
	switch v := v.(type) {
	case string:
		s.Text = max(s.Text, len(v))
	case map[string]any:
		s.List = max(s.List, len(v)+LeastList)
		for k, in := range v {
			s.Text = max(s.Text, len(k))
			s.measure(in)
		}
	case []any:
		s.List = max(s.List, len(v))
		for _, in := range v {
			s.measure(in)
		}
	}
}

// ErrNotObject is for documents that are no Kubernetes object at all: values of a chart, a compose file.
var ErrNotObject = errors.New("no apiVersion and kind: not a Kubernetes object")

// Decoder makes objects. It is safe for concurrent use.
type Decoder struct {
	kinds       map[schema.GroupVersionKind]kind
	equivalents map[schema.GroupVersionKind]schema.GroupVersionKind
}

// NewDecoder makes a decoder for the kinds that vigie knows.
func NewDecoder() *Decoder { return &Decoder{kinds: kinds(), equivalents: equivalents()} }

// Decode takes the fields of a document; they must not be changed afterwards. An error says which field has
// the wrong type: the API server would refuse it too.
func (d *Decoder) Decode(fields map[string]any) (*Object, error) {
	apiVersion, _ := fields["apiVersion"].(string)
	kindName, _ := fields["kind"].(string)
	if apiVersion == "" || kindName == "" {
		return nil, ErrNotObject
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, fmt.Errorf("apiVersion %q: want group/version", apiVersion)
	}
	o := &Object{Kind: gv.WithKind(kindName), Size: SizeOf(fields)}
	o.Served = o.Kind
	if to, ok := d.equivalents[o.Kind]; ok {
		o.Served = to
	}
	known, ok := d.kinds[o.Served]
	if !ok {
		return o, d.custom(o, fields)
	}
	o.Resource = o.Kind.GroupVersion().WithResource(known.resource)
	typed := known.typed()
	if o.Unknown, err = decode(fields, typed); err != nil {
		return nil, err
	}
	typed.GetObjectKind().SetGroupVersionKind(o.Served)
	setDefaults(typed)
	o.API = typed
	access, err := meta.Accessor(typed)
	if err != nil {
		return nil, fmt.Errorf("read metadata of %s: %w", o.Kind.Kind, err)
	}
	if !known.cluster && access.GetNamespace() == "" {
		access.SetNamespace("default")
	}
	o.Namespace, o.Name = access.GetNamespace(), access.GetName()
	if known.cluster {
		access.SetNamespace("")
		o.Namespace = ""
	}
	if o.Name == "" {
		o.Name = access.GetGenerateName()
	}
	return o, nil
}

func (d *Decoder) custom(o *Object, fields map[string]any) error {
	if m, ok := fields["metadata"]; ok && m != nil {
		if _, ok := m.(map[string]any); !ok {
			return errors.New("metadata: want an object")
		}
	}
	u := &unstructured.Unstructured{Object: fields}
	o.Resource, o.API = o.Kind.GroupVersion().WithResource(Plural(o.Kind.Kind)), u
	o.Namespace, o.Name = u.GetNamespace(), u.GetName()
	return nil
}

// FieldError is a field whose value has the wrong type.
type FieldError struct {
	Path    []string // without the indices of lists
	Message string
}

// Error implements error.
func (e *FieldError) Error() string {
	if len(e.Path) == 0 {
		return e.Message
	}
	return strings.Join(e.Path, ".") + ": " + e.Message
}

// decode fills a struct. YAML's nulls become absent fields, as they do on the way into the API server.
func decode(fields map[string]any, into runtime.Object) (unknown []string, err error) {
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, into, true)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, e := range strict.Errors() {
			unknown = append(unknown, strings.Trim(strings.TrimPrefix(e.Error(), "unknown field "), `"`))
		}
		return unknown, nil
	}
	if err != nil {
		return nil, explain(err, fields, into)
	}
	return nil, nil
}

// explain finds the field that an error of the converter is about: it does not say, the JSON decoder does.
func explain(err error, fields map[string]any, into runtime.Object) error {
	text, jsonErr := json.Marshal(fields)
	if jsonErr != nil {
		return &FieldError{Message: err.Error()}
	}
	jsonErr = json.Unmarshal(text, into)
	var typed *json.UnmarshalTypeError
	if !errors.As(jsonErr, &typed) {
		return &FieldError{Message: err.Error()}
	}
	return &FieldError{Path: strings.Split(typed.Field, "."), Message: fmt.Sprintf("got a %s, want %s", typed.Value, typeName(typed.Type))}
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "an object"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	}
	return "a number"
}

// Plural guesses the resource of a kind, as its definition names it in all but rare cases.
func Plural(kind string) string {
	name := strings.ToLower(kind)
	stem, y := strings.CutSuffix(name, "y")
	switch {
	case y && stem != "" && !strings.ContainsAny(stem[len(stem)-1:], "aeiou"):
		return stem + "ies"
	case strings.HasSuffix(name, "s") || strings.HasSuffix(name, "x") || strings.HasSuffix(name, "ch"):
		return name + "es"
	}
	return name + "s"
}

// ResourceOf is the resource of a built-in kind, by its name alone; empty for a kind that vigie has no struct for. Where several groups
// have a kind of that name, it is the one whose objects people write.
func ResourceOf(kind string) schema.GroupVersionResource {
	var found schema.GroupVersionResource
	for gvk, known := range kinds() {
		if gvk.Kind == kind && (found.Resource == "" || gvk.Version > found.Version) {
			found = gvk.GroupVersion().WithResource(known.resource)
		}
	}
	return found
}
