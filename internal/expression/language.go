// SPDX-License-Identifier: Apache-2.0

// Package expression is the language of conditions on events, for filters and detections: CEL, type-checked, whose
// variables are the fields of vigie.v1.Event. In: the text of an expression, and events of the model. Out: whether it
// holds, or a text. Nothing is converted to protobuf: CEL reads the model through the getters of this package.
//
// What an expression compares is compiled twice: to CEL's own program, which decides, and as far as it is plain
// (comparisons, sets, prefixes, patterns, and, or, not) to a guard of Go functions that costs nanoseconds. A guard that is
// false settles it; where all of an expression is plain, so does one that is true. Guards are made for a type of event: what
// no event of that type has is folded away.
package expression

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// maxExpression is the longest expression, in bytes; maxCost the most work that one evaluation may
// do, in CEL's units (about one an operation): enough to search the longest argv.
const (
	maxExpression = 4096
	maxCost       = 100_000
)

// Definitions are names that expressions may use beside the fields.
type Definitions struct {
	Lists  map[string][]string
	Macros map[string]string // conditions, which may use other macros
	// Ancestors declares the variable of that name: a list of the process's ancestors, the parent first.
	Ancestors bool
}

// MacroError is a macro that cannot be used, and why.
type MacroError struct {
	Name string
	Err  error // *Error where there is a place
}

// Error is "macro NAME: why".
func (e *MacroError) Error() string { return "macro " + e.Name + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *MacroError) Unwrap() error { return e.Err }

// Language compiles expressions. It is safe for concurrent use.
type Language struct {
	env       *cel.Env
	messages  map[string]map[string]field
	variables map[string]string // the fields of Event: "File" for a message, else ""
	lists     map[string][]string
	celLists  map[string]any
	macros    map[string]*Condition
	isMacro   map[string]bool // also before they are compiled

	mu       sync.Mutex
	patterns map[string]func(string) bool // those of guards, of which there are many for one expression
}

// New prepares a language. Errors are *MacroError, joined.
func New(d Definitions) (*Language, error) {
	l := &Language{messages: messages(), variables: make(map[string]string), lists: d.Lists, celLists: make(map[string]any),
		macros: make(map[string]*Condition), isMacro: make(map[string]bool),
		patterns: make(map[string]func(string) bool)}
	for name := range d.Macros {
		l.isMacro[name] = true
	}
	if err := l.environment(d); err != nil {
		return nil, fmt.Errorf("prepare the expression language: %w", err)
	}
	var errs []error
	names := slices.Sorted(maps.Keys(d.Macros))
	for _, name := range names {
		c, err := l.compile(d.Macros[name])
		if err != nil {
			errs = append(errs, &MacroError{name, err})
			continue
		}
		l.macros[name] = c
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, name := range names {
		if path := l.circle(name, nil); path != nil {
			return nil, &MacroError{name, fmt.Errorf("uses itself: %s", strings.Join(path, " → "))}
		}
	}
	for _, m := range l.macros {
		m.general = m.Guard(Kind{})
	}
	return l, nil
}

// circle is a chain of macros that leads from name back into itself; nil when there is none.
func (l *Language) circle(name string, path []string) []string {
	path = append(path, name)
	if slices.Contains(path[:len(path)-1], name) {
		return path
	}
	for _, used := range l.macros[name].macros {
		if found := l.circle(used, path); found != nil {
			return found
		}
	}
	return nil
}

// environment declares `event`, each of its fields, and the definitions as variables.
func (l *Language) environment(d Definitions) error {
	options := []cel.EnvOption{
		cel.Types(&pb.Event{}),
		cel.CrossTypeNumericComparisons(true),
		cel.EagerlyValidateDeclarations(true),
		cel.ASTValidators(cel.ValidateRegexLiterals()),
		cel.Variable("event", cel.ObjectType(messagePrefix+"Event")),
		cel.Variable(commandVariable, cel.StringType),
		cel.Variable(calledVariable, cel.StringType),
		cel.Variable(writtenVariable, cel.StringType),
	}
	fields := (&pb.Event{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name, typ := string(f.Name()), celType(f)
		options = append(options, cel.Variable(name, typ))
		l.variables[name] = l.messages["Event"][name].message
	}
	if d.Ancestors {
		options = append(options, cel.Variable(ancestorsVariable, cel.ListType(cel.ObjectType(messagePrefix+"Process"))))
	}
	for name := range d.Lists {
		options = append(options, cel.Variable(name, cel.ListType(cel.StringType)))
	}
	for name := range d.Macros {
		options = append(options, cel.Variable(name, cel.BoolType))
	}
	base, err := cel.NewEnv(append(options, functions()...)...)
	if err != nil {
		return err
	}
	a := &adapter{Adapter: base.CELTypeAdapter(), messages: l.messages}
	for name, list := range d.Lists {
		l.celLists[name] = types.NewStringList(a, list)
	}
	l.env, err = base.Extend(cel.CustomTypeProvider(&provider{base.CELTypeProvider(), l.messages}), cel.CustomTypeAdapter(a))
	return err
}

// Reserved reports whether a list or macro cannot have that name, because it means something already.
func (l *Language) Reserved(name string) bool {
	_, field := l.variables[name]
	return field || slices.Contains([]string{"event", commandVariable, calledVariable, writtenVariable, ancestorsVariable}, name)
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

// check parses and type-checks a source. Errors are *Error.
func (l *Language) check(source string) (*cel.Ast, error) {
	if len(source) > maxExpression {
		return nil, &Error{Message: fmt.Sprintf("is %d bytes long, at most %d are allowed", len(source), maxExpression)}
	}
	checked, issues := l.env.Compile(source)
	if issues.Err() != nil {
		return nil, explain(source, issues)
	}
	return checked, nil
}

// program prepares CEL's evaluation when it is asked for: most expressions are settled by their guards and never need it.
func (l *Language) program(checked *cel.Ast) func() (cel.Program, error) {
	return sync.OnceValues(func() (cel.Program, error) { return l.plan(checked) })
}

func (l *Language) plan(checked *cel.Ast) (cel.Program, error) {
	loops := false
	ast.PostOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		loops = loops || e.Kind() == ast.ComprehensionKind
	}))
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops {
		// Counting doubles the time of an evaluation. Without a loop the work is bounded by the lengths of
		// the expression and of the texts.
		options = append(options, cel.CostLimit(maxCost))
	}
	p, err := l.env.Program(checked, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return p, nil
}

// Error says what is wrong with an expression, and where.
type Error struct {
	Line, Column int  // from 1; 0 when it is about all of it
	Lines        bool // the source has more than one
	Message      string
}

// Error is "line L, column C: what", without the line where there is but one.
func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return e.Message
	case e.Lines:
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("column %d: %s", e.Column, e.Message)
}

// explain is the first issue, with its place and what is most often meant.
func explain(source string, issues *cel.Issues) error {
	list := issues.Errors()
	if len(list) == 0 {
		return &Error{Message: issues.String()}
	}
	first := list[0]
	message, _, _ := strings.Cut(first.Message, "\n")
	switch {
	case strings.Contains(message, "'(uint, int)'"), strings.Contains(message, "'(int, uint)'"):
		message += ": this field is an unsigned number, write 0u and not 0"
	case strings.Contains(message, "reserved identifier: namespace"):
		message += ": write event.namespace"
	}
	message = strings.TrimSuffix(message, " (in container '')")
	return &Error{Line: max(first.Location.Line(), 1), Column: first.Location.Column() + 1, Lines: strings.Contains(source, "\n"), Message: message}
}
