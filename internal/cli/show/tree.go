// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// Node is one line of a process tree.
type Node struct {
	*model.Process
	Branch   string // what is drawn before the process: "│ └─ "
	Depth    int
	Children int // direct children
}

// Tree orders procs as a forest, parents before their children, siblings by pid. A process whose
// parent is not among procs is a root. Parents are told by pid and start time: they may have called
// exec since the fork.
func Tree(procs []*model.Process) []Node { return TreeFolded(procs, nil) }

// TreeFolded is Tree without the descendants of processes that folded names.
func TreeFolded(procs []*model.Process, folded func(*model.Process) bool) []Node {
	type group struct { // a thread group, whatever its image
		pid   uint32
		start uint64
	}
	of := func(k model.ProcessKey) group { return group{k.PID, k.Start} }
	known := make(map[group]bool, len(procs))
	for _, p := range procs {
		known[of(p.Key)] = true
	}
	children := make(map[group][]*model.Process)
	var roots []*model.Process
	for _, p := range procs {
		// A process that would be its own parent, or older than its parent, ends here: data that
		// contradicts itself must not loop.
		parent := of(p.ParentKey)
		if parent.pid != 0 && known[parent] && parent != of(p.Key) && parent.start <= p.Key.Start {
			children[parent] = append(children[parent], p)
		} else {
			roots = append(roots, p)
		}
	}
	byPID := func(a, b *model.Process) int {
		return cmp.Or(cmp.Compare(a.Key.PID, b.Key.PID), cmp.Compare(a.Key.Start, b.Key.Start), cmp.Compare(a.Key.Exec, b.Key.Exec))
	}
	nodes := make([]Node, 0, len(procs))
	done := make(map[group]bool, len(procs)) // several images of one process: the first has the children
	var walk func(p *model.Process, lead, branch string, depth int)
	walk = func(p *model.Process, lead, branch string, depth int) {
		g := of(p.Key)
		var sub []*model.Process
		if !done[g] {
			sub = children[g]
		}
		done[g] = true
		nodes = append(nodes, Node{Process: p, Branch: branch, Depth: depth, Children: len(sub)})
		if folded != nil && folded(p) {
			return
		}
		slices.SortFunc(sub, byPID)
		for i, c := range sub {
			switch {
			case i == len(sub)-1:
				walk(c, lead+"  ", lead+"└─ ", depth+1)
			default:
				walk(c, lead+"│ ", lead+"├─ ", depth+1)
			}
		}
	}
	slices.SortFunc(roots, byPID)
	for _, p := range roots {
		walk(p, "", "", 0)
	}
	return nodes
}
