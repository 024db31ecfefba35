// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"cmp"
	"net/netip"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/vigie-io/vigie/internal/model"
)

// value is an operand whose reading cannot fail: a constant, or a getter.
type value struct {
	kind     valueKind
	constant bool
	cost     int

	text    string
	number  uint64
	signed  int64
	flag    bool
	texts   []string
	numbers []uint64

	getText   func(*Subject) string
	isEmpty   func(*Subject) bool // text == "" at less cost; may be nil
	getNumber func(*Subject) uint64
	getSigned func(*Subject) int64
	getFlag   func(*Subject) bool
	getTexts  func(*Subject) []string

	message string // of a part
	part    func(*Subject) any
	absent  bool // the part is in no event of the kind
}

type valueKind int

const (
	isText valueKind = iota
	isNumber
	isSigned
	isFlag
	isTexts
	isNumbers // constants only
	isPart
)

func (v *value) asPredicate() predicate {
	if v.constant {
		return constant(v.flag)
	}
	return predicate{test: v.getFlag}
}

func (v *value) reader() func(*Subject) string {
	if text := v.text; v.constant {
		return func(*Subject) string { return text }
	}
	return v.getText
}

// constantTexts is a list of constants, also of one.
func (v *value) constantTexts() ([]string, bool) {
	switch {
	case !v.constant:
		return nil, false
	case v.kind == isText:
		return []string{v.text}, true
	}
	return v.texts, v.kind == isTexts
}

// value compiles an operand; false when it is not known here.
func (g *guarder) value(e ast.Expr) (value, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		return literal(e)
	case ast.ListKind:
		return g.list(e.AsList().Elements())
	case ast.IdentKind:
		return g.name(e.AsIdent())
	case ast.SelectKind:
		sel := e.AsSelect()
		of, ok := g.value(sel.Operand())
		if !ok || of.kind != isPart || sel.IsTestOnly() {
			return value{}, false
		}
		return g.field(of, sel.FieldName())
	case ast.CallKind:
		return g.function(e.AsCall())
	}
	return value{}, false
}

func literal(e ast.Expr) (value, bool) {
	switch v := e.AsLiteral().(type) {
	case types.String:
		return value{kind: isText, constant: true, text: string(v)}, true
	case types.Uint:
		return value{kind: isNumber, constant: true, number: uint64(v)}, true
	case types.Int:
		return value{kind: isSigned, constant: true, signed: int64(v)}, true
	case types.Bool:
		return value{kind: isFlag, constant: true, flag: bool(v)}, true
	}
	return value{}, false
}

// list is a list of texts or of numbers that are constants.
func (g *guarder) list(elements []ast.Expr) (value, bool) {
	texts, numbers := value{kind: isTexts, constant: true}, value{kind: isNumbers, constant: true}
	for _, e := range elements {
		v, ok := g.value(e)
		if !ok || !v.constant {
			return value{}, false
		}
		switch v.kind {
		case isText:
			texts.texts = append(texts.texts, v.text)
		case isNumber:
			numbers.numbers = append(numbers.numbers, v.number)
		default:
			return value{}, false
		}
	}
	switch {
	case len(numbers.numbers) == 0:
		return texts, true
	case len(texts.texts) == 0:
		return numbers, true
	}
	return value{}, false
}

func (g *guarder) name(name string) (value, bool) {
	if l := g.local(name); l != nil {
		return l.value(), true
	}
	whole := value{kind: isPart, message: "Event", part: func(s *Subject) any { return s }}
	switch name {
	case "event":
		return whole, true
	case commandVariable:
		return value{kind: isText, getText: (*Subject).command, cost: moderate}, true
	case writtenVariable:
		return g.written(), true
	case calledVariable:
		return value{kind: isText, getText: (*Subject).called}, true
	}
	if list, ok := g.language.lists[name]; ok {
		return value{kind: isTexts, constant: true, texts: list}, true
	}
	if _, ok := g.language.variables[name]; ok {
		return g.field(whole, name)
	}
	return value{}, false
}

// written is written_path: for many rules the most of what they ask, so that it is what is left of it for the kind.
func (g *guarder) written() value {
	var path func(*model.File) string
	switch k := g.kind; {
	case k.Type == "" || k.Type == model.TypeFile && k.Op == "":
		return value{kind: isText, getText: (*Subject).written}
	case k.Type != model.TypeFile || !leavesFile(k.Op):
		return value{kind: isText, constant: true}
	case k.Op == model.FileRename || k.Op == model.FileLink:
		path = func(f *model.File) string { return f.NewPath }
	default:
		path = func(f *model.File) string { return f.Path }
	}
	return value{kind: isText, getText: func(s *Subject) string {
		if f := s.Event.File; f != nil && f.Error == 0 {
			return path(f)
		}
		return ""
	}}
}

// possible reports whether events of the kind can have a part.
func (g *guarder) possible(part string) bool {
	of := partOf(part)
	return g.kind.Type == "" || of == nil || slices.Contains(of, g.kind.Type)
}

