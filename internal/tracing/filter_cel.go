// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"regexp"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"github.com/cilium/ebpf/asm"
)

// offCel is where, on the stack, the operands of expressions wait, downwards: maxCelDepth of them.
const (
	offCel      = -48
	maxCelDepth = 24
)

// parseCel checks a CelExpr over the numbers among values: arg0 is the first of the list. It returns its tree.
func parseCel(expression string, values []*value) (*ast.AST, error) {
	options := []cel.EnvOption{celCast("int32", cel.IntType), celCast("uint32", cel.UintType), celBits("and", 2), celBits("or", 2), celBits("xor", 2), celBits("not", 1)}
	for i, v := range values {
		if v.typ.class != classNumber || v.late {
			continue
		}
		t := cel.UintType
		if v.typ.signed {
			t = cel.IntType
		}
		options = append(options, cel.Variable("arg"+strconv.Itoa(i), t))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("prepare the expression: %w", err)
	}
	checked, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("it is a %s; true or false is wanted", checked.OutputType())
	}
	tree := checked.NativeRep()
	return tree, celSupported(tree.Expr(), 0)
}

func celCast(name string, to *cel.Type) cel.EnvOption {
	return cel.Function(name, cel.Overload(name+"_int", []*cel.Type{cel.IntType}, to), cel.Overload(name+"_uint", []*cel.Type{cel.UintType}, to))
}

func celBits(name string, operands int) cel.EnvOption {
	var overloads []cel.FunctionOpt
	for _, t := range []*cel.Type{cel.IntType, cel.UintType} {
		args := []*cel.Type{t, t}[:operands]
		overloads = append(overloads, cel.Overload(name+"_"+t.String(), args, t))
	}
	return cel.Function(name, overloads...)
}

// celComparisons are the comparisons, for signed and for unsigned numbers.
func celComparisons() map[string][2]asm.JumpOp {
	return map[string][2]asm.JumpOp{
		operators.Equals: {asm.JEq, asm.JEq}, operators.NotEquals: {asm.JNE, asm.JNE},
		operators.Less: {asm.JSLT, asm.JLT}, operators.LessEquals: {asm.JSLE, asm.JLE},
		operators.Greater: {asm.JSGT, asm.JGT}, operators.GreaterEquals: {asm.JSGE, asm.JGE},
	}
}

// celArithmetic are the operations on two numbers.
func celArithmetic() map[string]asm.ALUOp {
	return map[string]asm.ALUOp{operators.Add: asm.Add, operators.Subtract: asm.Sub, "and": asm.And, "or": asm.Or, "xor": asm.Xor}
}

