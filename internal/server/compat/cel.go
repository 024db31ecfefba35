// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
)

// maxExpression is the longest expression, in bytes; maxCost the most work that one evaluation may do, in CEL's
// units (about one an operation).
const (
	maxExpression = 4096
	maxCost       = 100_000
)

// Expression is a condition in CEL.
type Expression struct {
	cel.Program
	Checked *cel.Ast
}

// CompileExpression compiles a condition in the language that options make. Errors say what is wrong with source, on one line.
func CompileExpression(source string, options ...cel.EnvOption) (*Expression, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("is %d bytes long, at most %d are allowed", len(source), maxExpression)
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("prepare the expression language: %w", err)
	}
	checked, issues := env.Compile(source)
	if err := issues.Err(); err != nil {
		return nil, errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "ERROR: "), "\n", " "))
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("is a %s, not true or false: compare it with something", checked.OutputType())
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return &Expression{Program: program, Checked: checked}, nil
}

// Holds evaluates the condition. An error, such as a missing key, is no match.
func (x *Expression) Holds(variables map[string]any) bool {
	out, _, err := x.Eval(variables)
	if err != nil {
		return false
	}
	holds, ok := out.Value().(bool)
	return ok && holds
}