// field is a field of a part.
func (g *guarder) field(of value, name string) (value, bool) {
	f, ok := g.language.messages[of.message][name]
	if !ok {
		return value{}, false
	}
	if of.message == "Event" && name == "type" && g.kind.Type != "" {
		return value{kind: isText, constant: true, text: string(g.kind.Type)}, true
	}
	if of.message == "File" && name == "op" && g.kind.Op != "" {
		return value{kind: isText, constant: true, text: string(g.kind.Op)}, true
	}
	if of.absent {
		return emptyField(&f)
	}
	part := of.part
	switch {
	case f.text != nil:
		v := value{kind: isText, getText: func(s *Subject) string { return f.text(part(s)) }, cost: of.cost}
		if f.empty != nil { // a text that must be made
			v.isEmpty, v.cost = func(s *Subject) bool { return f.empty(part(s)) }, expensive
		}
		return v, true
	case f.number != nil:
		return value{kind: isNumber, getNumber: func(s *Subject) uint64 { return f.number(part(s)) }}, true
	case f.signed != nil:
		return value{kind: isSigned, getSigned: func(s *Subject) int64 { return f.signed(part(s)) }}, true
	case f.flag != nil:
		return value{kind: isFlag, getFlag: func(s *Subject) bool { return f.flag(part(s)) }}, true
	case f.texts != nil:
		return value{kind: isTexts, getTexts: func(s *Subject) []string { return f.texts(part(s)) }, cost: moderate}, true
	case f.part != nil:
		absent := of.message == "Event" && !g.possible(name)
		return value{kind: isPart, message: f.message, part: func(s *Subject) any { return f.part(part(s)) }, absent: absent}, true
	}
	return value{}, false
}

// emptyField is a field of a part that is not there.
func emptyField(f *field) (value, bool) {
	switch {
	case f.text != nil:
		return value{kind: isText, constant: true}, true
	case f.number != nil:
		return value{kind: isNumber, constant: true}, true
	case f.signed != nil:
		return value{kind: isSigned, constant: true}, true
	case f.flag != nil:
		return value{kind: isFlag, constant: true}, true
	case f.texts != nil:
		return value{kind: isTexts, constant: true}, true
	case f.part != nil:
		return value{kind: isPart, message: f.message, absent: true}, true
	}
	return value{}, false
}

// function is a function of a text, or the length of a list.
func (g *guarder) function(c ast.CallExpr) (value, bool) {
	operands := c.Args()
	if c.IsMemberFunction() {
		operands = append([]ast.Expr{c.Target()}, operands...)
	}
	if len(operands) != 1 {
		return value{}, false
	}
	v, ok := g.value(operands[0])
	switch {
	case !ok:
	case c.FunctionName() == "size" && v.kind == isTexts && !v.constant:
		list := v.getTexts
		return value{kind: isSigned, getSigned: func(s *Subject) int64 { return int64(len(list(s))) }}, true
	case c.FunctionName() == "base" && v.kind == isText:
		return v.mapped(base), true
	case c.FunctionName() == "dir" && v.kind == isText:
		return v.mapped(dir), true
	}
	return value{}, false
}

// mapped is a text that is made of another.
func (v value) mapped(f func(string) string) value {
	if v.constant {
		return value{kind: isText, constant: true, text: f(v.text)}
	}
	get := v.getText
	return value{kind: isText, getText: func(s *Subject) string { return f(get(s)) }, cost: v.cost}
}

// ordering compares two numbers of the same sign rules, as cmp.Compare does; false when they are no such numbers.
func ordering(a, b value) (func(*Subject) int, bool) {
	// A constant that is written without u can be compared with an unsigned field.
	a, b = a.unsignedFor(b), b.unsignedFor(a)
	switch {
	case a.kind == isNumber && b.kind == isNumber:
		getA, getB := numberReader(a), numberReader(b)
		return func(s *Subject) int { return cmp.Compare(getA(s), getB(s)) }, true
	case a.kind == isSigned && b.kind == isSigned:
		getA, getB := signedReader(a), signedReader(b)
		return func(s *Subject) int { return cmp.Compare(getA(s), getB(s)) }, true
	}
	return nil, false
}

func (v value) unsignedFor(other value) value {
	if v.kind == isSigned && v.constant && v.signed >= 0 && other.kind == isNumber {
		return value{kind: isNumber, constant: true, number: uint64(v.signed)}
	}
	return v
}

func numberReader(v value) func(*Subject) uint64 {
	if n := v.number; v.constant {
		return func(*Subject) uint64 { return n }
	}
	return v.getNumber
}

func signedReader(v value) func(*Subject) int64 {
	if n := v.signed; v.constant {
		return func(*Subject) int64 { return n }
	}
	return v.getSigned
}

// withinAny tests an address for being in one of some networks.
func withinAny(a, b value) (predicate, bool) {
	list, ok := b.constantTexts()
	if !ok || a.kind != isText {
		return predicate{}, false
	}
	networks := make([]netip.Prefix, len(list))
	for i, s := range list {
		var err error
		if networks[i], err = parseNetwork(s); err != nil {
			return predicate{}, false // CEL says so
		}
	}
	get := a.reader()
	return predicate{test: func(s *Subject) bool {
		addr, err := netip.ParseAddr(get(s))
		if err != nil {
			return false
		}
		addr = addr.Unmap().WithZone("")
		return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
	}, cost: expensive}, true
}
