// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// guarder makes guards for one kind of event. What it does not know it says so about, and CEL decides.
type guarder struct {
	language *Language
	kind     Kind
	locals   []local // variables of the loops around
}

// condition encloses a boolean expression.
func (g *guarder) condition(e ast.Expr) approximation {
	switch e.Kind() {
	case ast.IdentKind:
		if m, ok := g.language.macros[e.AsIdent()]; ok && g.local(e.AsIdent()) == nil {
			// A macro does not see the variables of the loops around it, and does not use their places.
			return (&guarder{g.language, g.kind, make([]local, len(g.locals))}).condition(m.expr)
		}
	case ast.CallKind:
		return g.call(e.AsCall())
	case ast.SelectKind:
		if sel := e.AsSelect(); sel.IsTestOnly() {
			return g.presence(sel)
		}
	case ast.ComprehensionKind:
		return g.loop(e.AsComprehension())
	}
	if v, ok := g.value(e); ok && v.kind == isFlag {
		return exactly(v.asPredicate())
	}
	return unknown()
}

// presence is has(x.field).
func (g *guarder) presence(sel ast.SelectExpr) approximation {
	of, ok := g.value(sel.Operand())
	if !ok || of.kind != isPart {
		return unknown()
	}
	f, ok := g.language.messages[of.message][sel.FieldName()]
	if !ok {
		return unknown()
	}
	if of.absent || of.message == "Event" && !g.possible(sel.FieldName()) {
		return exactly(constant(false))
	}
	part := of.part
	return exactly(predicate{test: func(s *Subject) bool { return f.isSet(part(s)) }})
}

func (g *guarder) call(c ast.CallExpr) approximation {
	args := c.Args()
	switch c.FunctionName() {
	case operators.LogicalAnd:
		return join(g.conditions(operators.LogicalAnd, args), all)
	case operators.LogicalOr:
		return join(g.conditions(operators.LogicalOr, args), anyHolds)
	case operators.LogicalNot:
		return negate(g.condition(args[0]))
	case operators.Conditional:
		test := g.condition(args[0])
		return join([]approximation{
			join([]approximation{test, g.condition(args[1])}, all),
			join([]approximation{negate(test), g.condition(args[2])}, all)}, anyHolds)
	}
	operands := args
	if c.IsMemberFunction() {
		operands = append([]ast.Expr{c.Target()}, args...)
	}
	if len(operands) != 2 {
		return unknown()
	}
	a, okA := g.value(operands[0])
	b, okB := g.value(operands[1])
	if !okA || !okB {
		return unknown()
	}
	p, ok := g.compare(c.FunctionName(), a, b)
	if !ok {
		return unknown()
	}
	return exactly(p)
}

// conditions are the operands of a chain of one operator: a && b && c.
func (g *guarder) conditions(operator string, args []ast.Expr) []approximation {
	var out []approximation
	for _, a := range args {
		if a.Kind() == ast.CallKind && a.AsCall().FunctionName() == operator {
			out = append(out, g.conditions(operator, a.AsCall().Args())...)
		} else {
			out = append(out, g.condition(a))
		}
	}
	return out
}

// compare is a test of two values; false when it is not known here.
func (g *guarder) compare(function string, a, b value) (predicate, bool) {
	switch function {
	case operators.Equals:
		return equal(a, b)
	case operators.NotEquals:
		p, ok := equal(a, b)
		return not(p), ok
	case operators.In:
		return member(a, b)
	case operators.Less:
		return order(a, b, func(c int) bool { return c < 0 })
	case operators.LessEquals:
		return order(a, b, func(c int) bool { return c <= 0 })
	case operators.Greater:
		return order(a, b, func(c int) bool { return c > 0 })
	case operators.GreaterEquals:
		return order(a, b, func(c int) bool { return c >= 0 })
	case "startsWith":
		return ofTexts(a, b, strings.HasPrefix, cheap)
	case "endsWith":
		return ofTexts(a, b, strings.HasSuffix, cheap)
	case "contains":
		return ofTexts(a, b, strings.Contains, moderate)
	case "matches":
		return g.pattern(a, b)
	case "under":
		return ofList(a, b, directories)
	case "inDomain":
		return ofList(a, b, domains)
	case "within":
		return withinAny(a, b)
	}
	return predicate{}, false
}

