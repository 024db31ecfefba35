// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// To count what an expression costs takes about as long as the expression. Where its cost is bounded far below the limit, because
// the object is small, nothing is counted. The bound is worked out from the expression once: so many steps at each depth of
// nested lists, each step at most so dear by the length of a text.

// maxDepth of lists in lists that is looked at.
const maxDepth = 4

// bound is the most that an expression may cost, as a function of the object's size.
type bound struct {
	ok    bool              // false: it calls something whose result may be larger than what it is given
	long  bool              // it gives a text that was joined of many
	puts  float64           // places where lists or texts are put together
	steps [maxDepth]float64 // at each depth: those of one unit or a fixed number
	texts [maxDepth]float64 // and those that cost by the length of a text
	grow  float64           // how many lists may be in one that it works on, or that it gives
}

// cost is an upper bound for an object whose lists have at most so many elements, and whose texts so many characters.
func (b bound) cost(size object.Size) float64 {
	sum, times := 0.0, 1.0
	for depth := range maxDepth {
		sum += times * (b.steps[depth] + b.texts[depth]*(1+b.grow*float64(size.Text)/10))
		times *= b.grow * float64(max(size.List, 1))
	}
	return sum
}

// plainLimit is how dear an expression may be by its bound, and not be counted. A policy has fewer than plainPrograms of those, so that
// it stays within its budget too.
const (
	plainLimit    = celconfig.PerCallLimit / 4
	plainPrograms = celconfig.RuntimeCELCostBudget / plainLimit
)

// boundOf works out the bound of a checked expression.
func (s *space) boundOf(checked *celgo.Ast) bound {
	b := bound{ok: true, grow: 1, puts: adds(checked.NativeRep().Expr())}
	b.visit(s, checked.NativeRep().Expr(), 0)
	b.grow *= 1 + b.puts
	for depth := range maxDepth {
		if b.steps[depth] > math.MaxInt32 {
			b.ok = false
		}
	}
	return b
}

// adds counts the places where lists or texts are put together.
func adds(e ast.Expr) float64 {
	n := 0.0
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Add {
			n++
		}
	}))
	return n
}

func (b *bound) visit(s *space, e ast.Expr, depth int) {
	if depth >= maxDepth {
		b.ok = false
		return
	}
	switch e.Kind() {
	case ast.IdentKind:
		b.steps[depth]++
	case ast.SelectKind:
		b.steps[depth] += 2
		sel := e.AsSelect()
		if sel.Operand().Kind() == ast.IdentKind && sel.Operand().AsIdent() == "variables" {
			if v := s.variables[sel.FieldName()]; v != nil {
				b.grow = max(b.grow, v.bound.grow)
				b.ok = b.ok && v.bound.ok && !v.bound.long
			}
		}
		b.visit(s, sel.Operand(), depth)
	case ast.CallKind:
		b.call(s, e.AsCall(), depth)
	case ast.ListKind:
		b.steps[depth] += 10
		for _, element := range e.AsList().Elements() {
			b.visit(s, element, depth)
		}
	case ast.MapKind:
		b.steps[depth] += 30
		for _, entry := range e.AsMap().Entries() {
			b.visit(s, entry.AsMapEntry().Key(), depth)
			b.visit(s, entry.AsMapEntry().Value(), depth)
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		b.visit(s, c.IterRange(), depth)
		b.visit(s, c.AccuInit(), depth)
		b.visit(s, c.LoopCondition(), depth+1)
		b.visit(s, c.LoopStep(), depth+1)
		b.visit(s, c.Result(), depth)
	case ast.LiteralKind:
	default:
		b.ok = false
	}
}

// weightOf is how often a function goes through its texts; 0 is a fixed cost. ok is false for those that nothing bounds here, such as split,
// join and flatten: what they give may be larger than what they are given.
func weightOf(function string) (weight float64, ok bool) {
	switch function {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional, operators.NotStrictlyFalse, operators.OptSelect, operators.OptIndex,
		operators.Index, "optional.of", "optional.none", "orValue", "hasValue", "value", "size", "type", "dyn", "or", "optional.ofNonZeroValue":
		return 0, true
	case operators.Equals, operators.NotEquals, operators.Greater, operators.GreaterEquals, operators.Less, operators.LessEquals, operators.In, operators.Add,
		"startsWith", "endsWith", "contains", "matches", "string", "int", "double", "bool", "lowerAscii", "upperAscii", "trim", "substring",
		"isQuantity", "quantity", "compareTo", "isLessThan", "isGreaterThan", "asInteger", "isInteger":
		return 2, true
	}
	return 0, false
}

// call: of a regular expression what it costs is by the length of the pattern too.
func (b *bound) call(s *space, c ast.CallExpr, depth int) {
	weight, ok := weightOf(c.FunctionName())
	if weight == 0 {
		b.steps[depth] += 2
	}
	if c.FunctionName() == "join" && depth+1 < maxDepth {
		// What it gives is as long as all texts of the list, and so is what others put before and behind it.
		b.long, ok = true, true
		b.texts[depth+1] += 2 * (1 + b.puts)
	}
	b.ok = b.ok && ok
	if c.FunctionName() == "matches" {
		weight = 1 << 20 // a pattern that is not written out
		if args := c.Args(); len(args) > 0 && args[len(args)-1].Kind() == ast.LiteralKind {
			text, _ := args[len(args)-1].AsLiteral().Value().(string)
			weight = 1 + float64(len(text))/4
		}
	}
	b.texts[depth] += weight
	// A list or text that stands in the expression is as long as it is: it counts as steps.
	for _, arg := range c.Args() {
		switch arg.Kind() {
		case ast.LiteralKind:
			if text, ok := arg.AsLiteral().Value().(string); ok {
				b.steps[depth] += float64(len(text)) / 5
			}
		case ast.ListKind:
			b.steps[depth] += 2 * float64(arg.AsList().Size())
		}
		b.visit(s, arg, depth)
	}
	if c.IsMemberFunction() {
		b.visit(s, c.Target(), depth)
	}
}
