// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/facts"
	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// A policy says that an object is bad, not where. The locator asks it again about the object with one container, or
// one element of a list, at a time: the ones that it still refuses are the places.
type locator struct {
	judge *Judge
	ctx   context.Context // of the scan that the locator is a part of
	entry entry
	world world

	report  *Report            // where findings go
	subject *exception.Subject // the object
	podPath []string           // of the pod's spec; nil when the object has none
	single  map[string][]part  // a list's path → the object with one element at a time
}

// part is the object with a single element of a list.
type part struct {
	at     []string // the element in the whole object
	object *object.Object
}

// containerWord and podWord begin fields that stand in every container, and in the pod's spec.
const (
	containerWord = "container."
	podWord       = "pod."
)

// record writes the findings of an object's failed controls into a report.
func (l *locator) record(failed []engine.Verdict, report *Report) {
	l.report = report
	subject := exception.SubjectOf(l.entry.object, nil)
	l.podPath, l.subject = podPath(l.entry.object), &subject
	l.single = map[string][]part{}
	byList := map[string][]engine.Verdict{}
	for _, v := range failed {
		list := l.split(l.judge.Controls[v.Policy])
		byList[list] = append(byList[list], v)
	}
	for list, group := range byList {
		l.group(list, group)
	}
}

// split is the list whose elements are tried one by one: "container" is all containers, "" is none.
func (l *locator) split(c *control.Control) string {
	for _, f := range c.Fields {
		if strings.HasPrefix(f, containerWord) && l.podPath != nil {
			return containerWord
		}
		if before, _, ok := strings.Cut(f, "[*]"); ok {
			if path := l.resolve(before, nil); l.entry.object.Len(path) > 0 {
				return strings.Join(path, "\x00")
			}
		}
	}
	return ""
}

// resolve turns a field into a path in the object; container is that of the container it is about.
func (l *locator) resolve(field string, container []string) []string {
	base := []string{}
	switch {
	case strings.HasPrefix(field, containerWord):
		base, field = container, strings.TrimPrefix(field, containerWord)
	case strings.HasPrefix(field, podWord):
		base, field = l.podPath, strings.TrimPrefix(field, podWord)
	}
	return append(slices.Clone(base), strings.Split(field, ".")...)
}

// group finds the places of verdicts whose controls look at one list.
func (l *locator) group(list string, verdicts []engine.Verdict) {
	if list == "" {
		l.wholes(verdicts)
		return
	}
	parts := l.partsOf(list)
	if len(parts) == 1 { // nothing to choose
		for _, v := range verdicts {
			l.element(v, parts[0].at, parts[0])
		}
		return
	}
	left := slices.Clone(verdicts)
	if list == containerWord {
		for _, v := range l.ofThePod(left) {
			l.wholes([]engine.Verdict{v})
			left = slices.DeleteFunc(left, func(x engine.Verdict) bool { return x.Policy == v.Policy })
		}
	}
	found := map[int]bool{}
	for _, p := range parts {
		for _, v := range l.still(p.object, left) {
			found[v.Policy] = true
			l.element(v, p.at, p)
		}
	}
	for _, v := range left {
		if !found[v.Policy] { // only all of them together are bad
			l.wholes([]engine.Verdict{v})
		}
	}
}

// ofThePod are the verdicts that hold without any container too. Only a control that names a field of the pod can have them.
func (l *locator) ofThePod(verdicts []engine.Verdict) []engine.Verdict {
	var may []engine.Verdict
	for _, v := range verdicts {
		inContainer := func(f string) bool { return strings.HasPrefix(f, containerWord) }
		if c := l.judge.Controls[v.Policy]; slices.ContainsFunc(c.Fields, func(f string) bool { return !inContainer(f) }) {
			may = append(may, v)
		}
	}
	if len(may) == 0 {
		return nil
	}
	return l.still(l.without(), may)
}

// still are the verdicts that hold for a reduced object, with its messages.
func (l *locator) still(o *object.Object, verdicts []engine.Verdict) []engine.Verdict {
	if len(verdicts) == 0 {
		return nil
	}
	only := make([]int, len(verdicts))
	for i, v := range verdicts {
		only[i] = v.Policy
	}
	again := l.judge.engine.ReviewOnly(l.ctx, l.judge.request(o, l.world), only...)
	return slices.DeleteFunc(again, func(v engine.Verdict) bool { return v.State != engine.Failed })
}

