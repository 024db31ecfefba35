// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/celtext"
	"github.com/vigie-io/vigie/internal/posture/control"
)

// A control says whether an object is good, not where it is bad. As in a scan the policy is asked again about the object with one container,
// or one element of a list, at a time; here in CEL, where the reduced object stands in the place of the whole one in the text of the policy.

// The roots of an object that a policy's text has names for.
const (
	podSpec = "podSpec" // a variable of the library
	whole   = "object"
)

// Names in CEL of what a patch is made for. No control uses such.
const (
	theContainer = "vigieOne"
	theIndex     = "vigieAt"
	theReduced   = "vigiePart"
)

// mutator makes patches of a control's fix.
type mutator struct {
	control  *control.Control
	w        *writer
	rename   func(string) string
	spec     string // CEL of the pod's spec
	fills    bool   // what a manifest says stays
	debugged bool   // containers are also added to a pod that runs
}

// group are lists of patches that one mutation may make together, all of the object as it was before.
type group struct {
	lists []string
	alone bool // makes objects above a field, which another would make too; or looks at what one before it did
}

// mutations are the expressions that make a control's fix, in order. Each sees what the one before it did.
func (w *writer) mutations(r *rule, choice FixChoice) ([]string, error) {
	c := r.control
	m := &mutator{control: c, w: w, rename: w.names(c), fills: choice.fills()}
	m.debugged = slices.ContainsFunc(r.atoms, func(a atom) bool { return a.resource == debugged })
	m.spec = m.rename(selects + podSpec)
	guards := append(w.guards(r, m.rename), w.variable("vigieGood_"+celtext.Identifier(c.ID), m.rename(m.judgement("", ""))))
	first, err := m.admission()
	if err != nil {
		return nil, fmt.Errorf("fix of %s: %w", c.ID, err)
	}
	var groups []group
	for i, e := range c.Fix.Edits {
		made, err := m.edit(e)
		if err != nil {
			return nil, fmt.Errorf("fix of %s: %w", c.ID, err)
		}
		if i == 0 { // what the API server made of the field goes with it
			made[0].lists = append(first, made[0].lists...)
		}
		for _, g := range made {
			if n := len(groups); n > 0 && !g.alone && !groups[n-1].alone {
				groups[n-1].lists = append(groups[n-1].lists, g.lists...)
			} else {
				groups = append(groups, g)
			}
		}
	}
	var out []string
	for _, g := range groups {
		out = append(out, strings.Join(guards, " || ")+" ? [] : "+strings.Join(g.lists, " + "))
	}
	return out, nil
}

// text is the expression of a variable of the control's policy.
func (m *mutator) text(variable string) (string, bool) {
	for _, v := range m.control.Policy.Spec.Variables {
		if v.Name == variable {
			return v.Expression, true
		}
	}
	return "", false
}

// inPods reports whether the fix changes something in a pod's spec.
func (m *mutator) inPods() bool {
	return slices.ContainsFunc(m.paths(), func(p string) bool { return placeOf(p).root != whole })
}

// inContainers reports whether the fault is in a container.
func (m *mutator) inContainers() bool {
	return slices.ContainsFunc(m.control.Fields, func(f string) bool { return placeOf(f).root == "container" })
}

// paths are those that the fix changes.
func (m *mutator) paths() []string {
	var out []string
	for _, e := range slices.Concat(m.control.Fix.Edits, m.control.Fix.Admission) {
		if p := e.Set + e.Append + e.Remove; p != control.Found {
			out = append(out, p)
		} else {
			out = append(out, m.control.Fields...)
		}
	}
	return out
}

// judgement is CEL for "the object is good", where a name stands for a root. Variables that depend on the root are written out.
func (m *mutator) judgement(root, name string) string {
	names := map[string]string{}
	if root == whole {
		names[whole] = name
	}
	var inline func(text string) string
	resolve := func(variable string) (string, bool) {
		if variable == root {
			return name, true
		}
		text, ok := m.text(variable)
		if !ok || !m.dependsOn(text, root) {
			return "", false
		}
		return "(" + inline(text) + ")", true
	}
	inline = func(text string) string { return celtext.Replace(text, resolve, names) }
	var all []string
	for _, v := range m.control.Policy.Spec.Validations {
		all = append(all, "("+inline(v.Expression)+")")
	}
	return strings.Join(all, " && ")
}

func (m *mutator) dependsOn(text, root string) bool {
	found := false
	named := celtext.Replace(text, func(variable string) (string, bool) {
		inner, ok := m.text(variable)
		found = found || variable == root || ok && m.dependsOn(inner, root)
		return "", false
	}, map[string]string{root: "\x00"})
	return found || root == whole && strings.Contains(named, "\x00")
}

// holds is CEL for "the object is good with this in the place of a root".
func (m *mutator) holds(root, reduced string) string {
	return "[" + reduced + "].all(" + theReduced + ", " + m.rename(m.judgement(root, theReduced)) + ")"
}

