// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"math"
	"slices"

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
const maxDepth = 5

// bound is the most that an expression may cost, as a function of the object's size.
type bound struct {
	ok    bool              // false: it calls something whose result may be larger than what it is given
	long  bool              // it gives a text that was joined of many
	puts  float64           // places where texts may be put together
	steps [maxDepth]float64 // at each depth: those of one unit or a fixed number
	texts [maxDepth]float64 // and those that cost by the length of a text
	grow  float64           // how many texts may be in one that it works on, or that it gives
	shape shape             // of what it gives
}

// shape is how large lists may be, in longest lists of the object.
type shape struct {
	outer float64 // the list itself
	inner float64 // those in its elements, however deep
}

// within is the shape of an element or a field.
func (s shape) within() shape { return shape{s.inner, s.inner} }

// either is the larger of both.
func (s shape) either(other shape) shape {
	return shape{max(s.outer, other.outer), max(s.inner, other.inner)}
}

// deepest is the largest list in it.
func (s shape) deepest() float64 { return max(s.outer, s.inner) }

// single is the shape of an object, and of what is no list.
func single() shape { return shape{1, 1} }

// cost is an upper bound for an object whose lists have at most so many elements, and whose texts so many characters.
func (b bound) cost(size object.Size) float64 {
	sum, times := 0.0, 1.0
	for depth := range maxDepth {
		sum += times * (b.steps[depth] + b.texts[depth]*(1+b.grow*float64(size.Text)/10))
		times *= float64(max(size.List, 1))
	}
	return sum
}

// plainLimit is how dear an expression may be by its bound, and not be counted. A policy has fewer than plainPrograms of those, so that
// it stays within its budget too; of its conditions plainConditions.
const (
	plainLimit      = celconfig.PerCallLimit / 4
	plainPrograms   = celconfig.RuntimeCELCostBudget / plainLimit
	plainConditions = celconfig.RuntimeCELCostBudgetMatchConditions / plainLimit
)

// boundOf works out the bound of a checked expression.
func (s *space) boundOf(checked *celgo.Ast) bound {
	root := checked.NativeRep().Expr()
	v := bounding{bound: bound{ok: true, grow: 1, puts: adds(root)}, space: s, names: map[string]shape{}}
	v.shape = v.visit(root, 0, 1)
	b := v.bound
	b.grow *= 1 + b.puts
	for depth := range maxDepth {
		if b.steps[depth] > math.MaxInt32 {
			b.ok = false
		}
	}
	return b
}

// adds counts the places where texts may be put together. What a list is added to is a list.
func adds(e ast.Expr) float64 {
	n := 0.0
	isList := func(e ast.Expr) bool { return e.Kind() == ast.ListKind }
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Add && !slices.ContainsFunc(e.AsCall().Args(), isList) {
			n++
		}
	}))
	return n
}

// bounding works out a bound.
type bounding struct {
	bound
	space *space
	names map[string]shape // of comprehensions around the expression
}

// visit adds what an expression costs that is evaluated at a depth of nested lists, times as often as the longest list to the power of the
// depth says. It gives the shape of its result.
func (b *bounding) visit(e ast.Expr, depth int, times float64) shape {
	if depth >= maxDepth {
		b.ok = false
		return single()
	}
	switch e.Kind() {
	case ast.IdentKind:
		b.steps[depth] += times
		if e.AsIdent() == "variables" { // as a whole
			b.ok = false
		}
		if known, ok := b.names[e.AsIdent()]; ok {
			return known
		}
		return single()
	case ast.SelectKind:
		return b.selected(e.AsSelect(), depth, times)
	case ast.CallKind:
		return b.call(e.AsCall(), depth, times)
	case ast.ListKind:
		b.steps[depth] += 10 * times
		elements := e.AsList().Elements()
		out := shape{written(len(elements)), 1}
		for _, element := range elements {
			out.inner = max(out.inner, b.visit(element, depth, times).deepest())
		}
		return out
	case ast.MapKind:
		b.steps[depth] += 30 * times
		entries := e.AsMap().Entries()
		out := shape{written(len(entries)), 1}
		for _, entry := range entries {
			b.visit(entry.AsMapEntry().Key(), depth, times)
			out.inner = max(out.inner, b.visit(entry.AsMapEntry().Value(), depth, times).deepest())
		}
		return out
	case ast.ComprehensionKind:
		return b.comprehension(e.AsComprehension(), depth, times)
	case ast.LiteralKind:
	default:
		b.ok = false
	}
	return single()
}

