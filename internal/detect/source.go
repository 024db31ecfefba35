// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"go.yaml.in/yaml/v3"
)

// document is one file, taken apart and not yet checked.
type document struct {
	lists, additions map[string][]scalar
	names            map[string]scalar // where each list and macro of the file is defined, or added to
	macros           map[string]scalar
	rules            []ruleSource
	exceptions       []exceptionSource
	changes          []changeSource
	tests            []exampleSource
	reader           *reader // has the problems
}

type ruleSource struct {
	node                                           *yaml.Node
	from                                           *reader
	id, title, description, severity, action, when scalar
	rate, threshold, different, output             scalar
	tags, types                                    []scalar
	exceptions                                     []exceptionSource
	tests                                          []exampleSource
	disabled                                       *bool
}

type exceptionSource struct {
	rule, name, reason, when scalar
	node                     *yaml.Node
	from                     *reader
}

// changeSource is what a file changes of a rule of another.
type changeSource struct {
	rule, severity, action, rate scalar
	disabled                     *bool
	node                         *yaml.Node
	from                         *reader
}

// parse takes a file apart.
func parse(f File) *document {
	r := newReader(f)
	d := &document{reader: r, lists: map[string][]scalar{}, additions: map[string][]scalar{}, names: map[string]scalar{}, macros: map[string]scalar{}}
	if root := r.root(f.Data); root != nil {
		d.read(r, root)
	}
	return d
}

func (d *document) read(r *reader, root *yaml.Node) {
	named := func(what string, take func(name string, v *yaml.Node)) func(*yaml.Node) {
		return func(n *yaml.Node) {
			r.each(n, what, func(key, v *yaml.Node) {
				if d.names[key.Value].node != nil {
					r.bad(key, "%q is defined on line %d already", key.Value, d.names[key.Value].node.Line)
					return
				}
				d.names[key.Value] = scalar{key.Value, key, r}
				take(key.Value, v)
			})
		}
	}
	r.mapping(root, "a file of rules", map[string]func(*yaml.Node){
		"lists": named("lists", func(name string, v *yaml.Node) {
			var list []scalar
			r.texts("list "+name, &list)(v)
			d.lists[name] = list
		}),
		"add_to_lists": func(n *yaml.Node) {
			r.each(n, "add_to_lists", func(key, v *yaml.Node) {
				list := []scalar{{key.Value, key, r}} // the first says where
				r.texts("list "+key.Value, &list)(v)
				d.additions[key.Value] = append(d.additions[key.Value], list...)
			})
		},
		"macros": named("macros", func(name string, v *yaml.Node) {
			var s scalar
			r.text(&s)(v)
			d.macros[name] = s
		}),
		"rules":      r.list("rules", func(n *yaml.Node) { d.rules = append(d.rules, r.rule(n)) }),
		"exceptions": r.list("exceptions", func(n *yaml.Node) { d.exceptions = append(d.exceptions, r.exception(n, true)) }),
		"changes":    r.list("changes", func(n *yaml.Node) { d.changes = append(d.changes, r.change(n)) }),
		"tests":      r.list("tests", func(n *yaml.Node) { d.tests = append(d.tests, r.example(n, true)) }),
	})
}

func (r *reader) rule(n *yaml.Node) ruleSource {
	s := ruleSource{node: n, from: r}
	r.mapping(n, "a rule", map[string]func(*yaml.Node){
		"id": r.text(&s.id), "title": r.text(&s.title), "description": r.text(&s.description), "severity": r.text(&s.severity),
		"tags": r.texts("tags", &s.tags), "types": r.texts("types", &s.types), "when": r.text(&s.when),
		"exceptions": r.list("exceptions", func(n *yaml.Node) { s.exceptions = append(s.exceptions, r.exception(n, false)) }),
		"rate":       r.text(&s.rate), "threshold": r.text(&s.threshold), "different": r.text(&s.different),
		"output": r.text(&s.output), "action": r.text(&s.action), "disabled": r.flag(&s.disabled),
		"tests": r.list("tests", func(n *yaml.Node) { s.tests = append(s.tests, r.example(n, false)) }),
	})
	return s
}

// exception reads an exception; one outside of a rule names the rule.
func (r *reader) exception(n *yaml.Node, outside bool) exceptionSource {
	s := exceptionSource{node: n, from: r}
	fields := map[string]func(*yaml.Node){"name": r.text(&s.name), "reason": r.text(&s.reason), "when": r.text(&s.when)}
	if outside {
		fields["rule"] = r.text(&s.rule)
	}
	r.mapping(n, "an exception", fields)
	return s
}

func (r *reader) change(n *yaml.Node) changeSource {
	s := changeSource{node: n, from: r}
	r.mapping(n, "a change", map[string]func(*yaml.Node){"rule": r.text(&s.rule), "severity": r.text(&s.severity),
		"action": r.text(&s.action), "rate": r.text(&s.rate), "disabled": r.flag(&s.disabled)})
	return s
}
