// SPDX-License-Identifier: Apache-2.0

package house

import (
	"cmp"
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// mutableState holds that packages have no variables that change: none that is assigned, whose element or
// field is assigned or whose address is taken outside of its declaration, and none of a type that exists to
// change (sync, sync/atomic). Tables and sentinels that are only read are fine.
//
// What a called function does to a variable is not seen: this finds state, it does not prove its absence.
func mutableState(t *Tree) []Finding {
	var found []Finding
	for _, files := range byPackage(t) {
		info := resolve(t.Fset, files)
		vars := packageVars(files, info)
		report := func(id *ast.Ident, pos token.Pos, how string) {
			obj := info.Uses[id]
			if pkg, ok := obj.(*types.PkgName); ok && how == assigned {
				found = append(found, t.at(pos, "a variable of package %s is assigned here: it is everybody's, pass a value of your own", pkg.Name()))
				return
			}
			decl, isVar := vars[obj]
			if !isVar || mutable()[decl.file.Dir+"."+id.Name] != "" {
				return
			}
			found = append(found, t.at(pos, "package variable %s is %s here: make it a field or a parameter", id.Name, how))
		}
		for _, f := range files {
			writes(f.Syntax, report)
		}
		for _, v := range vars {
			if lib := mutableType(v.typ); lib != "" && mutable()[v.file.Dir+"."+v.name.Name] == "" {
				found = append(found, t.at(v.name.Pos(), "package variable %s is a %s, which exists to change: make it a field", v.name.Name, lib))
			}
		}
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line))
	})
	return found
}

// byPackage groups the sources that people wrote and that are no tests.
func byPackage(t *Tree) map[string][]*GoFile {
	pkgs := map[string][]*GoFile{}
	for _, f := range t.Go {
		if !f.Test && !f.Generated {
			key := f.Dir + " " + f.Syntax.Name.Name
			pkgs[key] = append(pkgs[key], f)
		}
	}
	return pkgs
}

// resolve says which object a name means. Imports are not read, so types from elsewhere stay unknown; names
// of the package itself resolve all the same.
func resolve(fset *token.FileSet, files []*GoFile) *types.Info {
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{
		Importer: noImporter{},
		Error:    func(error) {}, // of the imports, all expected
	}
	syntax := make([]*ast.File, len(files))
	for i, f := range files {
		syntax[i] = f.Syntax
	}
	_, _ = conf.Check(files[0].Dir, fset, syntax, info) // its error is the first of those
	return info
}

type noImporter struct{}

func (noImporter) Import(string) (*types.Package, error) {
	return nil, errors.New("imports are not read")
}

type packageVar struct {
	file *GoFile
	name *ast.Ident
	typ  ast.Expr // as written, or nil
}

func packageVars(files []*GoFile, info *types.Info) map[types.Object]packageVar {
	vars := map[types.Object]packageVar{}
	for _, f := range files {
		for _, d := range f.Syntax.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					v := packageVar{file: f, name: name, typ: spec.Type}
					if v.typ == nil && i < len(spec.Values) {
						v.typ = literalType(spec.Values[i])
					}
					if obj := info.Defs[name]; obj != nil {
						vars[obj] = v
					}
				}
			}
		}
	}
	return vars
}

// literalType is T of T{…} and &T{…}.
func literalType(e ast.Expr) ast.Expr {
	if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND {
		e = u.X
	}
	if lit, ok := e.(*ast.CompositeLit); ok {
		return lit.Type
	}
	return nil
}

// mutableType names a type of sync or sync/atomic.
func mutableType(typ ast.Expr) string {
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	sel, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := sel.X.(*ast.Ident); ok && (pkg.Name == "sync" || pkg.Name == "atomic") {
		return pkg.Name + "." + sel.Sel.Name
	}
	return ""
}

// assigned is the way of a write that is seen at once.
const assigned = "assigned"

// writes calls report with each name that a file writes to, at the place and with the way.
func writes(f *ast.File, report func(id *ast.Ident, pos token.Pos, how string)) {
	target := func(e ast.Expr, how string) {
		if id := base(e); id != nil {
			report(id, e.Pos(), how)
		}
	}
	ranged := map[ast.Expr]bool{} // range &array reads it, without a copy
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					target(e, assigned)
				}
			}
		case *ast.IncDecStmt:
			target(n.X, assigned)
		case *ast.RangeStmt:
			ranged[n.X] = true
			if n.Tok == token.ASSIGN {
				target(n.Key, assigned)
				target(n.Value, assigned)
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND && !ranged[n] {
				target(n.X, "handed out by address")
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
				target(n.Args[0], "emptied")
			}
		}
		return true
	})
}

// base is the variable in x, x.f, x[i], *x and (x).
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}
