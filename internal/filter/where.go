// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// maxExpression is the longest expression, in bytes; maxCost the most work that one evaluation may
// do, in CEL's units (about one an operation): enough to search the longest argv.
const (
	maxExpression = 4096
	maxCost       = 100_000
)

// expression is a compiled CEL expression over the shape of vigie.v1.Event.
type expression struct {
	program cel.Program
	boot    string
	// whole: the expression needs the process too, not only the parts of the event.
	whole bool
}

func compileExpression(source, boot string) (*expression, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("is %d bytes long, at most %d are allowed", len(source), maxExpression)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(source)
	if issues.Err() != nil {
		return nil, explain(source, issues)
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("column 1: is a %s, not true or false: compare it with something", checked.OutputType())
	}
	x, loops := &expression{boot: boot}, false
	ast.PostOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			x.whole = x.whole || e.AsIdent() == "process" || e.AsIdent() == "event"
		case ast.ComprehensionKind:
			loops = true
		}
	}))
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops {
		// Counting doubles the time of an evaluation. Without a loop the work is bounded by the lengths of
		// the expression and of the texts.
		options = append(options, cel.CostLimit(maxCost))
	}
	if x.program, err = env.Program(checked, options...); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return x, nil
}

// environment declares `event` and each of its fields as variables.
func environment() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.Types(&pb.Event{}),
		cel.CrossTypeNumericComparisons(true),
		cel.EagerlyValidateDeclarations(true),
		cel.ASTValidators(cel.ValidateRegexLiterals()),
		cel.Variable("event", cel.ObjectType("vigie.v1.Event")),
	}
	fields := (&pb.Event{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		options = append(options, cel.Variable(string(f.Name()), celType(f)))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("prepare the expression language: %w", err)
	}
	return env, nil
}

// celType is the type of a field of Event: none of them repeats.
func celType(f protoreflect.FieldDescriptor) *cel.Type {
	switch f.Kind() {
	case protoreflect.StringKind:
		return cel.StringType
	case protoreflect.BoolKind:
		return cel.BoolType
	case protoreflect.MessageKind:
		if f.Message().FullName() == "google.protobuf.Timestamp" {
			return cel.TimestampType
		}
		return cel.ObjectType(string(f.Message().FullName()))
	default:
		return cel.UintType
	}
}

// explain is the first issue, with its place and what is most often meant.
func explain(source string, issues *cel.Issues) error {
	list := issues.Errors()
	if len(list) == 0 {
		return errors.New(issues.String())
	}
	first := list[0]
	message, _, _ := strings.Cut(first.Message, "\n")
	switch {
	case strings.Contains(message, "'(uint, int)'"), strings.Contains(message, "'(int, uint)'"):
		message += ": this field is an unsigned number, write 0u and not 0"
	case strings.Contains(message, "reserved identifier: namespace"):
		message += ": write event.namespace"
	}
	place := fmt.Sprintf("column %d", first.Location.Column()+1)
	if strings.Contains(source, "\n") {
		place = fmt.Sprintf("line %d, column %d", first.Location.Line(), first.Location.Column()+1)
	}
	return fmt.Errorf("%s: %s", place, message)
}

// holds evaluates the expression for e. The event becomes protobuf first, without its process when
// the expression does not ask about it, which is most of the work.
func (x *expression) holds(e *model.Event) bool {
	if !x.whole {
		bare := *e
		bare.Process, bare.Parent, bare.Key = nil, nil, model.ProcessKey{}
		e = &bare
	}
	out, _, err := x.program.Eval(variables{wire.ToProto(e, x.boot)})
	if err != nil {
		return false
	}
	holds, ok := out.Value().(bool)
	return ok && holds
}
