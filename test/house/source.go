// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/ast"
	"strings"
)

// packageDoc holds that each package says what flows in and out. A package of tests alone says it in a test.
func packageDoc(t *Tree) []Finding {
	type pkg struct {
		first *GoFile
		doc   bool
	}
	pkgs := map[string]*pkg{}
	var dirs []string
	for _, f := range t.Go {
		if f.Generated || strings.HasSuffix(f.Syntax.Name.Name, "_test") {
			continue
		}
		p := pkgs[f.Dir]
		if p == nil {
			p = &pkg{first: f}
			pkgs[f.Dir] = p
			dirs = append(dirs, f.Dir)
		}
		want := "Package " + f.Syntax.Name.Name + " "
		if f.Syntax.Name.Name == "main" {
			want = "Command "
		}
		if f.Syntax.Doc != nil && strings.HasPrefix(f.Syntax.Doc.Text(), want) {
			p.doc = true
		}
	}
	var found []Finding
	for _, dir := range dirs {
		if p := pkgs[dir]; !p.doc {
			found = append(found, t.at(p.first.Syntax.Package,
				"package %s has no doc comment: say above a package clause, beginning with Package or Command and its name, what flows in and out",
				p.first.Syntax.Name.Name))
		}
	}
	return found
}

// noInit holds that nothing happens by being imported.
func noInit(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		for _, d := range f.Syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && !f.Generated && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, t.at(fn.Pos(), "func init: do it in a constructor that the caller calls, or list it in a visible slice"))
			}
		}
	}
	return found
}

// noSleep holds that a test waits for a condition: a sleep in a loop is a poll, any other is a guess.
func noSleep(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if !f.Test {
			continue
		}
		var loops int
		var stack []ast.Node
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if n == nil {
				if isLoop(stack[len(stack)-1]) {
					loops--
				}
				stack = stack[:len(stack)-1]
				return true
			}
			stack = append(stack, n)
			if isLoop(n) {
				loops++
			}
			if call, ok := n.(*ast.CallExpr); ok && loops == 0 && isSelector(call.Fun, "time", "Sleep") {
				found = append(found, t.at(call.Pos(), "a test that sleeps for a fixed time is slow or flaky: poll for the condition with a deadline"))
			}
			return true
		})
	}
	return found
}

func isLoop(n ast.Node) bool {
	switch n.(type) {
	case *ast.ForStmt, *ast.RangeStmt:
		return true
	}
	return false
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}
