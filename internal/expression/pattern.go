// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// A pattern is mostly asked about texts that it does not match. What must stand in a text that it matches is looked for
// first, which costs a tenth.

// matcher is the test of a pattern.
func (l *Language) matcher(pattern string) (func(string) bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.patterns[pattern]; ok {
		return m, nil
	}
	m, err := newMatcher(pattern)
	if err == nil {
		l.patterns[pattern] = m
	}
	return m, err
}

func newMatcher(pattern string) (func(string) bool, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var needed []string
	if tree, err := syntax.Parse(pattern, syntax.Perl); err == nil {
		needed = required(tree)
	}
	switch len(needed) {
	case 0:
		return re.MatchString, nil
	case 1:
		one := needed[0]
		return func(s string) bool { return strings.Contains(s, one) && re.MatchString(s) }, nil
	}
	return func(s string) bool {
		for _, n := range needed {
			if strings.Contains(s, n) {
				return re.MatchString(s)
			}
		}
		return false
	}, nil
}

// maxRequired is how many texts are worth looking for.
const maxRequired = 12

// required are texts of which each match holds at least one; nil when none are known.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return []string{string(re.Rune)}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if r := required(sub); r != nil && (best == nil || shortest(r) > shortest(best) || shortest(r) == shortest(best) && len(r) < len(best)) {
				best = r
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			r := required(sub)
			if r == nil {
				return nil
			}
			all = append(all, r...)
		}
		if len(all) <= maxRequired {
			return all
		}
	}
	return nil
}

func shortest(list []string) int {
	return len(slices.MinFunc(list, func(a, b string) int { return len(a) - len(b) }))
}

// directories is the test for being one of dirs or below one.
func directories(dirs []string) func(string) bool {
	trimmed := make([]string, len(dirs))
	for i, d := range dirs {
		trimmed[i] = strings.TrimSuffix(d, "/")
	}
	return func(path string) bool {
		for _, d := range trimmed {
			// Directories differ in their last byte more often than in their first.
			if n := len(d); len(path) >= n && (n == 0 || path[n-1] == d[n-1] && path[:n] == d) && (len(path) == n || path[n] == '/') {
				return true
			}
		}
		return false
	}
}

// domains is the test for being one of some domains or a name in one.
func domains(list []string) func(string) bool {
	set := make(map[string]struct{}, len(list))
	for _, d := range list {
		set[d] = struct{}{}
	}
	return func(name string) bool {
		for {
			if _, ok := set[name]; ok {
				return true
			}
			_, rest, ok := strings.Cut(name, ".")
			if !ok {
				return false
			}
			name = rest
		}
	}
}

// inDomain reports whether name is domain or in it.
func inDomain(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}
