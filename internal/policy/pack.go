// SPDX-License-Identifier: Apache-2.0

package policy

// MaxMatchCells is the largest Matcher: 1 MiB in a map, about 1,300 paths of 100 bytes that share nothing.
const MaxMatchCells = 1 << 17

// noEdges is the Base of states that have no edges: no state that has edges has it.
const noEdges = 1

// matcher makes a Matcher of the automaton: texts that the patterns of sets[i] match are of class[i]; class[0] must be 0.
// It returns errTooLarge when it does not fit.
func (a *automaton) matcher(class []uint16, classes int) (Matcher, error) {
	if len(a.states) <= begin {
		return Matcher{Classes: classes}, nil // there are no patterns
	}
	p := packer{automaton: a, class: class, settled: a.settled(class)}
	if p.settled[begin] && class[a.states[begin].set] == 0 {
		return Matcher{Classes: classes}, nil // matches nothing
	}
	p.collect()
	if err := p.placeRows(); err != nil {
		return Matcher{}, err
	}
	return Matcher{Cells: p.fill(), Classes: classes}, nil
}

// settled says of each state whether all texts that begin so have the same class.
func (a *automaton) settled(class []uint16) []bool {
	// before[heads[s]:heads[s+1]] are the states that lead to s.
	heads := make([]int32, len(a.states)+2)
	each := func(f func(from, to int32)) {
		for i, s := range a.states {
			f(int32(i), s.other)
			for _, e := range a.edges[s.first:s.last] {
				f(int32(i), e.to)
			}
		}
	}
	each(func(_, to int32) { heads[to+2]++ })
	for i := 2; i < len(heads); i++ {
		heads[i] += heads[i-1]
	}
	before := make([]int32, len(a.edges)+len(a.states))
	open := make([]bool, len(a.states))
	var queue []int32
	each(func(from, to int32) {
		before[heads[to+1]] = from
		heads[to+1]++
		if !open[from] && class[a.states[from].set] != class[a.states[to].set] {
			open[from] = true
			queue = append(queue, from)
		}
	})
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, b := range before[heads[s]:heads[s+1]] {
			if !open[b] {
				open[b] = true
				queue = append(queue, b)
			}
		}
	}
	for i := range open {
		open[i] = !open[i]
	}
	return open
}

// packer lays states out in cells. A row is the cells of a state's edges: at its base plus the byte of each. Each edge
// has a cell of its own, a copy of the state that it leads to. No two rows have the same base, so that the byte of a cell's
// edge tells whose row it is in.
type packer struct {
	*automaton
	class   []uint16
	settled []bool

	order  []int32 // the states that are left, in the order in which they are reached
	number []int32 // of a state in order, plus 1
	rows   [][2]int32
	other  []int32 // by number: where bytes without an edge lead, as number
	live   []edge  // of all states; rows says which are whose

	base  []uint32 // by number
	home  []uint32 // a cell of each state, by number
	cells []MatchCell
	owner []int32  // state of each cell, plus 1
	next  []uint32 // of each cell: itself while it is free, else one from which the next free one can be found
	bases []bool   // taken, by base + belowZero
	low   uint32   // no cell before it is free
}

// collect finds the states and edges that are needed: of those that are settled on one class the first stands for all.
func (p *packer) collect() {
	p.number = make([]int32, len(p.states))
	finals := map[uint16]int32{}
	one := func(s int32) int32 {
		if p.settled[s] {
			c := p.class[p.states[s].set]
			if _, ok := finals[c]; !ok {
				finals[c] = s
			}
			s = finals[c]
		}
		if p.number[s] == 0 {
			p.order = append(p.order, s)
			p.number[s] = int32(len(p.order))
		}
		return s
	}
	one(begin)
	for i := 0; i < len(p.order); i++ { //nolint:intrange // the list grows
		s := p.order[i]
		first := int32(len(p.live))
		other := s
		if !p.settled[s] {
			other = one(p.states[s].other)
			for _, e := range p.edges[p.states[s].first:p.states[s].last] {
				if to := one(e.to); to != other {
					p.live = append(p.live, edge{e.b, to})
				}
			}
		}
		p.other = append(p.other, p.number[other])
		p.rows = append(p.rows, [2]int32{first, int32(len(p.live))})
	}
}

