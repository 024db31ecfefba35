// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"unique"

	"github.com/vigie-io/vigie/internal/policy"
)

// need is what a table has to be asked about: opens of the files of one directory whose names match, or of everything
// below a directory.
type need struct {
	dir  string
	name string // glob within dir; empty: everything below dir
	mask uint64
}

// needsOf says of which opens a table has something to say.
//
// A program that a dynamic loader starts is opened like a library. So where programs are denied every open is asked about,
// and where a list says what may be started only when that list has a loader in it.
func needsOf(t *policy.Table, judges func(policy.FileOp) bool) []need {
	p := t.Policy
	var out []need
	if r := p.Processes; r != nil && judges(policy.Exec) {
		for _, rule := range r.Deny {
			out = append(out, patternNeed(rule.Path, maskExec|maskOpen))
		}
		if r.HasAllow {
			mask := maskExec
			if startsLoaders(t) {
				mask |= maskOpen
			}
			out = append(out, need{dir: "/", mask: mask})
		}
	}
	if r := p.Files; r != nil && (judges(policy.Read) || judges(policy.Write)) {
		for _, rule := range r.Deny {
			if len(rule.Access) == 0 || slices.Contains(rule.Access, policy.Read) && judges(policy.Read) ||
				slices.Contains(rule.Access, policy.Write) && judges(policy.Write) {
				out = append(out, patternNeed(rule.Path, maskOpen))
			}
		}
		if r.HasAllow {
			out = append(out, need{dir: "/", mask: maskOpen})
		}
	}
	return out
}

// startsLoaders reports whether some subject may run a dynamic loader directly, at one of the places where those are.
func startsLoaders(t *policy.Table) bool {
	for _, p := range []string{"/lib64/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"/lib/ld-linux-aarch64.so.1", "/usr/lib/ld-linux-aarch64.so.1", "/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1", "/usr/bin/ld.so",
		"/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1", "/usr/lib/ld-musl-x86_64.so.1", "/usr/lib/ld-musl-aarch64.so.1"} {
		for s := range t.Subjects {
			if t.File(policy.Exec, p, s).Action() <= policy.ActAudit {
				return true
			}
		}
	}
	return false
}

// patternNeed is the narrowest need that covers a path glob.
func patternNeed(glob string, mask uint64) need {
	if !strings.HasPrefix(glob, "/") {
		return need{dir: "/", mask: mask}
	}
	dir, name := path.Split(glob)
	if i := strings.IndexAny(dir, globChars); i >= 0 {
		return need{dir: cleanDir(path.Dir(dir[:i] + "x")), mask: mask}
	}
	if name == "" || strings.Contains(name, "**") || strings.Contains(name, `\`) {
		return need{dir: cleanDir(dir), mask: mask}
	}
	return need{dir: cleanDir(dir), name: name, mask: mask}
}

// globChars are the characters that make a path a pattern.
const globChars = `*?[{\`

// cleanDir is the same string for all that name one directory: thousands of policies do.
func cleanDir(dir string) string { return unique.Make(path.Clean("/" + dir)).Value() }

func compareNeeds(a, b need) int {
	return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name), cmp.Compare(a.mask, b.mask))
}