// only is the pod's spec with one list of containers, and no other.
func (m *mutator) only(list, containers string) string {
	return m.spec + ".transformMap(vigieKey, vigieValue, vigieKey in " + celtext.List(control.ContainerLists()) + " ? dyn(vigieKey == " + celtext.Quote(list) + " ? " + containers + " : []) : dyn(vigieValue))"
}

// lists are those that containers stand in.
func (m *mutator) lists() []string {
	if m.debugged {
		return control.ContainerLists()
	}
	return control.ContainerLists()[:2]
}

// here is CEL for "the request is about the whole pod"; empty when it always is.
func (m *mutator) here() []string {
	if !m.debugged {
		return nil
	}
	return []string{m.w.variable("vigieWhole", "request.?subResource.orValue('') == ''")}
}

// containers is CEL for those of a list.
func (m *mutator) containers(list string) string {
	all := m.spec + ".?" + list + ".orValue([])"
	if here := m.here(); here != nil && list != control.ContainerLists()[2] {
		return "(" + here[0] + " ? " + all + " : [])"
	}
	return all
}

// added is a condition for containers that debug: those that are there already cannot be changed.
func (m *mutator) added(list string) []string {
	if list != control.ContainerLists()[2] {
		return nil
	}
	before := m.w.variable("vigieBefore", "oldObject == null ? [] : oldObject.?spec.ephemeralContainers.orValue([]).map(c, c.name)")
	return []string{"!(" + theContainer + ".name in " + before + ")"}
}

// bad is a variable with the indices of a list's containers that are bad alone.
func (m *mutator) bad(list string) string {
	return m.w.variable("vigieBad_"+celtext.Identifier(m.control.ID)+"_"+list,
		m.containers(list)+".transformList("+theIndex+", "+theContainer+", !"+m.holds(podSpec, m.only(list, "["+theContainer+"]"))+", "+theIndex+")")
}

// base is a JSON pointer, in CEL, of the pod's spec.
func (m *mutator) base() string {
	return m.w.variable("vigiePodPath", "object.kind == 'Pod' ? '/spec' : object.kind == 'CronJob' ? '/spec/jobTemplate/spec/template/spec' : "+
		"object.kind == 'PodTemplate' ? '/template/spec' : '/spec/template/spec'")
}

// admission are the patches that go with the first edit: they are made where that is.
func (m *mutator) admission() ([]string, error) {
	var out []string
	for _, e := range m.control.Fix.Admission {
		var conditions []string
		if lead := placeOf(m.control.Fix.Edits[0].Set); m.fills && lead.root != "container" {
			conditions = append(conditions, "!"+has(m.root(lead.root), lead.segments[0]))
		}
		lists, err := m.everywhere(e, placeOf(e.Set+e.Append+e.Remove), false, conditions)
		if err != nil {
			return nil, err
		}
		out = append(out, lists...)
	}
	return out, nil
}

// edit makes the patches of one edit.
func (m *mutator) edit(e control.Edit) ([]group, error) {
	path := e.Set + e.Append + e.Remove
	if path == control.Found {
		return m.found(e)
	}
	p := placeOf(path)
	var conditions, added []string
	if twin, ok := m.twin(p, "container"); ok && e.Set != "" { // it is for containers that say nothing themselves
		conditions = []string{m.ofThePod([]string{"!" + has(theContainer, twin.segments[0])})}
		if m.debugged { // of a pod that runs nothing can be set, but in what is added
			one := e
			one.Set = "container." + strings.TrimPrefix(e.Set, "pod.")
			var err error
			if added, err = m.everywhere(one, twin, true, nil, control.ContainerLists()[2]); err != nil {
				return nil, err
			}
		}
	}
	lists, err := m.everywhere(e, p, true, conditions)
	lists = append(lists, added...)
	alone := e.Remove == "" && len(p.segments) == 1 && len(p.segments[0]) > 1
	if alone && e.Copy != "" { // what is copied stands beside: nothing is made above it
		from := placeOf(e.Copy)
		alone = from.root != p.root || len(from.segments) != 1 || !slices.Equal(from.segments[0][:len(from.segments[0])-1], p.segments[0][:len(p.segments[0])-1])
	}
	return []group{{lists, alone}}, err
}