// wholes are findings about the object, or about fields that are not in a list.
func (l *locator) wholes(verdicts []engine.Verdict) {
	for _, v := range verdicts {
		c := l.judge.Controls[v.Policy]
		var path []string
		for _, f := range c.Fields {
			if strings.HasPrefix(f, containerWord) || l.podPath == nil && strings.HasPrefix(f, podWord) {
				continue
			}
			before, _, _ := strings.Cut(f, "[*]")
			candidate := l.resolve(before, nil)
			if path == nil || l.entry.doc.At(candidate).Found {
				path = candidate
				if l.entry.doc.At(candidate).Found {
					break
				}
			}
		}
		l.report.record(l.make(v, path))
	}
}

// element is a finding about one element of a list; a list within it is looked through too.
func (l *locator) element(v engine.Verdict, element []string, p part) {
	c := l.judge.Controls[v.Policy]
	var path []string
	for _, f := range c.Fields {
		candidate, ok := l.within(f, element, v, p)
		if !ok {
			continue
		}
		found := l.entry.doc.At(candidate).Found
		if path == nil || found {
			path = candidate
		}
		if found {
			break
		}
	}
	if path == nil {
		path = element
	}
	l.report.record(l.make(v, path))
}

// within resolves a field of a control in one element. Of a second list the first element that fails alone is taken.
func (l *locator) within(field string, element []string, v engine.Verdict, p part) ([]string, bool) {
	var rest string
	switch {
	case strings.HasPrefix(field, containerWord):
		rest = strings.TrimPrefix(field, containerWord)
	case strings.HasPrefix(field, podWord) && !strings.Contains(field, "[*]"):
		return l.resolve(field, nil), true
	default:
		before, after, ok := strings.Cut(field, "[*]")
		if !ok {
			return l.resolve(field, nil), true
		}
		if strings.Join(l.resolve(before, nil), "\x00") != strings.Join(element[:len(element)-1], "\x00") {
			return nil, false
		}
		rest = strings.TrimPrefix(after, ".")
	}
	path := slices.Clone(element)
	for rest != "" {
		before, after, more := strings.Cut(rest, "[*]")
		if before = strings.Trim(before, "."); before != "" {
			path = append(path, strings.Split(before, ".")...)
		}
		if !more {
			break
		}
		rest = after
		i, ok := l.inner(path, element, v, p)
		if !ok {
			return path, true
		}
		path = append(path, strconv.Itoa(i))
	}
	return path, true
}

// make is a finding at a path.
func (l *locator) make(v engine.Verdict, path []string) Finding {
	c, o := l.judge.Controls[v.Policy], l.entry.object
	at := l.entry.doc.At(path)
	f := Finding{Control: c.ID, Title: c.Title, Severity: c.Severity, File: at.File, Line: at.Line, Column: at.Column, Value: at.Value, Path: manifest.PathString(path),
		Object: Ref{APIVersion: o.Kind.GroupVersion().String(), Kind: o.Kind.Kind, Namespace: o.Namespace, Name: o.Name}, Container: l.container(path), Item: l.entry.doc.Item(),
		subject: l.subject}
	if c.Sensitive {
		f.Value = ""
	}
	if c.Fix != nil && c.Fix.Proof == facts.NoWrites {
		f.Mounts = l.mounts(path)
	}
	var messages []string
	for _, failure := range v.Failures {
		if !slices.Contains(messages, failure.Message) {
			messages = append(messages, failure.Message)
		}
	}
	f.Message = strings.Join(messages, "; ")
	f.Fingerprint = fingerprint(f.Control, f.Object, f.Path)
	return f
}

// podPath is where an object has a pod's spec; nil when it has none.
func podPath(o *object.Object) []string { return control.PodPath(o.Served.Kind) }

// container is the name of the container that a path leads into.
func (l *locator) container(path []string) string {
	if path = l.inContainer(path); path == nil {
		return ""
	}
	return l.entry.object.Text(append(path, "name"))
}

// mounts are the paths at which a container that a path leads into has volumes.
func (l *locator) mounts(path []string) []string {
	if path = l.inContainer(path); path == nil {
		return nil
	}
	path = append(path, "volumeMounts")
	var out []string
	for i := range l.entry.object.Len(path) {
		out = append(out, l.entry.object.Text(append(slices.Clone(path), strconv.Itoa(i), "mountPath")))
	}
	return out
}

// inContainer is the path of the container that a path leads into; nil when it leads into none.
func (l *locator) inContainer(path []string) []string {
	n := len(l.podPath) + 2 // its list and its index
	if l.podPath == nil || len(path) < n || !slices.Contains(control.ContainerLists(), path[n-2]) {
		return nil
	}
	return slices.Clone(path[:n])
}
