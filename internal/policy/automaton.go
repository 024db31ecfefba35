// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"errors"
	mathbits "math/bits"
	"slices"
	"strings"
)

// Bounds of an automaton while it is built. What a Matcher may hold is MaxMatchCells (pack.go).
const (
	maxStates    = MaxMatchCells
	maxPositions = 1 << 23 // positions in all states
	maxSetSizes  = 1 << 22 // patterns in all sets of patterns
)

var errTooLarge = errors.New("too large")

// automaton is a deterministic automaton over bytes, as it comes from the subset construction: each state is the set
// of places in the patterns at which a text can be.
type automaton struct {
	states []state
	edges  []edge
	sets   [][]int32 // sets of patterns that match the same text; sets[0] is empty
}

type state struct {
	first, last int32 // its edges
	other       int32 // where all bytes lead that have no edge
	set         int32 // the patterns that match a text that ends here
}

type edge struct {
	b  byte
	to int32
}

// The states of each automaton that are always there.
const (
	dead  = 0 // nothing can match any more
	begin = 1
)

// waiting is a piece of a pattern that waits for its byte.
type waiting struct {
	piece
	pattern int32
	match   bool // the end of the pattern
}

// builder holds the patterns one after the other; a position is an index into program. Position i+1 follows i.
type builder struct {
	a         automaton
	program   []waiting
	separator byte

	single    []int32 // state of the set that holds but one position; 0 none
	byKey     map[string]int32
	positions []int32 // of all states, one after the other
	ends      []int32 // where those of a state end
	setByKey  map[string]int32
	setSizes  int
	key       []byte

	// Of the state that is looked at: where single bytes lead, every byte but the separator, every byte.
	where                  [256][]int32
	inside, always, closed []int32
}

// compileAutomaton makes an automaton of globs. Pattern i of the automaton is globs[i]. It returns errTooLarge when the
// patterns' wildcards multiply beyond the bounds.
func compileAutomaton(globs []glob) (*automaton, error) {
	b := &builder{byKey: map[string]int32{}, setByKey: map[string]int32{"": 0}, separator: '/'}
	b.a.sets = [][]int32{nil}
	var start []int32
	total := 0
	for _, g := range globs {
		total += len(g.pieces) + 1
	}
	b.program = make([]waiting, 0, total)
	for i, g := range globs {
		b.separator = g.separator
		start = append(start, int32(len(b.program)))
		for _, p := range g.pieces {
			b.program = append(b.program, waiting{piece: p, pattern: int32(i)})
		}
		b.program = append(b.program, waiting{pattern: int32(i), match: true})
	}
	b.single = make([]int32, len(b.program))
	b.a.states = make([]state, 0, len(b.program)+2)
	b.ends = make([]int32, 1, len(b.program)+2)

	b.add(nil) // dead
	var first []int32
	for _, at := range start {
		first = b.closure(first, at)
	}
	b.intern(b.normal(first))
	for s := 0; s < len(b.a.states); s++ { //nolint:intrange // the list grows
		if len(b.a.states) > maxStates || len(b.positions) > maxPositions || b.setSizes > maxSetSizes {
			return nil, errTooLarge
		}
		b.expand(s)
	}
	return &b.a, nil
}

// closure appends a position and those that are reached from it without a byte.
func (b *builder) closure(to []int32, at int32) []int32 {
	to = append(to, at)
	switch p := &b.program[at]; {
	case p.match:
	case p.kind == pieceStar, p.kind == pieceDeep, p.kind == pieceDirs:
		to = b.closure(to, at+1)
	}
	return to
}

func (b *builder) normal(set []int32) []int32 {
	if len(set) > 1 {
		slices.Sort(set)
		set = slices.Compact(set)
	}
	return set
}

// intern is the state of a set of positions.
func (b *builder) intern(set []int32) int32 {
	switch len(set) {
	case 0:
		return dead
	case 1:
		if b.single[set[0]] == 0 {
			b.single[set[0]] = b.add(set)
		}
		return b.single[set[0]]
	}
	b.key = key(b.key[:0], set)
	if s, ok := b.byKey[string(b.key)]; ok {
		return s
	}
	s := b.add(set)
	b.byKey[string(b.key)] = s
	return s
}

func key(to []byte, set []int32) []byte {
	for _, p := range set {
		to = binary.LittleEndian.AppendUint32(to, uint32(p))
	}
	return to
}

func (b *builder) add(set []int32) int32 {
	b.positions = append(b.positions, set...)
	b.ends = append(b.ends, int32(len(b.positions)))
	b.a.states = append(b.a.states, state{set: b.patterns(set)})
	return int32(len(b.a.states) - 1)
}

// patterns is the number of the set of patterns that end in a set of positions.
func (b *builder) patterns(set []int32) int32 {
	var found []int32
	for _, at := range set {
		if b.program[at].match {
			found = append(found, b.program[at].pattern)
		}
	}
	if len(found) == 0 {
		return 0
	}
	k := string(key(nil, found))
	n, ok := b.setByKey[k]
	if !ok {
		n = int32(len(b.a.sets))
		b.a.sets = append(b.a.sets, found)
		b.setByKey[k] = n
		b.setSizes += len(found)
	}
	return n
}

// expand finds the edges of a state.
func (b *builder) expand(s int) {
	from := b.positions[b.ends[s]:b.ends[s+1]]
	named := byteSet{} // bytes that a position tells from others; where has their positions
	b.inside, b.always = b.inside[:0], b.always[:0]
	to := func(c byte, at int32) {
		if !named.has(c) {
			named.add(c)
			b.where[c] = b.where[c][:0]
		}
		if at >= 0 {
			b.where[c] = b.closure(b.where[c], at)
		}
	}
	for _, at := range from {
		p := &b.program[at]
		if p.match {
			continue
		}
		switch p.kind {
		case pieceByte:
			to(p.b, at+1)
		case pieceSet:
			for c := range 256 {
				if p.set.has(byte(c)) {
					to(byte(c), at+1)
				}
			}
		case pieceAny:
			b.inside = b.closure(b.inside, at+1)
			to(b.separator, -1)
		case pieceStar:
			b.inside = b.closure(b.inside, at)
			to(b.separator, -1)
		case pieceDeep:
			b.always = b.closure(b.always, at)
		case pieceDirs: // stays with any byte, and can only go on after a separator
			b.always = append(b.always, at)
			to(b.separator, at+1)
		}
	}
	b.closed = append(append(b.closed[:0], b.inside...), b.always...)
	other := b.intern(b.normal(b.closed))
	first := int32(len(b.a.edges))
	for w, bits := range named {
		for ; bits != 0; bits &= bits - 1 {
			c := byte(w<<6 + mathbits.TrailingZeros64(bits))
			set := append(b.where[c], b.always...)
			if c != b.separator {
				set = append(set, b.inside...)
			}
			b.where[c] = set
			if next := b.intern(b.normal(set)); next != other {
				b.a.edges = append(b.a.edges, edge{c, next})
			}
		}
	}
	one := &b.a.states[s]
	one.first, one.last, one.other = first, int32(len(b.a.edges)), other
}

// wildest names the patterns that make an automaton large: those with the most wildcards, worst first.
func wildest(globs []string) []string {
	worst := slices.Clone(globs)
	weight := func(g string) int { return 4*strings.Count(g, "**") + strings.Count(g, "*") + strings.Count(g, "?") }
	slices.SortStableFunc(worst, func(a, b string) int { return weight(b) - weight(a) })
	return slices.DeleteFunc(worst[:min(3, len(worst))], func(g string) bool { return weight(g) == 0 })
}
