// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

const (
	document = "../../../docs/history.md"
	mark     = "<!-- columns: written by go test ./internal/store/segment -update -->\n"
)

// documentation is the part of docs/history.md that lists the columns.
func documentation() string {
	var b strings.Builder
	shared := slices.Concat(commonColumns(), processColumns())
	table := func(columns []Column) {
		b.WriteString("\n| column | type | |\n|---|---|---|\n")
		for i := range columns {
			c := &columns[i]
			name := "`" + c.Name + "`"
			if c.derived {
				name += " ¹"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, c.Type(), strings.ReplaceAll(c.Doc, "|", "\\|"))
		}
	}
	b.WriteString("\n### All families\n")
	table(commonColumns())
	b.WriteString("\nAnd, of all but loss, the process:\n")
	table(processColumns())
	for _, f := range Families() {
		fmt.Fprintf(&b, "\n### %s\n\n%s Types: %s.\n", f.Name, f.Doc, strings.Join(typesOf(f), ", "))
		own := slices.DeleteFunc(slices.Clone(f.Columns), func(c Column) bool {
			return slices.ContainsFunc(shared, func(s Column) bool { return s.Name == c.Name && s.Doc == c.Doc })
		})
		table(own)
	}
	return b.String()
}

func typesOf(f *Family) []string {
	var names []string
	for _, t := range f.Types {
		names = append(names, string(t))
	}
	return names
}

var update = flag.Bool("update", false, "write the columns to "+document)

func TestTheDocumentListsTheColumns(t *testing.T) {
	page, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	text, _, found := strings.Cut(string(page), mark)
	if !found {
		t.Fatalf("%s has no place for the columns", document)
	}
	want := text + mark + documentation()
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(page) {
		t.Errorf("%s does not list the columns as they are: go test ./internal/store/segment -update", document)
	}
}

// Names are unique in a family, and each type is in one family.
func TestFamilies(t *testing.T) {
	seen := make(map[model.Type]string)
	for _, f := range Families() {
		names := make(map[string]bool)
		for i := range f.Columns {
			if c := &f.Columns[i]; names[c.Name] || c.Doc == "" {
				t.Errorf("%s: column %q is there twice or says nothing of itself", f.Name, c.Name)
			}
			names[f.Columns[i].Name] = true
		}
		for _, typ := range f.Types {
			if seen[typ] != "" {
				t.Errorf("%s is in %s and in %s", typ, seen[typ], f.Name)
			}
			seen[typ] = f.Name
		}
	}
}
