// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"
	"time"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// maxWarned is how many nodes are named on standard error for one answer.
const maxWarned = 10

// warnMissing says of which nodes an answer has nothing.
func warnMissing(w io.Writer, errs []*vigiev1.NodeError) {
	for i, e := range errs {
		if i == maxWarned {
			fmt.Fprintf(w, "and %d more nodes are missing: see `vigie status`\n", len(errs)-maxWarned)
			return
		}
		fmt.Fprintf(w, "node %s is missing: %s\n", term.Escape(e.GetNode()), term.Escape(e.GetMessage()))
	}
}

// sayNodes tells of nodes whose state has changed while a stream is read.
func sayNodes(w io.Writer, nodes []*vigiev1.NodeStatus) {
	for _, n := range nodes {
		text := fmt.Sprintf("node %s is %s", term.Escape(n.GetName()), term.Escape(n.GetState()))
		if n.GetMessage() != "" {
			text += ": " + term.Escape(n.GetMessage())
		}
		fmt.Fprintln(w, text)
	}
}

// nodeTable is the section of a relay's status about its nodes: those that want attention first.
func nodeTable(st term.Style, nodes []*vigiev1.NodeStatus, now time.Time) [][]string {
	nodes = slices.Clone(nodes)
	well := func(n *vigiev1.NodeStatus) int {
		switch {
		case n.GetState() != "connected":
			return 0
		case n.GetMessage() != "" || len(n.GetProblems()) > 0:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(nodes, func(a, b *vigiev1.NodeStatus) int { return well(a) - well(b) })
	var rows [][]string
	for _, n := range nodes {
		state := st.Green(term.Escape(n.GetState()))
		if n.GetState() != "connected" {
			state = st.Red(term.Escape(n.GetState()))
		}
		offset, trip := "-", "-"
		if n.GetClockUncertaintyNs() > 0 {
			offset = signed(time.Duration(n.GetClockOffsetNs()), time.Duration(n.GetClockUncertaintyNs()))
			trip = show.Duration(time.Duration(n.GetRttNs()))
		}
		lost := fmt.Sprint(n.GetLost())
		if n.GetLost() > 0 {
			lost = st.Red(lost)
		}
		note := n.GetMessage()
		for _, p := range n.GetProblems() {
			if note != "" {
				note += "; "
			}
			note += p
		}
		rows = append(rows, []string{term.Escape(n.GetName()), state, show.Age(now.Sub(n.GetSince().AsTime())), term.Escape(n.GetVersion()), offset, trip,
			fmt.Sprint(n.GetEvents()), lost, term.Escape(note)})
	}
	return rows
}

// signed is an offset of a clock; "0" where the measurement does not tell more.
func signed(offset, uncertainty time.Duration) string {
	switch {
	case offset.Abs() <= uncertainty:
		return "0"
	case offset > 0:
		return "+" + show.Duration(offset)
	}
	return "-" + show.Duration(-offset)
}

// missing says which nodes an answer is without, where the command wants it said.
func (t *target) missing(errs []*vigiev1.NodeError) {
	if t.warn != nil {
		warnMissing(t.warn, errs)
	}
}

// changedOn ends a command that changes something: with the nodes where it is not done, if any, which is a failure.
func changedOn(env Env, errs []*vigiev1.NodeError, err error) error {
	warnMissing(env.Err, errs)
	if err == nil && len(errs) > 0 {
		return exit(ExitFailed)
	}
	return err
}

// printPolicyNodes prints how a policy is doing on each node of a relay that has it.
func printPolicyNodes(env Env, p *vigiev1.Policy) error {
	if len(p.GetNodes()) == 0 {
		return nil
	}
	screen := env.screen()
	t := term.Table{Width: screen.Width, Style: screen.Style, Header: []string{"NODE", "MODE", "STATE", "PROCESSES", "HITS", "NOTE"}, Right: []int{3, 4}}
	for _, n := range p.GetNodes() {
		t.Rows = append(t.Rows, []string{term.Escape(n.GetNode()), modeText(screen.Style, n.GetMode()), stateText(screen.Style, n.GetState()),
			fmt.Sprint(n.GetProcesses()), hitsText(screen.Style, n.GetMode(), n.GetHits()), term.Escape(n.GetMessage())})
	}
	fmt.Fprintln(env.Out)
	return t.Write(env.Out)
}
