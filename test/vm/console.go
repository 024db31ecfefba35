// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// report is what a guest's console said. The lines that begin with "@vm" come from init.sh.
type report struct {
	release  string
	done     bool
	packages []*packageResult
	passed   int // test functions, without their subtests
	skipped  []skip
	tail     []string // last lines of the console
}

type skip struct {
	test   string // "package.TestName"
	reason string
}

type packageResult struct {
	name  string
	ended bool
	ok    bool
	lines []string // the package's own output
}

// tailLines is how much of the console is shown when a boot fails: a kernel's panic with its registers.
const tailLines = 60

// line takes the console's next line, its newline included.
func (r *report) line(s string) {
	s = strings.TrimRight(s, "\r\n") + "\n"
	r.tail = append(r.tail, s)
	if len(r.tail) > tailLines {
		r.tail = r.tail[1:]
	}
	// A test that ends without a newline, or the kernel's log, can stand before the mark.
	if _, mark, ok := strings.Cut(s, "@vm "); ok {
		r.mark(strings.Fields(mark))
		return
	}
	if p := r.current(); p != nil {
		p.lines = append(p.lines, s)
		r.count(p, s)
	}
}

func (r *report) mark(f []string) {
	switch {
	case len(f) >= 2 && f[0] == "boot":
		r.release = f[1]
	case len(f) == 2 && f[0] == "begin":
		r.packages = append(r.packages, &packageResult{name: f[1]})
	case len(f) == 3 && f[0] == "end":
		if p := r.current(); p != nil && p.name == f[1] {
			p.ended = true
			p.ok = f[2] == "0"
		}
	case len(f) == 1 && f[0] == "done":
		r.done = true
	}
}

// count keeps the top-level verdicts of go test -v. The reason of a skip is the line before its verdict.
func (r *report) count(p *packageResult, s string) {
	switch {
	case strings.HasPrefix(s, "--- PASS: "):
		r.passed++
	case strings.HasPrefix(s, "--- SKIP: "):
		name := strings.Fields(s)[2]
		reason := ""
		if n := len(p.lines); n >= 2 {
			reason = strings.TrimSpace(p.lines[n-2])
		}
		r.skipped = append(r.skipped, skip{p.name + "." + name, reason})
	}
}

// current is the package that is running, or nil.
func (r *report) current() *packageResult {
	if len(r.packages) == 0 || r.packages[len(r.packages)-1].ended {
		return nil
	}
	return r.packages[len(r.packages)-1]
}

// verdict is nil only when the guest came up, ran all the packages it was given, each passed, and it said
// so itself.
func (r *report) verdict(want int) error {
	var failed []string
	for _, p := range r.packages {
		switch {
		case !p.ended:
			failed = append(failed, p.name+" (did not end)")
		case !p.ok:
			failed = append(failed, p.name)
		}
	}
	switch {
	case r.release == "":
		return errors.New("the guest did not reach its init script")
	case len(failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	case !r.done || len(r.packages) != want:
		return fmt.Errorf("the guest stopped after %d of %d packages", len(r.packages), want)
	case r.passed == 0:
		return errors.New("no test passed, which is no proof of anything")
	}
	return nil
}

func (r *report) print(out io.Writer, kernel string) {
	for _, s := range r.skipped {
		fmt.Fprintf(out, "skip %s %s: %s\n", kernel, s.test, s.reason)
	}
	for _, p := range r.packages {
		word := "FAIL"
		if p.ok {
			word = "PASS"
		}
		fmt.Fprintf(out, "%s %s %s\n", word, kernel, p.name)
	}
}
