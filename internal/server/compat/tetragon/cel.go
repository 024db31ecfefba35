// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"
	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/vigie-io/vigie/internal/server/compat"
)

// expression is a compiled CEL expression. Its variables are the event's types: process_exec, process_kprobe, …
type expression struct {
	*compat.Expression
	uses  map[string]bool // the variables in it
	empty map[string]proto.Message
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
	x := &expression{uses: make(map[string]bool), empty: make(map[string]proto.Message)}
	// Names and functions are those that Tetragon's expressions have: its container, and Kubernetes' ip() and cidr().
	options := []cel.EnvOption{cel.Container("tetragon"), cel.Types(&tg.GetEventsResponse{}), ext.Network(), ext.Strings(),
		cel.CrossTypeNumericComparisons(true)}
	for _, f := range eventFields() {
		options = append(options, cel.Variable(string(f.Name()), cel.ObjectType(string(f.Message().FullName()))))
		x.empty[string(f.Name())] = new(tg.GetEventsResponse).ProtoReflect().NewField(f).Message().Interface()
	}
	var err error
	if x.Expression, err = compat.CompileExpression(source, options...); err != nil {
		return nil, err
	}
	ast.PostOrderVisit(x.Checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && x.empty[e.AsIdent()] != nil {
			x.uses[e.AsIdent()] = true
		}
	}))
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
	return x.Holds(variables)
}