// ofTexts tests two texts.
func ofTexts(a, b value, test func(string, string) bool, cost int) (predicate, bool) {
	if a.kind != isText || b.kind != isText {
		return predicate{}, false
	}
	cost = max(cost, a.cost, b.cost)
	switch {
	case a.constant && b.constant:
		return constant(test(a.text, b.text)), true
	case b.constant:
		get, with := a.getText, b.text
		return predicate{test: func(s *Subject) bool { return test(get(s), with) }, cost: cost}, true
	}
	getA, getB := a.reader(), b.reader()
	return predicate{test: func(s *Subject) bool { return test(getA(s), getB(s)) }, cost: cost}, true
}

func equal(a, b value) (predicate, bool) {
	if a.constant {
		a, b = b, a
	}
	switch {
	case a.kind != b.kind:
		return predicate{}, false
	case a.kind == isText && b.constant && !a.constant && b.text == "" && a.isEmpty != nil:
		return predicate{test: a.isEmpty}, true
	case a.kind == isText:
		return ofTexts(a, b, func(x, y string) bool { return x == y }, cheap)
	case a.kind == isFlag && b.constant:
		p := a.asPredicate()
		if !b.flag {
			p = not(p)
		}
		return p, true
	}
	return order(a, b, func(c int) bool { return c == 0 })
}

// order compares two numbers.
func order(a, b value, holds func(int) bool) (predicate, bool) {
	less, ok := ordering(a, b)
	if !ok {
		return predicate{}, false
	}
	if a.constant && b.constant {
		return constant(holds(less(nil))), true
	}
	return predicate{test: func(s *Subject) bool { return holds(less(s)) }}, true
}

// member is a in b.
func member(a, b value) (predicate, bool) {
	switch {
	case a.kind == isText && b.kind == isTexts && b.constant:
		if a.constant {
			return constant(slices.Contains(b.texts, a.text)), true
		}
		return predicate{test: oneOf(a.getText, b.texts), cost: max(moderate, a.cost)}, true
	case a.kind == isText && b.kind == isTexts:
		get, list := a.reader(), b.getTexts
		return predicate{test: func(s *Subject) bool { return slices.Contains(list(s), get(s)) }, cost: moderate}, true
	case a.kind == isNumber && !a.constant && b.kind == isNumbers:
		get, list := a.getNumber, b.numbers
		return predicate{test: func(s *Subject) bool { return slices.Contains(list, get(s)) }}, true
	}
	return predicate{}, false
}

// oneOf tests a text for being one of a list.
func oneOf(get func(*Subject) string, list []string) func(*Subject) bool {
	const few = 4
	if len(list) <= few {
		return func(s *Subject) bool { return slices.Contains(list, get(s)) }
	}
	set := make(map[string]struct{}, len(list))
	for _, s := range list {
		set[s] = struct{}{}
	}
	return func(s *Subject) bool {
		_, ok := set[get(s)]
		return ok
	}
}

func (g *guarder) pattern(a, b value) (predicate, bool) {
	if a.kind != isText || b.kind != isText || !b.constant {
		return predicate{}, false
	}
	match, err := g.language.matcher(b.text)
	if err != nil {
		return predicate{}, false
	}
	if a.constant {
		return constant(match(a.text)), true
	}
	get := a.getText
	return predicate{test: func(s *Subject) bool { return match(get(s)) }, cost: expensive}, true
}

// ofList tests a text with what is made of a list of constants.
func ofList(a, b value, prepare func([]string) func(string) bool) (predicate, bool) {
	list, ok := b.constantTexts()
	if a.kind != isText || !ok {
		return predicate{}, false
	}
	test := prepare(list)
	if a.constant {
		return constant(test(a.text)), true
	}
	get := a.getText
	return predicate{test: func(s *Subject) bool { return test(get(s)) }, cost: max(moderate, a.cost)}, true
}