// celSupported says what of an expression cannot be made instructions.
func celSupported(e ast.Expr, depth int) error {
	if depth > maxCelDepth {
		return fmt.Errorf("it is nested deeper than %d", maxCelDepth)
	}
	switch e.Kind() {
	case ast.IdentKind:
		return nil
	case ast.LiteralKind:
		switch e.AsLiteral().(type) {
		case types.Int, types.Uint, types.Bool:
			return nil
		}
		return fmt.Errorf("%v is no number", e.AsLiteral())
	case ast.CallKind:
		name := e.AsCall().FunctionName()
		_, compares := celComparisons()[name]
		_, computes := celArithmetic()[name]
		switch name {
		case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Negate, "int32", "uint32", "not":
		default:
			if !compares && !computes {
				return fmt.Errorf("%s is not compiled for the kernel; there are + - && || ! comparisons, int32, uint32, and, or, xor, not", name)
			}
		}
		for _, a := range e.AsCall().Args() {
			if err := celSupported(a, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("it has what is neither a number nor an operation on numbers")
}

// celValues marks the values that an expression names as used.
func celValues(expression string, values []*value) {
	for _, m := range regexp.MustCompile(`\barg(\d+)\b`).FindAllStringSubmatch(expression, -1) {
		if i, err := strconv.Atoi(m[1]); err == nil && i < len(values) {
			values[i].used = true
		}
	}
}

// celExpr jumps to fail unless one of the expressions is true.
func (c *compiler) celExpr(path string, m *ArgMatch, values []*value, fail string) {
	hit := c.label("hit")
	for i, expression := range m.Values {
		tree, err := parseCel(expression, values)
		if err != nil {
			c.fail(fmt.Sprintf("%s.values[%d]", path, i), "%v", err)
			continue
		}
		c.evaluate(tree, tree.Expr(), values, 0)
		c.emit(asm.JNE.Imm(asm.R3, 0, hit))
	}
	c.jump(fail)
	c.place(hit)
}

// evaluate leaves the value of an expression in R3; truth is 1. Operands of what is around it wait on the stack.
func (c *compiler) evaluate(tree *ast.AST, e ast.Expr, values []*value, depth int) {
	switch e.Kind() {
	case ast.IdentKind:
		i, err := strconv.Atoi(e.AsIdent()[len("arg"):])
		if err == nil { // the checker knows no other names
			c.emit(asm.LoadMem(asm.R3, regScratch, slotValue(values[i].slot), asm.DWord))
		}
	case ast.LiteralKind:
		switch v := e.AsLiteral().(type) {
		case types.Int:
			c.imm(asm.R3, uint64(v))
		case types.Uint:
			c.imm(asm.R3, uint64(v))
		case types.Bool:
			c.truth(bool(v))
		}
	case ast.CallKind:
		c.evaluateCall(tree, e, values, depth)
	}
}

func (c *compiler) truth(v bool) {
	var n uint64
	if v {
		n = 1
	}
	c.imm(asm.R3, n)
}

func (c *compiler) evaluateCall(tree *ast.AST, e ast.Expr, values []*value, depth int) {
	call := e.AsCall()
	args := call.Args()
	signed := tree.GetType(args[0].ID()).IsExactType(types.IntType)
	end := c.label("end")
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		c.evaluate(tree, args[0], values, depth)
		op := asm.JEq
		if name == operators.LogicalOr {
			op = asm.JNE
		}
		c.emit(op.Imm(asm.R3, 0, end))
		c.evaluate(tree, args[1], values, depth)
		c.place(end)
	case operators.LogicalNot:
		c.evaluate(tree, args[0], values, depth)
		c.emit(asm.Xor.Imm(asm.R3, 1))
	case operators.Negate:
		c.evaluate(tree, args[0], values, depth)
		c.emit(asm.Mov.Imm(asm.R1, 0), asm.Sub.Reg(asm.R1, asm.R3), asm.Mov.Reg(asm.R3, asm.R1))
	case "not":
		c.evaluate(tree, args[0], values, depth)
		c.emit(asm.Xor.Imm(asm.R3, -1))
	case "int32", "uint32":
		c.evaluate(tree, args[0], values, depth)
		c.extend(asm.R3, valueType{bits: 32, signed: name == "int32"})
	default:
		wait := int16(offCel - 8*depth)
		c.evaluate(tree, args[0], values, depth)
		c.emit(asm.StoreMem(asm.RFP, wait, asm.R3, asm.DWord))
		c.evaluate(tree, args[1], values, depth+1)
		c.emit(asm.LoadMem(asm.R1, asm.RFP, wait, asm.DWord))
		if op, ok := celArithmetic()[name]; ok {
			c.emit(op.Reg(asm.R1, asm.R3), asm.Mov.Reg(asm.R3, asm.R1))
			return
		}
		op := celComparisons()[name][1]
		if signed {
			op = celComparisons()[name][0]
		}
		c.emit(asm.Mov.Reg(asm.R2, asm.R3), asm.Mov.Imm(asm.R3, 1), op.Reg(asm.R1, asm.R2, end), asm.Mov.Imm(asm.R3, 0))
		c.place(end)
	}
}
