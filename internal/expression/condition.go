// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"

	"github.com/vigie-io/vigie/internal/model"
)

// Condition is an expression that holds for an event or does not. It is immutable.
type Condition struct {
	language *Language
	expr     ast.Expr
	program  func() (cel.Program, error)
	macros   []string // that it uses
	general  Guard    // for any event
}

// Condition compiles a source. Errors are *Error where there is a place.
func (l *Language) Condition(source string) (*Condition, error) {
	c, err := l.compile(source)
	if err != nil {
		return nil, err
	}
	c.general = c.Guard(Kind{})
	return c, nil
}

// compile is Condition without the guard: macros that it uses may not be there yet.
func (l *Language) compile(source string) (*Condition, error) {
	checked, err := l.check(source)
	if err != nil {
		return nil, err
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("is a %s, not true or false: compare it with something", checked.OutputType())}
	}
	c := &Condition{language: l, expr: checked.NativeRep().Expr()}
	ast.PostOrderVisit(c.expr, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.IdentKind {
			return
		}
		if name := e.AsIdent(); l.isMacro[name] && !slices.Contains(c.macros, name) {
			c.macros = append(c.macros, name)
		}
	}))
	c.program = l.program(checked)
	return c, nil
}

// Holds reports whether the condition holds. An error says that it cannot be told, as for an index beyond the arguments.
func (c *Condition) Holds(s *Subject) (bool, error) {
	if !c.general.May(s) {
		return false, nil
	}
	if c.general.Exact {
		return true, nil
	}
	return c.Evaluate(s)
}

// Evaluate is Holds by CEL alone: for who has asked a guard already.
func (c *Condition) Evaluate(s *Subject) (bool, error) {
	program, err := c.program()
	if err != nil {
		return false, err
	}
	out, _, err := program.Eval(&variables{c.language, s})
	if err != nil {
		return false, err
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("is a %s, not true or false", out.Type().TypeName())
	}
	return holds, nil
}

// Kind is what can be known of an event before it is looked at: its type, and of files what was done. Empty for any.
type Kind struct {
	Type model.Type
	Op   model.FileOp
}

// KindOf is the kind of an event.
func KindOf(e *model.Event) Kind {
	k := Kind{Type: e.Type}
	if e.File != nil {
		k.Op = e.File.Op
	}
	return k
}

// Kinds lists every kind of event.
func Kinds() []Kind {
	var kinds []Kind
	for _, t := range model.Types() {
		if t != model.TypeFile {
			kinds = append(kinds, Kind{Type: t})
		}
	}
	for _, op := range []model.FileOp{model.FileRead, model.FileWrite, model.FileCreate, model.FileTruncate, model.FileRename,
		model.FileLink, model.FileUnlink, model.FileChmod, model.FileChown} {
		kinds = append(kinds, Kind{model.TypeFile, op})
	}
	return kinds
}

// Guard is what of a condition can be told at little cost, for one kind of event.
type Guard struct {
	// Exact: when May is true, the condition holds.
	Exact bool
	may   predicate
}

// Never reports whether the condition holds for no event of the kind.
func (g *Guard) Never() bool { return g.may.never }

// May is false only when the condition does not hold.
func (g *Guard) May(s *Subject) bool { return g.may.holds(s) }

// Guard makes the guard for a kind of event.
func (c *Condition) Guard(k Kind) Guard {
	a := (&guarder{language: c.language, kind: k}).condition(c.expr)
	return Guard{Exact: a.exact, may: a.upper}
}

// Types lists the types of event for which the condition may hold.
func (c *Condition) Types() []model.Type {
	var types []model.Type
	for _, k := range Kinds() {
		if g := c.Guard(k); !g.Never() && !slices.Contains(types, k.Type) {
			types = append(types, k.Type)
		}
	}
	return types
}