// written is the length of a list that stands in an expression, in longest lists: none of an object is shorter than what the API's defaults add.
func written(n int) float64 { return max(1, math.Ceil(float64(n)/object.LeastList)) }

func (b *bounding) selected(sel ast.SelectExpr, depth int, times float64) shape {
	b.steps[depth] += 2 * times
	if sel.Operand().Kind() == ast.IdentKind && sel.Operand().AsIdent() == "variables" {
		b.steps[depth] += times
		v := b.space.variables[sel.FieldName()]
		if v == nil {
			return single()
		}
		b.grow = max(b.grow, v.bound.grow)
		b.ok = b.ok && v.bound.ok && !v.bound.long
		return v.bound.shape
	}
	return b.visit(sel.Operand(), depth, times).within()
}

// comprehension is all that macros make: its list is as long as what it goes through, times what each step adds.
func (b *bounding) comprehension(c ast.ComprehensionExpr, depth int, times float64) shape {
	over, start := b.visit(c.IterRange(), depth, times), b.visit(c.AccuInit(), depth, times)
	outside := maps.Clone(b.names)
	b.names[c.IterVar()] = over.within()
	if c.HasIterVar2() {
		b.names[c.IterVar2()] = over.within()
	}
	b.names[c.AccuVar()] = start
	b.visit(c.LoopCondition(), depth+1, times*over.outer)
	step := b.visit(c.LoopStep(), depth+1, times*over.outer)
	made := start.either(shape{over.outer * step.outer, step.inner})
	b.names = outside
	before, had := b.names[c.AccuVar()]
	b.names[c.AccuVar()] = made
	out := b.visit(c.Result(), depth, times)
	delete(b.names, c.AccuVar())
	if had {
		b.names[c.AccuVar()] = before
	}
	return out
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
func (b *bounding) call(c ast.CallExpr, depth int, times float64) shape {
	weight, ok := weightOf(c.FunctionName())
	if weight == 0 {
		b.steps[depth] += 2 * times
	}
	if c.FunctionName() == "join" && depth+1 < maxDepth {
		// What it gives is as long as all texts of the list, and so is what others put before and behind it.
		b.long, ok = true, true
	}
	b.ok = b.ok && ok
	if c.FunctionName() == "matches" {
		weight = 1 << 20 // a pattern that is not written out
		if args := c.Args(); len(args) > 0 && args[len(args)-1].Kind() == ast.LiteralKind {
			text, _ := args[len(args)-1].AsLiteral().Value().(string)
			weight = 1 + float64(len(text))/4
		}
	}
	b.texts[depth] += weight * times
	var parts []shape
	if c.IsMemberFunction() {
		parts = append(parts, b.visit(c.Target(), depth, times))
	}
	// A list or text that stands in the expression is as long as it is: it counts as steps.
	for _, arg := range c.Args() {
		switch arg.Kind() {
		case ast.LiteralKind:
			if text, ok := arg.AsLiteral().Value().(string); ok {
				b.steps[depth] += times * float64(len(text)) / 5
			}
		case ast.ListKind:
			b.steps[depth] += times * 2 * float64(arg.AsList().Size())
		}
		parts = append(parts, b.visit(arg, depth, times))
	}
	out, sum := single(), 0.0
	for _, part := range parts {
		out = out.either(part)
		sum += part.outer
	}
	switch c.FunctionName() {
	case operators.Add:
		out.outer = sum
	case operators.Index, operators.OptIndex, operators.OptSelect:
		out = out.within()
	case "join":
		if depth+1 < maxDepth {
			b.texts[depth+1] += times * out.outer * 2 * (1 + b.puts)
		}
	case operators.In, operators.Equals, operators.NotEquals: // element by element
		if depth+1 == maxDepth {
			b.ok = false
		} else if args := c.Args(); args[len(args)-1].Kind() != ast.ListKind {
			b.steps[depth+1] += times * out.outer
		}
	}
	return out
}
