// SPDX-License-Identifier: Apache-2.0

package object

import (
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Paths are keys and indices as they stand in a manifest. They are followed in the typed struct itself: making fields of
// it first costs more than judging it does.

// Len is how many elements the list at a path has: 0 when there is no list.
func (o *Object) Len(path []string) int {
	v := walk(o.root(), path)
	if v.Kind() != reflect.Slice {
		return 0
	}
	return v.Len()
}

// Text is the string at a path, or empty.
func (o *Object) Text(path []string) string {
	v := walk(o.root(), path)
	if v.Kind() != reflect.String {
		return ""
	}
	return v.String()
}

// Texts are the strings in the object at a path, such as labels; what is no string is left out.
func (o *Object) Texts(path []string) map[string]string {
	v := walk(o.root(), path)
	if v.Kind() != reflect.Map {
		return nil
	}
	out := make(map[string]string, v.Len())
	for it := v.MapRange(); it.Next(); {
		if value := bare(it.Value()); value.Kind() == reflect.String && it.Key().Kind() == reflect.String {
			out[it.Key().String()] = value.String()
		}
	}
	return out
}

// Value is what stands at a path, as a pointer when it is a struct; nil when nothing does. It must not be changed.
func (o *Object) Value(path []string) any {
	v := walk(o.root(), path)
	switch {
	case !v.IsValid():
		return nil
	case v.Kind() == reflect.Struct && v.CanAddr():
		return v.Addr().Interface()
	}
	return v.Interface()
}

// Only is the object with a single element of the list at a path, or with an empty list when element is negative. What is not
// on the path is shared, so that neither object may be changed. A path that is not there changes nothing.
func (o *Object) Only(path []string, element int) *Object {
	u, custom := o.API.(*unstructured.Unstructured)
	root := reflect.ValueOf(o.API)
	if custom {
		root = reflect.ValueOf(u.Object)
	}
	changed, ok := keepOne(root, path, element)
	if !ok {
		return o
	}
	out := *o
	if custom {
		fields, _ := changed.Interface().(map[string]any) // its type is that of root
		out.API = &unstructured.Unstructured{Object: fields}
		return &out
	}
	if out.API, ok = changed.Interface().(runtime.Object); !ok {
		return o
	}
	return &out
}

// root is where paths begin.
func (o *Object) root() reflect.Value {
	if u, ok := o.API.(*unstructured.Unstructured); ok {
		return reflect.ValueOf(u.Object)
	}
	return reflect.ValueOf(o.API)
}

// walk follows a path; the zero Value is nothing.
func walk(v reflect.Value, path []string) reflect.Value {
	v = bare(v)
	for _, step := range path {
		switch v.Kind() {
		case reflect.Struct:
			index, ok := fieldNamed(v.Type(), step)
			if !ok {
				return reflect.Value{}
			}
			v = v.FieldByIndex(index)
		case reflect.Map:
			if v.Type().Key().Kind() != reflect.String {
				return reflect.Value{}
			}
			v = v.MapIndex(reflect.ValueOf(step).Convert(v.Type().Key()))
		case reflect.Slice:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= v.Len() {
				return reflect.Value{}
			}
			v = v.Index(i)
		default:
			return reflect.Value{}
		}
		v = bare(v)
	}
	return v
}

// bare is a value without the pointers and interfaces around it.
func bare(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

// fieldNamed finds a field by its name in JSON; those of structs that are inlined are a struct's own.
func fieldNamed(t reflect.Type, name string) ([]int, bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name && f.IsExported() {
			return []int{i}, true
		}
		if tag == "" && f.Anonymous && f.Type.Kind() == reflect.Struct {
			if rest, ok := fieldNamed(f.Type, name); ok {
				return append([]int{i}, rest...), true
			}
		}
	}
	return nil, false
}

// keepOne copies what is on the path.
func keepOne(v reflect.Value, path []string, element int) (reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v, false
		}
		out := reflect.New(v.Type().Elem())
		out.Elem().Set(v.Elem())
		return out, keepWithin(out.Elem(), path, element)
	case reflect.Interface:
		if v.IsNil() {
			return v, false
		}
		return keepOne(v.Elem(), path, element)
	case reflect.Slice:
		return keepInSlice(v, path, element)
	case reflect.Struct:
		out := reflect.New(v.Type()).Elem()
		out.Set(v)
		return out, keepWithin(out, path, element)
	case reflect.Map:
		return keepInMap(v, path, element)
	}
	return v, false
}

// keepWithin changes a value that is a copy already: the structs in a struct are a part of it.
func keepWithin(v reflect.Value, path []string, element int) bool {
	if v.Kind() != reflect.Struct {
		made, ok := keepOne(v, path, element)
		if ok {
			v.Set(made)
		}
		return ok
	}
	if len(path) == 0 {
		return false
	}
	index, ok := fieldNamed(v.Type(), path[0])
	return ok && keepWithin(v.FieldByIndex(index), path[1:], element)
}

func keepInSlice(v reflect.Value, path []string, element int) (reflect.Value, bool) {
	if len(path) == 0 {
		out := reflect.MakeSlice(v.Type(), 0, 1)
		if element >= 0 && element < v.Len() {
			out = reflect.Append(out, v.Index(element))
		}
		return out, true
	}
	i, err := strconv.Atoi(path[0])
	if err != nil || i < 0 || i >= v.Len() {
		return v, false
	}
	inner, ok := keepOne(v.Index(i), path[1:], element)
	if !ok {
		return v, false
	}
	out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
	reflect.Copy(out, v)
	out.Index(i).Set(inner)
	return out, true
}

func keepInMap(v reflect.Value, path []string, element int) (reflect.Value, bool) {
	if len(path) == 0 || v.Type().Key().Kind() != reflect.String {
		return v, false
	}
	key := reflect.ValueOf(path[0]).Convert(v.Type().Key())
	at := v.MapIndex(key)
	if !at.IsValid() {
		return v, false
	}
	inner, ok := keepOne(at, path[1:], element)
	if !ok {
		return v, false
	}
	out := reflect.MakeMapWithSize(v.Type(), v.Len())
	for it := v.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	out.SetMapIndex(key, inner)
	return out, true
}
