// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// What a Table may hold. The kernel's maps are made to these sizes.
const (
	MaxSubjects = 4096    // subjects that rules tell apart
	MaxCells    = 1 << 20 // Table.Cells, and address classes times subjects
	MaxPorts    = 1 << 17 // Table.Ports
	MaxPrefixes = 1 << 16 // Table.Prefixes
)

// Compile makes the tables of a policy. It fails when the selector's user is unknown, and when the policy needs more than
// a table can hold; the error says which rules, and what to do.
func Compile(p *Policy, env Env) (*Table, error) {
	c := &compiler{policy: p, rules: p.flatten(), patterns: map[string]int32{}}
	c.table = &Table{Policy: p, Mode: p.Mode, Rules: make([]Rule, len(c.rules))}
	for i, r := range c.rules {
		c.table.Rules[i] = r.Rule
	}
	for _, step := range []func() error{
		func() error { return c.selection(env) }, c.paths, c.network, c.privileges,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("compile policy %s: %w", p.Name, err)
		}
	}
	return c.table, nil
}

type compiler struct {
	policy *Policy
	table  *Table
	rules  []flat // by number

	patterns map[string]int32 // path globs
	globs    []string         // by number
	by       actorLists
	parent   actorLists
}

// actorLists are the different `by` or `parent` lists of a policy. Which of them hold for a binary is all that rules can
// tell about it; each combination that can be is a number.
type actorLists struct {
	lists   [][]int32        // of patterns
	numbers map[string]int32 // of a list's text
	of      []int32          // by rule: its list, -1 when it names nobody

	combinations map[string]uint8
	holds        [][]bool // by combination and list
}

// does reports whether a rule's list holds in a combination.
func (a *actorLists) does(rule int, combination int) bool {
	list := a.of[rule]
	return list < 0 || a.holds[combination][list]
}

func (c *compiler) selection(env Env) error {
	var err error
	if c.table.Selection, err = NewSelection(&c.policy.Selector, env); err != nil {
		return err
	}
	c.table.Select = c.table.Selection.binary
	return nil
}

// pattern is the number of a path glob.
func (c *compiler) pattern(glob string) int32 {
	n, ok := c.patterns[glob]
	if !ok {
		n = int32(len(c.globs))
		c.patterns[glob] = n
		c.globs = append(c.globs, glob)
	}
	return n
}

func (c *compiler) actors(a *actorLists, list func(*flat) []string) {
	a.numbers, a.of, a.combinations = map[string]int32{}, make([]int32, len(c.rules)), map[string]uint8{}
	for i := range c.rules {
		globs := list(&c.rules[i])
		if len(globs) == 0 {
			a.of[i] = -1
			continue
		}
		sorted := slices.Sorted(slices.Values(globs))
		key := strings.Join(sorted, "\n")
		n, ok := a.numbers[key]
		if !ok {
			n = int32(len(a.lists))
			a.numbers[key] = n
			var patterns []int32
			for _, g := range sorted {
				patterns = append(patterns, c.pattern(g))
			}
			a.lists = append(a.lists, patterns)
		}
		a.of[i] = n
	}
	a.combination(nil) // of binaries that no list names
}

// combination is the number of the combination of lists that hold for binaries that a set of patterns matches.
func (a *actorLists) combination(patterns []int32) (uint8, bool) {
	holds := make([]bool, len(a.lists))
	key := make([]byte, len(a.lists))
	for i, list := range a.lists {
		holds[i] = slices.ContainsFunc(list, func(p int32) bool {
			_, found := slices.BinarySearch(patterns, p)
			return found
		})
		if holds[i] {
			key[i] = 1
		}
	}
	n, ok := a.combinations[string(key)]
	if !ok {
		if len(a.holds) > 255 {
			return 0, false
		}
		n = uint8(len(a.holds))
		a.combinations[string(key)] = n
		a.holds = append(a.holds, holds)
	}
	return n, true
}

// paths makes Paths, By, Parent and Cells.
func (c *compiler) paths() error {
	var withPath []int
	for i := range c.rules {
		if c.rules[i].path != "" {
			c.pattern(c.rules[i].path)
			withPath = append(withPath, i)
		}
	}
	c.actors(&c.by, func(r *flat) []string { return r.by })
	c.actors(&c.parent, func(r *flat) []string { return r.parent })
	byPattern := make([][]int, len(c.globs))
	for _, i := range withPath {
		p := c.patterns[c.rules[i].path]
		byPattern[p] = append(byPattern[p], i)
	}
	globs := make([]glob, len(c.globs))
	for i, text := range c.globs {
		var err error
		if globs[i], err = parsePathGlob(text); err != nil {
			return fmt.Errorf("%q %w", text, err)
		}
	}
	a, err := compileAutomaton(globs)
	if err != nil {
		return c.tooLarge(err)
	}
	by, parent := make([]uint8, len(a.sets)), make([]uint8, len(a.sets))
	for i, set := range a.sets {
		var ok, ok2 bool
		if by[i], ok = c.by.combination(set); !ok {
			return c.tooMany("by", &c.by)
		}
		if parent[i], ok2 = c.parent.combination(set); !ok2 {
			return c.tooMany("parent", &c.parent)
		}
	}
	t := c.table
	t.Parents, t.HasParent = uint32(len(c.parent.holds)), len(c.parent.lists) > 0
	if t.Subjects = uint32(len(c.by.holds)) * t.Parents; t.Subjects > MaxSubjects {
		return fmt.Errorf("`by` and `parent` tell %d subjects apart, at most %d are possible: %s; name fewer binaries, or split the policy",
			t.Subjects, MaxSubjects, c.fieldsOf(&c.parent))
	}
	if len(a.sets)*int(t.Subjects) > MaxCells {
		return fmt.Errorf("%d classes of paths times %d subjects of `by` and `parent` are more than %d: split the policy", len(a.sets), t.Subjects, MaxCells)
	}
	class := c.cells(a.sets, by, parent, byPattern)
	if t.Paths, err = a.matcher(class, len(t.By)); err != nil {
		return c.tooLarge(err)
	}
	return nil
}

