// SPDX-License-Identifier: Apache-2.0

// Package house holds the house rules of this repository that a program can check. In: the files of the
// tree, as git knows them. Out: findings, each with file, line and what to do. The rules are listed in
// Rules, their exceptions in tables.go; there is no other way to be excepted.
package house

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is the import path of the tree.
const Module = "github.com/vigie-io/vigie"

// Rule is one house rule.
type Rule struct {
	Name  string
	Check func(*Tree) []Finding
}

// Rules lists all rules.
func Rules() []Rule {
	return []Rule{
		{"imports", imports},
		{"client-go", clientGo},
		{"licence", licence},
		{"package-doc", packageDoc},
		{"length", length},
		{"init", noInit},
		{"mutable-state", mutableState},
		{"sleep", noSleep},
		{"machine-paths", machinePaths},
		{"all-go", allGo},
	}
}

// Finding is one place where a rule is broken.
type Finding struct {
	Path    string // slash-separated, from the root of the tree
	Line    int    // from 1; 0 when it is about the whole file or folder
	Message string // what is wrong, and what to do
}

func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.Path, f.Message)
	}
	return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Message)
}

// Tree is what the rules look at.
type Tree struct {
	Files map[string][]byte // all files that git tracks or would track
	Go    []*GoFile         // the Go sources among them, sorted by path; not those under testdata
	Fset  *token.FileSet
}

// GoFile is a parsed Go source.
type GoFile struct {
	Path      string
	Dir       string // of Path; "." for the root
	Test      bool   // name ends in _test.go
	Generated bool
	Syntax    *ast.File
}

// Load reads the named files of a tree and parses its Go sources.
func Load(fsys fs.FS, names []string) (*Tree, error) {
	t := &Tree{Files: map[string][]byte{}, Fset: token.NewFileSet()}
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read the tree: %w", err)
		}
		t.Files[name] = data
		if path.Ext(name) != ".go" || underTestdata(name) {
			continue
		}
		syntax, err := parser.ParseFile(t.Fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse the tree: %w", err)
		}
		t.Go = append(t.Go, &GoFile{
			Path: name, Dir: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"),
			Generated: ast.IsGenerated(syntax), Syntax: syntax,
		})
	}
	slices.SortFunc(t.Go, func(a, b *GoFile) int { return cmp.Compare(a.Path, b.Path) })
	return t, nil
}

// at makes a finding of a place in a Go source.
func (t *Tree) at(pos token.Pos, format string, args ...any) Finding {
	p := t.Fset.Position(pos)
	return Finding{Path: p.Filename, Line: p.Line, Message: fmt.Sprintf(format, args...)}
}

// sources calls f with each file that people wrote and that has one of the kinds; kind says which.
func (t *Tree) sources(f func(name string, kind sourceKind, data []byte)) {
	generated := map[string]bool{}
	for _, g := range t.Go {
		generated[g.Path] = g.Generated
	}
	for _, name := range t.names() {
		if kind := kindOf(name, t.Files[name]); kind != notSource && !generated[name] && !underTestdata(name) {
			f(name, kind, t.Files[name])
		}
	}
}

// names are all files, sorted.
func (t *Tree) names() []string {
	names := make([]string, 0, len(t.Files))
	for name := range t.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

type sourceKind int

const (
	notSource sourceKind = iota
	goSource
	kernelC // runs in the kernel; every header is for it
	otherC  // helpers of tests
	hashed  // shell, make, unit files: comments begin with a hash
	proto
	script // TypeScript of the web page
	style  // its style sheets
)

func kindOf(name string, data []byte) sourceKind {
	switch ext := path.Ext(name); {
	case ext == ".go":
		return goSource
	case strings.HasSuffix(name, ".bpf.c"), ext == ".h":
		return kernelC
	case ext == ".c":
		return otherC
	case ext == ".proto":
		return proto
	case ext == ".ts" || ext == ".tsx":
		if bytes.Contains(data[:min(len(data), 300)], []byte("// @generated")) {
			return notSource
		}
		return script
	case ext == ".css" && !strings.HasPrefix(name, "ui/dist/"):
		return style
	case ext == ".sh", ext == ".service", path.Base(name) == "Makefile":
		return hashed
	case bytes.HasPrefix(data, []byte("#!")):
		line, _, _ := bytes.Cut(data, []byte("\n"))
		if bytes.Contains(line, []byte("sh")) {
			return hashed
		}
	}
	return notSource
}

// underTestdata also covers this package's own bad examples.
func underTestdata(name string) bool {
	return slices.Contains(strings.Split(name, "/"), "testdata")
}