// found makes the patches of an edit of the field that a finding is about: the first of the control's that is there.
func (m *mutator) found(e control.Edit) ([]group, error) {
	var outer, inner group
	inner.alone = true
	var before []string // fields that are not there
	var inContainer []string
	for _, f := range m.control.Fields {
		if p := placeOf(f); p.root == "container" {
			inContainer = append(inContainer, "!"+has(theContainer, p.segments[0]))
		}
	}
	for _, f := range m.control.Fields {
		p := placeOf(f)
		one := e
		if e.Set != "" {
			one.Set = f
		} else {
			one.Remove = f
		}
		into, conditions := &outer, slices.Clone(before)
		switch {
		case p.root == "container":
			into, conditions = &inner, nil
		case len(inContainer) > 0:
			conditions = append(conditions, m.ofThePod(inContainer))
		}
		if len(p.segments) == 1 {
			base := m.root(p.root)
			conditions = append(conditions, has(base, p.segments[0]))
			if p.root != "container" {
				before = append(before, "!"+has(base, p.segments[0]))
			}
		}
		lists, err := m.everywhere(one, p, true, conditions)
		if err != nil {
			return nil, err
		}
		into.lists = append(into.lists, lists...)
	}
	return slices.DeleteFunc([]group{outer, inner}, func(g group) bool { return len(g.lists) == 0 }), nil
}

// ofThePod is CEL for "it is bad without any container, or for a container that says nothing itself".
func (m *mutator) ofThePod(silent []string) string {
	parts := []string{"!" + m.holds(podSpec, m.only("", "[]"))}
	for _, list := range m.lists() {
		parts = append(parts, m.containers(list)+".transformList("+theIndex+", "+theContainer+", "+strings.Join(append([]string{theIndex + " in " + m.bad(list)}, silent...), " && ")+", true).size() > 0")
	}
	return "(" + strings.Join(parts, " || ") + ")"
}

// root is CEL for what a place's path begins in.
func (m *mutator) root(root string) string {
	switch root {
	case "container":
		return theContainer
	case "pod":
		return m.spec
	}
	return whole
}

// twin is the place of the same field in each container, or in the pod, where the control looks at both.
func (m *mutator) twin(p place, root string) (twin place, ok bool) {
	ok = p.root != whole && p.root != root && slices.ContainsFunc(m.control.Fields, func(f string) bool {
		twin = placeOf(f)
		return twin.root == root && slices.EqualFunc(twin.segments, p.segments, slices.Equal)
	})
	return twin, ok
}

// everywhere makes the patches of an edit in each container, or those of some lists, in the pod's spec or in the object. judged: only where
// the object is bad.
func (m *mutator) everywhere(e control.Edit, p place, judged bool, conditions []string, only ...string) ([]string, error) {
	if p.root == "container" {
		if len(only) == 0 {
			only = m.lists()
		}
		var out []string
		for _, list := range only {
			here := append(slices.Clone(conditions), m.added(list)...)
			if judged && m.inContainers() {
				here = append(here, theIndex+" in "+m.bad(list))
			}
			s := site{m: m, edit: e, place: p, base: theContainer, pointer: m.base() + " + " + celtext.Quote("/"+list+"/") + " + string(" + theIndex + ")", judged: judged, list: list}
			patch, more, err := s.patch()
			if err != nil {
				return nil, err
			}
			out = append(out, m.containers(list)+".transformList("+theIndex+", "+theContainer+", "+conjunction(append(here, more...))+", "+patch+")")
		}
		return out, nil
	}
	s := site{m: m, edit: e, place: p, base: m.root(p.root), judged: judged}
	if p.root == "pod" {
		s.pointer = m.base()
		conditions = append(slices.Clone(conditions), m.here()...)
	}
	patch, more, err := s.patch()
	if err != nil {
		return nil, err
	}
	return []string{"(" + conjunction(append(conditions, more...)) + " ? [" + patch + "] : [])"}, nil
}

func conjunction(all []string) string { return cmp.Or(strings.Join(all, " && "), "true") }

// conditions are the edit's own, and where it does not go. part are the element that the edit is about, and its place.
func (m *mutator) conditions(e control.Edit, base string, p place, part string) ([]string, error) {
	at := func(path string) (string, []string, error) {
		q := placeOf(path)
		switch {
		case len(q.segments) > 1 && part != "" && q.root == p.root && slices.EqualFunc(q.segments[:len(q.segments)-1], p.segments[:len(p.segments)-1], slices.Equal):
			return part, q.segments[len(q.segments)-1], nil
		case len(q.segments) > 1 || q.root == "container" && base != theContainer:
			return "", nil, fmt.Errorf("the condition on %s cannot be asked where %s is", path, e.Set+e.Append+e.Remove)
		}
		return m.root(q.root), q.segments[0], nil
	}
	var out []string
	for _, path := range slices.Sorted(maps.Keys(e.When)) {
		of, steps, err := at(path)
		if err != nil {
			return nil, err
		}
		var one []string
		for _, v := range e.When[path] {
			one = append(one, is(of, steps, v))
		}
		out = append(out, "("+strings.Join(one, " || ")+")")
	}
	for _, path := range slices.Sorted(maps.Keys(m.control.Fix.Unless)) {
		of, steps, err := at(path)
		if err != nil {
			return nil, err
		}
		for _, v := range m.control.Fix.Without(path) {
			out = append(out, "![dyn("+get(of, steps)+".orValue([]))].exists(v, type(v) == list ? "+literal(v)+" in v : v == "+literal(v)+")")
		}
	}
	return out, nil
}
