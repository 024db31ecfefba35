// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"maps"
	"slices"
)

// Example is an object that a control must judge in a known way.
type Example struct {
	Name    string
	Bad     bool // the control must fail
	Object  map[string]any
	Related []map[string]any // other objects that are there
	// Ephemeral: the object is sent to the pod's ephemeralcontainers, as `kubectl debug` does.
	Ephemeral bool
	File      string
	Line      int
}

// tests is the third document of a file. A container is tried in every place where one can stand, a pod in
// every kind that makes pods, so that no place is forgotten.
type tests struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Container  *containerTest `json:"container"`
	Pod        *podTest       `json:"pod"`
	Objects    *objectTest    `json:"objects"`
}

type containerTest struct {
	// In are the places where the control looks; empty is all of them.
	In   []string         `json:"in"`
	Pod  map[string]any   `json:"pod"` // what the pod's spec has beside
	Bad  []map[string]any `json:"bad"`
	Good []map[string]any `json:"good"`
}

type podTest struct {
	Kinds []string         `json:"kinds"` // empty: all
	Bad   []map[string]any `json:"bad"`
	Good  []map[string]any `json:"good"`
}

// objectTest has lists of objects: the first is judged, the others are there.
type objectTest struct {
	Bad  [][]map[string]any `json:"bad"`
	Good [][]map[string]any `json:"good"`
}

// Places where a container can stand.
const (
	placeApp       = "containers"
	placeInit      = "initContainers"
	placeSidecar   = "sidecars"
	placeEphemeral = "ephemeralContainers"
)

func places() []string { return []string{placeApp, placeInit, placeSidecar, placeEphemeral} }

// PodKinds are those that have a pod's spec somewhere.
func PodKinds() []string {
	return []string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob", "PodTemplate"}
}

// Examples are the objects in the control's file, in every place and kind.
func (c *Control) Examples() ([]Example, error) {
	if err := c.readTests(); err != nil {
		return nil, err
	}
	if c.tests == nil {
		return nil, fmt.Errorf("%s has no tests: add a third document of kind ControlTests", c.Source)
	}
	var t tests
	if err := strict(c.Source, c.line, c.tests, &t); err != nil {
		return nil, err
	}
	if t.Kind != "ControlTests" {
		return nil, fmt.Errorf("%s:%d: the third document is no ControlTests", c.Source, c.line)
	}
	var out []Example
	add := func(e Example) {
		e.File, e.Line = c.Source, c.line
		out = append(out, e)
	}
	if t.Container != nil {
		t.Container.each(add)
	}
	if t.Pod != nil {
		t.Pod.each(add)
	}
	if t.Objects != nil {
		t.Objects.each(add)
	}
	bad := slices.ContainsFunc(out, func(e Example) bool { return e.Bad })
	good := slices.ContainsFunc(out, func(e Example) bool { return !e.Bad })
	if !bad || !good {
		return nil, fmt.Errorf("%s:%d: the tests need objects that are good and some that are bad", c.Source, c.line)
	}
	return out, nil
}

func (t *containerTest) each(add func(Example)) {
	in := t.In
	if len(in) == 0 {
		in = places()
	}
	for _, place := range in {
		forEach(t.Bad, t.Good, func(bad bool, i int, fields map[string]any) {
			name := fmt.Sprintf("%s container %d in %s", word(bad), i+1, place)
			spec := merge(basePod(), t.Pod)
			one := merge(map[string]any{"name": "tried", "image": baseImage}, fields)
			switch place {
			case placeApp:
				spec["containers"] = []any{one, baseContainer()}
			case placeSidecar:
				one["restartPolicy"] = "Always"
				spec["initContainers"] = []any{one}
			default:
				spec[place] = []any{one}
			}
			add(Example{Name: name, Bad: bad, Object: podObject("Pod", spec), Ephemeral: place == placeEphemeral})
		})
	}
	if slices.Contains(in, placeApp) {
		pods := &podTest{}
		for _, b := range t.Bad {
			pods.Bad = append(pods.Bad, merge(t.Pod, map[string]any{"containers": []any{merge(map[string]any{"name": "tried", "image": baseImage}, b)}}))
		}
		pods.each(func(e Example) {
			if e.Object["kind"] != "Pod" {
				add(e)
			}
		})
	}
}

func (t *podTest) each(add func(Example)) {
	kinds := t.Kinds
	if len(kinds) == 0 {
		kinds = PodKinds()
	}
	for _, kind := range kinds {
		forEach(t.Bad, t.Good, func(bad bool, i int, fields map[string]any) {
			add(Example{Name: fmt.Sprintf("%s pod %d in a %s", word(bad), i+1, kind), Bad: bad, Object: podObject(kind, merge(basePod(), fields))})
		})
	}
}

func (t *objectTest) each(add func(Example)) {
	for _, bad := range []bool{true, false} {
		list := t.Good
		if bad {
			list = t.Bad
		}
		for i, objects := range list {
			if len(objects) > 0 {
				add(Example{Name: fmt.Sprintf("%s object %d", word(bad), i+1), Bad: bad, Object: objects[0], Related: objects[1:]})
			}
		}
	}
}

func forEach(bad, good []map[string]any, do func(bad bool, i int, fields map[string]any)) {
	for i, fields := range bad {
		do(true, i, fields)
	}
	for i, fields := range good {
		do(false, i, fields)
	}
}

func word(bad bool) string {
	if bad {
		return "bad"
	}
	return "good"
}

const baseImage = "registry.example/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func baseContainer() map[string]any { return map[string]any{"name": "other", "image": baseImage} }

func basePod() map[string]any { return map[string]any{"containers": []any{baseContainer()}} }

// podObject is an object of a kind whose pods have a spec.
func podObject(kind string, spec map[string]any) map[string]any {
	labels := map[string]any{"app": "example"}
	template := map[string]any{"metadata": map[string]any{"labels": labels}, "spec": spec}
	object := map[string]any{"apiVersion": "apps/v1", "kind": kind, "metadata": map[string]any{"name": "example", "namespace": "default", "labels": labels}}
	selector := map[string]any{"matchLabels": labels}
	if _, ok := spec["restartPolicy"]; !ok && (kind == "Job" || kind == "CronJob") {
		spec["restartPolicy"] = "Never"
	}
	switch kind {
	case "Pod":
		object["apiVersion"], object["spec"] = "v1", spec
	case "PodTemplate":
		object["apiVersion"], object["template"] = "v1", template
	case "ReplicationController":
		object["apiVersion"], object["spec"] = "v1", map[string]any{"selector": labels, "template": template}
	case "Job":
		object["apiVersion"], object["spec"] = "batch/v1", map[string]any{"template": template}
	case "CronJob":
		job := map[string]any{"spec": map[string]any{"template": template}}
		object["apiVersion"], object["spec"] = "batch/v1", map[string]any{"schedule": "@daily", "jobTemplate": job}
	case "StatefulSet":
		object["spec"] = map[string]any{"selector": selector, "serviceName": "example", "template": template}
	default:
		object["spec"] = map[string]any{"selector": selector, "template": template}
	}
	return object
}

// merge lays over on base; objects are merged, everything else is replaced.
func merge(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range over {
		b, okBase := out[k].(map[string]any)
		o, okOver := v.(map[string]any)
		if okBase && okOver {
			out[k] = merge(b, o)
			continue
		}
		out[k] = v
	}
	return out
}
