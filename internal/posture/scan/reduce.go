// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// partsOf are the objects with one element of a list each, made once for all controls.
func (l *locator) partsOf(list string) []part {
	if have, ok := l.single[list]; ok {
		return have
	}
	paths := [][]string{strings.Split(list, "\x00")}
	if list == containerWord {
		paths = l.containerPaths()
	}
	var out []part
	for own, path := range paths {
		for i := range l.entry.object.Len(path) {
			reduced := l.entry.object
			for other, p := range paths {
				keep := -1
				if other == own {
					keep = i
				}
				if l.entry.object.Len(p) > 0 {
					reduced = reduced.Only(p, keep)
				}
			}
			out = append(out, part{at: append(slices.Clone(path), strconv.Itoa(i)), object: reduced})
		}
	}
	l.single[list] = out
	return out
}

func (l *locator) containerPaths() [][]string {
	var paths [][]string
	for _, name := range control.ContainerLists() {
		paths = append(paths, append(slices.Clone(l.podPath), name))
	}
	return paths
}

// without is the object with no container at all.
func (l *locator) without() *object.Object {
	o := l.entry.object
	for _, path := range l.containerPaths() {
		if o.Len(path) > 0 {
			o = o.Only(path, -1)
		}
	}
	return o
}

// inner finds the element of a list within an element that is bad alone; the first when only one is there.
func (l *locator) inner(path, element []string, v engine.Verdict, p part) (int, bool) {
	n := l.entry.object.Len(path)
	if n <= 1 {
		return 0, n == 1
	}
	inReduced := slices.Clone(path) // the element is the only one of its list there
	inReduced[len(element)-1] = "0"
	for i := range n {
		if len(l.still(p.object.Only(inReduced, i), []engine.Verdict{v})) > 0 {
			return i, true
		}
	}
	return 0, false
}
