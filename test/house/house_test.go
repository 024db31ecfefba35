// SPDX-License-Identifier: Apache-2.0

package house

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestRepository(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Load(os.DirFS(root), list(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 10 {
		t.Fatalf("found only %d Go files under %s, so this would prove nothing", len(tree.Go), root)
	}
	for _, rule := range Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			for _, f := range rule.Check(tree) {
				t.Error(f)
			}
		})
	}
}

// TestRules runs each rule on a small bad tree, testdata/RULE.txt, which says what must be found: the
// findings are to be these and no others. The same trees hold look-alikes that are fine.
func TestRules(t *testing.T) {
	for _, rule := range Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			want, files := example(t, filepath.Join("testdata", rule.Name+".txt"))
			if len(want) == 0 {
				t.Fatal("the example wants no finding")
			}
			var names []string
			for name := range files {
				names = append(names, name)
			}
			tree, err := Load(files, names)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range rule.Check(tree) {
				got = append(got, f.String())
			}
			for _, w := range want {
				i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, w) })
				if i < 0 {
					t.Errorf("not found: %s", w)
					continue
				}
				got = slices.Delete(got, i, i+1)
			}
			for _, g := range got {
				t.Errorf("found, but is fine: %s", g)
			}
		})
	}
}

func TestLengthOfAListedFile(t *testing.T) {
	for name, limit := range longFiles() {
		if limit <= maxLines {
			t.Errorf("longFiles lists %s with %d lines, which every file may have", name, limit)
		}
	}
}

// example reads a tree from one file: "want FINDING" lines, then "-- name --" before each member. A member
// "repeat N TEXT" stands for so many lines of it.
func example(t *testing.T, name string) (want []string, files fstest.MapFS) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("a rule without a bad example: %v", err)
	}
	files = fstest.MapFS{}
	var member *fstest.MapFile
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok {
			member = &fstest.MapFile{}
			files[strings.TrimSuffix(strings.TrimSpace(rest), " --")] = member
			continue
		}
		if w, ok := strings.CutPrefix(line, "want "); ok && member == nil {
			want = append(want, strings.TrimSpace(w))
		} else if n, ok := strings.CutPrefix(line, "repeat 500 "); ok && member != nil {
			member.Data = append(member.Data, strings.Repeat(n, 500)...)
		} else if member != nil {
			member.Data = append(member.Data, line...)
		}
	}
	return want, files
}

// list names the files that git tracks, or would track if they were added. Without git, in an unpacked
// release, it names all files but what make puts there.
func list(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
			// One that is deleted, and not yet so in the index, is no file.
			if fi, err := os.Lstat(filepath.Join(root, name)); err == nil && fi.Mode().IsRegular() {
				names = append(names, name)
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		return names
	}
	t.Logf("git does not list the tree (%v), so all files in it are looked at", err)
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "node_modules"}, d.Name()) {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
