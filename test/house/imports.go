// SPDX-License-Identifier: Apache-2.0

package house

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// Where a package stands. Arrows go down: command → agent → room → floor.
type level int

const (
	outside  level = iota // test, tools: may look at everything, and nothing looks at them
	command               // cmd and the command line
	agent                 // the only assembler
	room                  // everything else under internal, and api
	floor                 // pipeline, kernel
	bottom                // model: the standard library only
	testOnly              // testkit: reached from tests only
)

func levelOf(room_ string) level {
	switch top, _, _ := strings.Cut(room_, "/"); top {
	case "cmd":
		return command
	case "test", "tools":
		return outside
	}
	switch room_ {
	case "internal/cli":
		return command
	case "internal/agent":
		return agent
	case "internal/pipeline", "internal/kernel":
		return floor
	case "internal/model":
		return bottom
	case "internal/testkit":
		return testOnly
	}
	return room
}

// roomOf names the room of a folder: "internal/store/memory" is in "internal/store", "api/vigie/v1" in "api".
func roomOf(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	if parts[0] == "internal" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// imports holds the import graph.
func imports(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		for _, spec := range f.Syntax.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser has checked it
			}
			if msg := judge(f, to); msg != "" {
				found = append(found, t.at(spec.Pos(), "%s", msg))
			}
		}
	}
	return found
}

// judge says what is wrong with an import, or nothing.
func judge(f *GoFile, imported string) string {
	from := roomOf(f.Dir)
	toDir, inside := strings.CutPrefix(imported, Module+"/")
	if !inside {
		if levelOf(from) == bottom && !f.Test && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
			return from + " imports " + imported + ": it is limited to the standard library, move what needs more into a room"
		}
		return ""
	}
	to := roomOf(toDir)
	if from == to {
		return judgeSiblings(f, toDir)
	}
	if permitted(levelOf(from), levelOf(to), f.Test) {
		return ""
	}
	for _, a := range arrows() {
		if a.from == from && a.to == to && (f.Test || !a.tests) {
			return ""
		}
	}
	switch levelOf(to) {
	case testOnly:
		return from + " imports " + to + " outside of a test: move the import into a _test.go file"
	case outside:
		return from + " imports " + to + ": nothing imports tests and tools"
	case room:
		return from + " imports its sibling " + to + ": declare the small interface that is needed in " + from + ", and let internal/agent connect the two"
	default:
		return from + " imports " + to + ", which is above it: imports go cmd → agent → rooms → model; pass what is needed as a parameter"
	}
}

// permitted holds the general arrows.
func permitted(from, to level, test bool) bool {
	switch {
	case from == outside:
		return to != outside
	case to == bottom:
		return true
	case to == testOnly:
		return test
	case from == testOnly:
		return to == floor || to == room // it is a part of the tests
	case from == command:
		return to == agent || to == floor || to == command
	case from == agent:
		return to == room || to == floor
	case from == room:
		return to == floor
	case from == floor:
		return to == floor // kernel counts its losses with pipeline; Go itself forbids the circle
	}
	return false
}

// judgeSiblings keeps the members of a listed room apart: a sensor does not import a sensor. They may share
// the room's own package, only the list knows them all, and a test may join two.
func judgeSiblings(f *GoFile, toDir string) string {
	if f.Test {
		return ""
	}
	for _, listed := range listedRooms() {
		from, ok := member(listed, f.Dir)
		to, ok2 := member(listed, toDir)
		if ok && ok2 && from != to && from != "all" && notMembers()[listed+"/"+to] == "" {
			return f.Dir + " imports its sibling " + toDir + ": what both need goes into " + listed + " or bpf/"
		}
	}
	return ""
}

// member is the folder of a listed room in which a folder lies.
func member(listed, dir string) (string, bool) {
	rest, ok := strings.CutPrefix(dir, listed+"/")
	name, _, _ := strings.Cut(rest, "/")
	return name, ok
}

// clientGo keeps Kubernetes' client libraries in the rooms that are made for them.
func clientGo(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		for _, spec := range f.Syntax.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil || slices.Contains(clientGoRooms(), roomOf(f.Dir)) || levelOf(roomOf(f.Dir)) == outside {
				continue
			}
			if under(to, "k8s.io/client-go") || under(to, "sigs.k8s.io/controller-runtime") {
				found = append(found, t.at(spec.Pos(), "%s imports %s: only %s may; take plain types from there",
					f.Dir, to, strings.Join(clientGoRooms(), ", ")))
			}
		}
	}
	return found
}

func under(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

// allGo holds that a member of a listed room is on its list, and that the list exists.
func allGo(t *Tree) []Finding {
	var found []Finding
	for _, listed := range listedRooms() {
		members := map[string]bool{}
		imported := map[string]bool{}
		var list *GoFile
		for _, f := range t.Go {
			m, ok := member(listed, f.Dir)
			if ok && m != "all" && !f.Test && notMembers()[listed+"/"+m] == "" {
				members[m] = true
			}
			if path.Base(f.Path) != "all.go" || (f.Dir != listed && f.Dir != listed+"/all") {
				continue
			}
			list = f
			for _, spec := range f.Syntax.Imports {
				if to, err := strconv.Unquote(spec.Path.Value); err == nil {
					if m, ok := member(Module+"/"+listed, to); ok {
						imported[m] = true
					}
				}
			}
		}
		for _, m := range sorted(members) {
			switch {
			case list == nil:
				found = append(found, Finding{Path: listed + "/" + m, Message: "is on no list: write " + listed + "/all.go or " + listed + "/all/all.go, a visible slice of all members"})
			case !imported[m]:
				found = append(found, Finding{Path: list.Path, Message: listed + "/" + m + " is not listed: add a line for it"})
			}
		}
	}
	return found
}

func sorted(set map[string]bool) []string {
	var s []string
	for k := range set {
		s = append(s, k)
	}
	slices.Sort(s)
	return s
}