// cells fills Cells, By and Parent, and gives each set of patterns its class: sets that decide alike are one.
func (c *compiler) cells(sets [][]int32, by, parent []uint8, byPattern [][]int) []uint16 {
	t := c.table
	var rest [FileOps]Decision
	for i := range c.rules {
		if r := &c.rules[i]; r.list == processesAllow && r.rest() {
			rest[Exec] = c.decision(i)
		} else if r.list == filesAllow && r.rest() {
			rest[Read], rest[Write], rest[Modify] = c.decision(i), c.decision(i), c.decision(i)
		}
	}
	class := make([]uint16, len(sets))
	known := map[string]uint16{}
	row := make([]Cell, t.Subjects)
	var candidates []int
	var key []byte
	for i, set := range sets {
		candidates = candidates[:0]
		for _, p := range set {
			candidates = append(candidates, byPattern[p]...)
		}
		slices.Sort(candidates)
		key = append(key[:0], by[i], parent[i])
		for s := range row {
			row[s] = rest
			c.row(&row[s], candidates, s)
			for _, d := range row[s] {
				key = binary.LittleEndian.AppendUint16(key, uint16(d))
			}
		}
		n, ok := known[string(key)]
		if !ok {
			n = uint16(len(t.By))
			known[string(key)] = n
			t.By, t.Parent, t.Cells = append(t.By, by[i]), append(t.Parent, parent[i]), append(t.Cells, row...)
		}
		class[i] = n
	}
	return class
}

// row fills a cell: of the rules that a path is in, the first that holds for the subject decides.
func (c *compiler) row(cell *Cell, candidates []int, subject int) {
	var decided [FileOps]bool
	for _, i := range candidates {
		if !c.holdsFor(i, subject) {
			continue
		}
		for op := range decided {
			if c.rules[i].ops[op] && !decided[op] {
				decided[op], cell[op] = true, c.decision(i)
			}
		}
	}
}

func (c *compiler) holdsFor(rule, subject int) bool {
	parents := int(c.table.Parents)
	return c.by.does(rule, subject/parents) && c.parent.does(rule, subject%parents)
}

// decision is what is done when a rule decides.
func (c *compiler) decision(rule int) Decision {
	if c.rules[rule].Allows {
		return Decide(ActAllow, rule)
	}
	return Decide(c.policy.denial(), rule)
}

// privileges makes Privileges.
func (c *compiler) privileges() error {
	if c.policy.Capabilities == nil && c.policy.Operations == nil {
		return nil
	}
	subjects := int(c.table.Subjects)
	c.table.Privileges = make([]Decision, Privileges*subjects)
	for i := len(c.rules) - 1; i > 0; i-- { // the first decides: it is written last
		r := &c.rules[i]
		caps := r.caps
		if r.list == capabilitiesAllow && r.rest() {
			for n := range PrivilegePtrace {
				caps = append(caps, n)
			}
		}
		for _, n := range caps {
			for s := range subjects {
				if c.holdsFor(i, s) {
					c.table.Privileges[n*subjects+s] = c.decision(i)
				}
			}
		}
	}
	return nil
}

// tooLarge says which globs make the automaton too large.
func (c *compiler) tooLarge(err error) error {
	worst := wildest(c.globs)
	if len(worst) == 0 {
		return fmt.Errorf("its %d paths are %w for one policy, which holds about 100,000 bytes of paths: split it into several, or write dir/** for many files of one directory",
			len(c.globs), err)
	}
	for i, g := range worst {
		worst[i] = g + " (" + c.fieldOf(g) + ")"
	}
	return fmt.Errorf("its %d path globs together are %w: wildcards multiply, the most in %s; write fewer ** before other text, or split the policy",
		len(c.globs), err, strings.Join(worst, ", "))
}

// fieldOf is the first rule that has a glob.
func (c *compiler) fieldOf(glob string) string {
	for i := range c.rules {
		if r := &c.rules[i]; r.path == glob || contains(r.by, glob) || contains(r.parent, glob) {
			return r.Field()
		}
	}
	return ""
}

func (c *compiler) tooMany(field string, a *actorLists) error {
	return fmt.Errorf("`%s` tells more than 256 kinds of binaries apart, in %s: let rules share their lists, or split the policy", field, c.fieldsOf(a))
}

// fieldsOf names rules with lists of a, at most five.
func (c *compiler) fieldsOf(a *actorLists) string {
	var fields []string
	for i, list := range a.of {
		if list < 0 {
			continue
		}
		if len(fields) == 5 {
			return strings.Join(fields, ", ") + " and more"
		}
		fields = append(fields, c.rules[i].Field())
	}
	return strings.Join(fields, ", ")
}
