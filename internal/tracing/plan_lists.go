// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// lists checks the lists and fills those that are generated.
func (l *planner) lists() {
	seen := make(map[string]bool)
	for i := range l.p.Document.Spec.Lists {
		s := &l.p.Document.Spec.Lists[i]
		path := fmt.Sprintf("spec.lists[%d]", i)
		if s.Name == "" || seen[s.Name] {
			l.fail(path+".name", "a list needs a name of its own")
		}
		seen[s.Name] = true
		var match *regexp.Regexp
		if s.Pattern != nil {
			var err error
			if match, err = regexp.Compile(*s.Pattern); err != nil {
				l.fail(path+".pattern", "%v", err)
			}
		}
		switch s.Type {
		case "", "syscalls":
		case "generated_syscalls":
			s.Values = nil
			for _, name := range slices.Sorted(maps.Keys(syscallNumbers())) {
				if match == nil || match.MatchString("sys_"+name) {
					s.Values = append(s.Values, "sys_"+name)
				}
			}
			if len(s.Values) == 0 {
				l.fail(path+".pattern", "no system call matches")
			}
		case "generated_ftrace":
			if match == nil {
				l.fail(path+".pattern", "generated_ftrace needs a pattern")
			}
		default:
			l.fail(path+".type", "%q is not known; there are syscalls, generated_syscalls and generated_ftrace", s.Type)
		}
	}
}

// listOf is the list that "list:NAME" names; nil for something else.
func (l *planner) listOf(field, ref string) *ListSpec {
	name, ok := strings.CutPrefix(ref, "list:")
	if !ok {
		return nil
	}
	lists := l.p.Document.Spec.Lists
	i := slices.IndexFunc(lists, func(s ListSpec) bool { return s.Name == name })
	if i < 0 {
		l.fail(field, "there is no list %q in spec.lists", name)
		return &ListSpec{}
	}
	return &lists[i]
}

// calls resolves a function's name or a list of them. Names of system calls lose their prefix.
func (l *planner) calls(field, call string, syscall bool) []string {
	if call == "" {
		l.fail(field, "the name of a function is wanted")
		return nil
	}
	names := []string{call}
	if s := l.listOf(field, call); s != nil {
		names = s.Values
	}
	if !syscall {
		return names
	}
	var out []string
	for _, n := range names {
		short, problem := syscallName(n)
		if problem != "" {
			l.fail(field, "%s", problem)
			continue
		}
		out = append(out, short)
	}
	return out
}

// syscallName takes the prefixes of a system call's name away, and says what is wrong with it.
func syscallName(name string) (short, problem string) {
	short = name
	if abi, rest, ok := strings.Cut(short, "/"); ok {
		if abi != nativeABI {
			return "", fmt.Sprintf("%s is a call of %s programs; only those of %s are watched", name, abi, nativeABI)
		}
		short = rest
	}
	if strings.HasPrefix(short, "__ia32_") || strings.HasPrefix(short, "__compat_") {
		return "", fmt.Sprintf("%s is a call of 32-bit programs; only those of %s are watched", name, nativeABI)
	}
	for _, prefix := range []string{"__" + nativeABI + "_sys_", "__x64_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_", "ksys_", "sys_"} {
		if s, ok := strings.CutPrefix(short, prefix); ok {
			short = s
			break
		}
	}
	if _, ok := syscallNumbers()[short]; !ok {
		return "", fmt.Sprintf("there is no system call %q here; say syscall: false for another function of the kernel", name)
	}
	return short, ""
}

// expand puts the macros that a selector names into it.
func (l *planner) expand(path string, s Selector) Selector {
	for i, name := range s.Macros {
		at := fmt.Sprintf("%s.macros[%d]", path, i)
		m, ok := l.p.Document.Spec.SelectorsMacros[name]
		if !ok {
			l.fail(at, "there is no macro %q in spec.selectorsMacros", name)
			continue
		}
		if len(m.Macros) > 0 {
			l.fail(at, "the macro %q uses macros itself", name)
		}
		for _, problem := range []string{
			merge("matchPIDs", &s.MatchPIDs, m.MatchPIDs), merge("matchArgs", &s.MatchArgs, m.MatchArgs),
			merge("matchData", &s.MatchData, m.MatchData), merge("matchActions", &s.MatchActions, m.MatchActions),
			merge("matchReturnArgs", &s.MatchReturnArgs, m.MatchReturnArgs), merge("matchReturnActions", &s.MatchReturnActions, m.MatchReturnActions),
			merge("matchBinaries", &s.MatchBinaries, m.MatchBinaries), merge("matchParentBinaries", &s.MatchParentBinaries, m.MatchParentBinaries),
			merge("matchNamespaces", &s.MatchNamespaces, m.MatchNamespaces), merge("matchNamespaceChanges", &s.MatchNamespaceChanges, m.MatchNamespaceChanges),
			merge("matchCapabilities", &s.MatchCapabilities, m.MatchCapabilities), merge("matchCapabilityChanges", &s.MatchCapabilityChanges, m.MatchCapabilityChanges),
		} {
			if problem != "" {
				l.fail(at, "%s is in the macro %q and in the selector, or in two macros", problem, name)
			}
		}
		if m.MatchWorkloads != nil {
			if s.MatchWorkloads != nil {
				l.fail(at, "matchWorkloads is in the macro %q and in the selector, or in two macros", name)
			}
			s.MatchWorkloads = m.MatchWorkloads
		}
	}
	return s
}

// merge puts a macro's field into a selector's, and names the field when both have it.
func merge[T any](name string, into *[]T, from []T) string {
	if len(from) == 0 {
		return ""
	}
	if len(*into) > 0 {
		return name
	}
	*into = from
	return ""
}
