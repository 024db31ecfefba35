// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/expression"
	"github.com/vigie-io/vigie/internal/model"
)

// defaultRate is the limit of a rule that names none: a process that does it again and again is told of, and counted.
const defaultRate = "5/1m by process.exec_id"

// unlimited as a rate is none.
const unlimited = "unlimited"

// maxRules bounds a set.
const maxRules = 5000

// compiler makes a Set of files. All that is wrong is collected.
type compiler struct {
	documents []*document
	language  *expression.Language
	rules     map[string]*Rule
	places    map[string]ruleSource
	problems  FileErrors
	lists     map[string][]string
	macros    map[string]scalar
}

// Compile checks files and makes one set of them: a file can use the lists and macros of the others, and add exceptions to their
// rules. The error is FileErrors: then there is no set.
func Compile(files []File) (*Set, error) {
	c := &compiler{rules: make(map[string]*Rule), places: make(map[string]ruleSource), lists: make(map[string][]string),
		macros: make(map[string]scalar)}
	for _, f := range files {
		d := parse(f)
		c.documents = append(c.documents, d)
	}
	if !c.define() {
		return nil, c.failed()
	}
	for _, d := range c.documents {
		for _, s := range d.rules {
			c.rule(s)
		}
	}
	set := &Set{language: c.language}
	for _, d := range c.documents {
		c.adapt(d)
		set.Examples = append(set.Examples, c.examples(d)...)
	}
	if err := c.failed(); err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(c.rules)) {
		set.Rules = append(set.Rules, c.rules[id])
	}
	if len(set.Rules) > maxRules {
		return nil, FileErrors{{Path: files[len(files)-1].Path, Message: fmt.Sprintf("there are %d rules, at most %d are taken", len(set.Rules), maxRules)}}
	}
	set.index()
	return set, nil
}

// failed are the problems so far, nil when there are none.
func (c *compiler) failed() error {
	all := slices.Clone(c.problems)
	for _, d := range c.documents {
		all = append(all, d.reader.problems...)
	}
	if len(all) == 0 {
		return nil
	}
	return all.sorted()
}

// define gathers the lists and macros of all files and makes the language; false when it cannot be used.
func (c *compiler) define() bool {
	good := true
	bad := func(s scalar, format string, args ...any) {
		s.bad(format, args...)
		good = false
	}
	defined := make(map[string]scalar)
	plain, err := expression.New(expression.Definitions{})
	if err != nil {
		c.problems = append(c.problems, &FileError{Path: DefaultSource, Message: err.Error()})
		return false
	}
	for _, d := range c.documents {
		for name, at := range d.names {
			switch before, twice := defined[name]; {
			case !isName(name):
				bad(at, "%q is no name: use small letters, digits and _", name)
			case plain.Reserved(name):
				bad(at, "%q is a field of events: use another name", name)
			case twice:
				bad(at, "%q is defined in %s:%d already: use another name, or add_to_lists", name, before.from.path, before.node.Line)
			}
			defined[name] = at
		}
		for name, list := range d.lists {
			c.lists[name] = texts(list)
		}
		maps.Copy(c.macros, d.macros)
	}
	for _, d := range c.documents {
		for name, list := range d.additions {
			if _, ok := c.lists[name]; !ok {
				bad(list[0], "there is no list %q to add to", name)
				continue
			}
			c.lists[name] = append(c.lists[name], texts(list[1:])...)
		}
	}
	if !good {
		return false
	}
	macros := make(map[string]string)
	for name, s := range c.macros {
		macros[name] = s.text
	}
	if c.language, err = expression.New(expression.Definitions{Lists: c.lists, Macros: macros, Ancestors: true}); err != nil {
		c.macroProblems(err)
		return false
	}
	return true
}

// macroProblems tells each joined error at the macro's place.
func (c *compiler) macroProblems(err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			c.macroProblems(e)
		}
		return
	}
	var m *expression.MacroError
	if errors.As(err, &m) && c.macros[m.Name].node != nil {
		c.macros[m.Name].badAt(0, "macro "+m.Name+": ", m.Err)
		return
	}
	c.problems = append(c.problems, &FileError{Path: DefaultSource, Message: err.Error()})
}

// rule checks one rule.
func (c *compiler) rule(s ruleSource) {
	id := s.id
	switch {
	case id.node == nil && resolve(s.node).Kind != yaml.MappingNode:
		return // said already
	case id.node == nil:
		s.from.bad(s.node, "a rule has no id")
		return
	case !isName(id.text):
		id.bad("%q is no id: use small letters, digits and _", id.text)
		return
	case c.rules[id.text] != nil:
		before := c.places[id.text]
		id.bad("rule %s is in %s:%d already: use another id, or exceptions and changes to adapt that one", id.text, before.from.path, before.id.node.Line)
		return
	}
	r := &Rule{ID: id.text, Title: s.title.text, Description: s.description.text, Tags: texts(s.tags), Action: ActionAlert,
		Disabled: s.disabled != nil && *s.disabled, Source: sourceOf(s.from.path), Line: id.node.Line, When: s.when.text, counts: new(counts)}
	c.rules[r.ID], c.places[r.ID] = r, s
	for name, field := range map[string]scalar{"title": s.title, "severity": s.severity, "when": s.when, "output": s.output} {
		if field.node == nil {
			id.bad("rule %s has no %s", r.ID, name)
		}
	}
	c.severity(r, s.severity)
	c.action(r, s.action)
	c.condition(r, s)
	for _, e := range s.exceptions {
		c.exception(r, e)
	}
	c.limits(r, s)
	if s.output.node != nil {
		out, at, err := parseOutput(c.language, s.output.text)
		if err != nil {
			s.output.badAt(at, "output: ", err)
		}
		r.output = out
	}
}

