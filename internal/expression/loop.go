// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/vigie-io/vigie/internal/model"
)

// local is the variable of a loop that a guard runs: an element of a list of texts, or of the ancestors.
type local struct {
	name string
	at   int // in Subject.texts and Subject.parts
	part bool
}

// maxLoops is how deep guards loop; CEL does what is deeper.
const maxLoops = 2

// loop encloses list.exists(x, …) and list.all(x, …), which the parser has written as folds.
func (g *guarder) loop(c ast.ComprehensionExpr) approximation {
	body, exists, ok := quantifier(c)
	if !ok || len(g.locals) == maxLoops {
		return unknown()
	}
	at := len(g.locals)
	overAncestors := c.IterRange().Kind() == ast.IdentKind && c.IterRange().AsIdent() == ancestorsVariable
	list, known := g.value(c.IterRange())
	if !overAncestors && (!known || list.kind != isTexts || list.constant) {
		return unknown()
	}
	inner := &guarder{g.language, g.kind, append(g.locals[:at:at], local{c.IterVar(), at, overAncestors})}
	each := inner.condition(body)
	over := func(p predicate) predicate {
		if p.test == nil && p.never == exists {
			return p // false for each, or true for each: also of none
		}
		found := func(s *Subject) bool { return p.holds(s) == exists }
		if overAncestors {
			return predicate{cost: expensive, test: func(s *Subject) bool {
				for _, a := range s.ancestors() {
					s.parts[at] = a
					if found(s) {
						return exists
					}
				}
				return !exists
			}}
		}
		get := list.getTexts
		return predicate{cost: expensive, test: func(s *Subject) bool {
			for _, text := range get(s) {
				s.texts[at] = text
				if found(s) {
					return exists
				}
			}
			return !exists
		}}
	}
	return approximation{lower: over(each.lower), upper: over(each.upper), exact: each.exact}
}

// quantifier takes a fold apart that stands for exists or all of one variable.
func quantifier(c ast.ComprehensionExpr) (body ast.Expr, exists, ok bool) {
	if c.HasIterVar2() || c.AccuInit().Kind() != ast.LiteralKind || c.LoopStep().Kind() != ast.CallKind ||
		c.Result().Kind() != ast.IdentKind || c.Result().AsIdent() != c.AccuVar() {
		return nil, false, false
	}
	step := c.LoopStep().AsCall()
	if len(step.Args()) != 2 || step.Args()[0].Kind() != ast.IdentKind || step.Args()[0].AsIdent() != c.AccuVar() {
		return nil, false, false
	}
	switch {
	case c.AccuInit().AsLiteral() == types.False && step.FunctionName() == operators.LogicalOr:
		return step.Args()[1], true, true
	case c.AccuInit().AsLiteral() == types.True && step.FunctionName() == operators.LogicalAnd:
		return step.Args()[1], false, true
	}
	return nil, false, false
}

// local is the variable of a loop around, nil when the name is none.
func (g *guarder) local(name string) *local {
	for i := len(g.locals) - 1; i >= 0; i-- {
		if g.locals[i].name == name {
			return &g.locals[i]
		}
	}
	return nil
}

func (l *local) value() value {
	at := l.at
	if l.part {
		return value{kind: isPart, message: "Process", part: func(s *Subject) any { return s.parts[at] }}
	}
	return value{kind: isText, getText: func(s *Subject) string { return s.texts[at] }}
}

// loops are the current elements of the loops that guards run.
type loops struct {
	texts [maxLoops]string
	parts [maxLoops]*model.Process
}