// placeRows finds a base for each state, and a home.
func (p *packer) placeRows() error {
	p.grow(Start)
	p.bases[belowZero+noEdges] = true
	p.take(0, -1)
	p.take(Start, p.number[begin])
	p.base, p.home = make([]uint32, len(p.order)), make([]uint32, len(p.order))
	p.home[0] = Start
	for i, r := range p.rows {
		row := p.live[r[0]:r[1]]
		p.base[i] = noEdges
		if len(row) == 0 {
			continue
		}
		base, ok := p.fit(row)
		if !ok {
			return errTooLarge
		}
		p.base[i] = base
		for _, e := range row {
			t := base + uint32(e.b)
			p.grow(t)
			p.take(t, p.number[e.to])
			p.cells[t] = (0x100 | MatchCell(e.b)) << cellEdge
			if home := &p.home[p.number[e.to]-1]; *home == 0 {
				*home = t
			}
		}
		p.bases[base+belowZero] = true
	}
	for i, home := range p.home { // states that only defaults lead to
		if home == 0 {
			t := p.free(p.low)
			if t >= MaxMatchCells {
				return errTooLarge
			}
			p.grow(t)
			p.take(t, int32(i+1))
			p.home[i] = t
		}
	}
	return nil
}

// belowZero is how far below the first cell a base can lie: by a byte.
const belowZero = 256

// tries is how many places a row is tried at before it goes behind all others: rows are short, and holes are few.
const tries = 64

// fit is the first base at which a row's cells are free. It may lie before the first cell, below zero: the table begins with
// the cells that are used, and not with room for the bytes that no path has.
func (p *packer) fit(row []edge) (base uint32, ok bool) {
	p.low = p.free(p.low)
	least := uint32(row[0].b)
	end := uint32(len(p.cells))
	t := p.low
	for n := 0; t < end; n++ {
		if n == tries {
			t = end
			break
		}
		if p.fits(t-least, row) {
			break
		}
		t = p.free(t + 1)
	}
	for !p.fits(t-least, row) {
		t++
	}
	return t - least, t-least+uint32(row[len(row)-1].b) < MaxMatchCells
}

func (p *packer) fits(base uint32, row []edge) bool {
	if base+belowZero < uint32(len(p.bases)) && p.bases[base+belowZero] {
		return false
	}
	for _, e := range row {
		if t := base + uint32(e.b); t < uint32(len(p.owner)) && p.owner[t] != 0 {
			return false
		}
	}
	return true
}

// free is the first free cell at or after t.
func (p *packer) free(t uint32) uint32 {
	for t < uint32(len(p.next)) && p.next[t] != t {
		if n := p.next[t]; n < uint32(len(p.next)) {
			p.next[t] = p.next[n] // the next look is shorter
		}
		t = p.next[t]
	}
	return t
}

// take gives a cell to a state, by its number.
func (p *packer) take(t uint32, state int32) {
	p.owner[t], p.next[t] = state, t+1
}

// grow makes room up to cell t.
func (p *packer) grow(t uint32) {
	if p.bases == nil {
		p.bases = make([]bool, belowZero, belowZero+2*len(p.order))
	}
	for uint32(len(p.cells)) <= t {
		p.next = append(p.next, uint32(len(p.next)))
		p.cells, p.owner, p.bases = append(p.cells, 0), append(p.owner, 0), append(p.bases, false)
	}
}

// fill says in each cell which state it is.
func (p *packer) fill() []MatchCell {
	for t, owner := range p.owner {
		if owner <= 0 {
			continue
		}
		s := p.order[owner-1]
		cell := &p.cells[t]
		*cell |= MatchCell(p.class[p.states[s].set]) | MatchCell(p.base[owner-1]&cellBaseMask)<<cellBase |
			MatchCell(p.home[p.other[owner-1]-1])<<cellDefault
		if p.settled[s] {
			*cell |= cellFinal
		}
	}
	return append(make([]MatchCell, 0, len(p.cells)), p.cells...) // tables stay: without the room that growing left
}