func (c *compiler) severity(r *Rule, s scalar) {
	if s.node == nil {
		return
	}
	if r.Severity = model.Severity(s.text); !slices.Contains(model.Severities(), r.Severity) {
		s.bad("%q is no severity: use %s", s.text, join(model.Severities()))
	}
}

func (c *compiler) action(r *Rule, s scalar) {
	if s.node == nil {
		return
	}
	if r.Action = Action(s.text); r.Action != ActionAlert && r.Action != ActionKill {
		s.bad("%q is no action: use %s or %s", s.text, ActionAlert, ActionKill)
	}
}

// condition checks `when` and settles the types of event.
func (c *compiler) condition(r *Rule, s ruleSource) {
	if s.when.node == nil {
		return
	}
	cond, err := c.language.Condition(s.when.text)
	if err != nil {
		s.when.badAt(0, "", err)
		return
	}
	r.when = cond
	possible := slices.DeleteFunc(cond.Types(), func(t model.Type) bool { return !observed(t) })
	for _, t := range s.types {
		switch typ := model.Type(t.text); {
		case !slices.Contains(model.Types(), typ):
			t.bad("%q is no event type: use %s", t.text, join(model.Types()))
		case !observed(typ):
			t.bad("rules do not look at %s events", typ)
		case !slices.Contains(possible, typ):
			t.bad("the expression holds for no %s event", typ)
		default:
			r.Types = append(r.Types, typ)
		}
	}
	switch {
	case len(s.types) > 0:
	case len(possible) == 0:
		s.when.bad("the expression holds for no event")
	case len(possible) > maxDerivedTypes:
		s.when.bad("the expression could hold for events of %d types: name the types that are meant, `types: [exec]` or type == \"exec\" in it", len(possible))
	default:
		r.Types = possible
	}
}

// maxDerivedTypes is how many types an expression may leave open: those of sockets, and some. More is an oversight.
const maxDerivedTypes = 6

// observed reports whether rules look at events of a type. What they find is none, nor is what was lost.
func observed(t model.Type) bool { return t != model.TypeAlert && t != model.TypeLoss }

func (c *compiler) exception(r *Rule, s exceptionSource) {
	for name, field := range map[string]scalar{"name": s.name, "reason": s.reason, "when": s.when} {
		if field.node == nil {
			s.from.bad(s.node, "an exception of rule %s has no %s", r.ID, name)
		}
	}
	if s.when.node == nil {
		return
	}
	if slices.ContainsFunc(r.Exceptions, func(e Exception) bool { return e.Name == s.name.text }) {
		s.name.bad("rule %s has an exception %q already", r.ID, s.name.text)
	}
	cond, err := c.language.Condition(s.when.text)
	if err != nil {
		s.when.badAt(0, "", err)
		return
	}
	r.Exceptions = append(r.Exceptions, Exception{Name: s.name.text, Reason: s.reason.text, When: s.when.text, Source: sourceOf(s.from.path)})
	r.exceptions = append(r.exceptions, cond)
}

func (c *compiler) limits(r *Rule, s ruleSource) {
	c.rate(r, s.rate)
	if s.threshold.node == nil {
		if s.different.node != nil {
			s.different.bad("different says what threshold counts: there is no threshold")
		}
		return
	}
	l, at, err := parseLimit(c.language, s.threshold.text)
	if err != nil {
		s.threshold.badAt(at, "threshold: ", err)
		return
	}
	r.threshold = &threshold{limit: *l, seed: maphash.MakeSeed()}
	if s.different.node == nil {
		return
	}
	if l.n > maxDifferent {
		s.threshold.bad("threshold: at most %d different values are counted", maxDifferent)
	}
	if r.threshold.different, err = c.language.Text(s.different.text); err != nil {
		s.different.badAt(0, "different: ", err)
	}
}

func (c *compiler) rate(r *Rule, s scalar) {
	text := defaultRate
	if s.node != nil {
		text = s.text
	}
	if text == unlimited {
		r.rate = nil
		return
	}
	l, at, err := parseLimit(c.language, text)
	if err != nil {
		s.badAt(at, "rate: ", err)
		return
	}
	r.rate = &rate{limit: *l}
}

// adapt applies what a file adds to the rules of others.
func (c *compiler) adapt(d *document) {
	for _, e := range d.exceptions {
		if r := c.named(e.rule, e.node, e.from); r != nil {
			c.exception(r, e)
		}
	}
	for _, ch := range d.changes {
		r := c.named(ch.rule, ch.node, ch.from)
		if r == nil {
			continue
		}
		c.severity(r, ch.severity)
		c.action(r, ch.action)
		if ch.rate.node != nil {
			c.rate(r, ch.rate)
		}
		if ch.disabled != nil {
			r.Disabled = *ch.disabled
		}
	}
}

// named is the rule that an exception, a change or a test of another file names.
func (c *compiler) named(id scalar, n *yaml.Node, from *reader) *Rule {
	if id.node == nil {
		from.bad(n, "which rule? write rule: ID")
		return nil
	}
	r := c.rules[id.text]
	if r == nil {
		id.bad("there is no rule %q: `vigie rules list --local` lists them", id.text)
	}
	return r
}

func isName(s string) bool { return namePattern.MatchString(s) }

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

func texts(list []scalar) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.text
	}
	return out
}

func contains(types []model.Type, t model.Type) bool { return slices.Contains(types, t) }

func sourceOf(path string) string {
	if strings.HasPrefix(path, DefaultSource+"/") {
		return DefaultSource
	}
	return path
}

func join[S ~string](list []S) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}
