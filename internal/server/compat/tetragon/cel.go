// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"
	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxExpression is the longest expression, in bytes; maxCost the most work that one evaluation may do, in CEL's
// units (about one an operation).
const (
	maxExpression = 4096
	maxCost       = 100_000
)

// expression is a compiled CEL expression. Its variables are the event's types: process_exec, process_kprobe, …
type expression struct {
	program cel.Program
	uses    map[string]bool // the variables in it
	empty   map[string]proto.Message
}

// expressions adds the condition that one of the CEL expressions is true.
func (b *builder) expressions(sources []string) {
	if len(sources) == 0 || b.err != nil {
		return
	}
	var compiled []*expression
	for i, source := range sources {
		x, err := compileExpression(source)
		if err != nil {
			b.err = fmt.Errorf("cel_expression[%d]: %w", i, err)
			return
		}
		compiled = append(compiled, x)
		b.ancestors = b.ancestors || strings.Contains(source, "ancestors")
	}
	b.among("cel_expression", len(sources), func(s *subject) bool {
		for _, x := range compiled {
			if x.holds(s.message) {
				return true
			}
		}
		return false
	})
}

func compileExpression(source string) (*expression, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("is %d bytes long, at most %d are allowed", len(source), maxExpression)
	}
	x := &expression{uses: make(map[string]bool), empty: make(map[string]proto.Message)}
	// Names and functions are those that Tetragon's expressions have: its container, and Kubernetes' ip() and cidr().
	options := []cel.EnvOption{cel.Container("tetragon"), cel.Types(&tg.GetEventsResponse{}), ext.Network(), ext.Strings(),
		cel.CrossTypeNumericComparisons(true)}
	for _, f := range eventFields() {
		options = append(options, cel.Variable(string(f.Name()), cel.ObjectType(string(f.Message().FullName()))))
		x.empty[string(f.Name())] = new(tg.GetEventsResponse).ProtoReflect().NewField(f).Message().Interface()
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
	ast.PostOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && x.empty[e.AsIdent()] != nil {
			x.uses[e.AsIdent()] = true
		}
	}))
	if x.program, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost)); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return x, nil
}

// eventFields are the event types of a response.
func eventFields() []protoreflect.FieldDescriptor {
	fields := (&tg.GetEventsResponse{}).ProtoReflect().Descriptor().Oneofs().ByName("event").Fields()
	out := make([]protoreflect.FieldDescriptor, fields.Len())
	for i := range out {
		out[i] = fields.Get(i)
	}
	return out
}

// holds evaluates the expression for an event of a type that it speaks of; the variables of the other types are empty
// then. An error, such as a missing key, is no match.
func (x *expression) holds(m *tg.GetEventsResponse) bool {
	r := m.ProtoReflect()
	field := r.WhichOneof(r.Descriptor().Oneofs().ByName("event"))
	if field == nil || !x.uses[string(field.Name())] {
		return false
	}
	variables := make(map[string]any, len(x.uses))
	for name := range x.uses {
		variables[name] = x.empty[name]
	}
	variables[string(field.Name())] = r.Get(field).Message().Interface()
	out, _, err := x.program.Eval(variables)
	if err != nil {
		return false
	}
	holds, ok := out.Value().(bool)
	return ok && holds
}
