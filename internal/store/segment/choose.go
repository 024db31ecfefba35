// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"math"

	"github.com/vigie-io/vigie/internal/model"
)

// choose lists the rows of a group that a scan asks for. It reads the columns that the scan puts conditions on, and no
// others.
func (s *Segment) choose(g *group, scan *Scan) ([]int32, error) {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !scan.Since.IsZero() {
		since = scan.Since.UnixNano()
	}
	if !scan.Until.IsZero() {
		until = scan.Until.UnixNano()
	}
	if g.until < since || g.since >= until || g.rows > math.MaxInt32 || outside(g, scan) {
		return nil, nil
	}
	keep := allRows(int(g.rows))
	if g.since < since || g.until >= until {
		if err := s.narrow(g, scan, keep, ColumnTime, func(v *value) bool { return v.number >= since && v.number < until }); err != nil {
			return nil, err
		}
	}
	if err := s.narrowTypes(g, scan, keep); err != nil {
		return nil, err
	}
	for i := range scan.Tests {
		if err := s.test(g, scan, &scan.Tests[i], keep); err != nil {
			return nil, err
		}
	}
	if !scan.From.IsZero() && g.first.Compare(scan.From) < 0 || !scan.To.IsZero() && g.last.Compare(scan.To) >= 0 {
		if err := s.narrowPositions(g, scan, keep); err != nil {
			return nil, err
		}
	}
	return keep.rows(), nil
}

func outside(g *group, scan *Scan) bool {
	return !scan.From.IsZero() && g.last.Compare(scan.From) < 0 || !scan.To.IsZero() && g.first.Compare(scan.To) >= 0
}

func (s *Segment) narrowTypes(g *group, scan *Scan, keep *mask) error {
	if scan.Types == nil {
		return nil
	}
	all := true
	for _, t := range s.family.Types {
		all = all && scan.Types[t]
	}
	if all {
		return nil
	}
	return s.narrow(g, scan, keep, ColumnType, func(v *value) bool { return scan.Types[model.Type(v.text)] })
}

// narrow drops the rows whose value of a column want does not take, and those where it is NULL.
func (s *Segment) narrow(g *group, scan *Scan, keep *mask, column string, want func(*value) bool) error {
	found := newMask(len(keep.set))
	if err := s.find(g, scan, keep, column, want, found); err != nil {
		return err
	}
	keep.set, keep.left = found.set, found.left
	return nil
}

// test drops the rows where a test does not hold.
func (s *Segment) test(g *group, scan *Scan, t *Test, keep *mask) error {
	found, asked := newMask(len(keep.set)), false
	for _, name := range t.Columns {
		c := s.family.Column(name)
		if c == nil {
			continue
		}
		if s.leaf(name) < 0 {
			return nil // the file is older than the column: who gets the events decides
		}
		asked = true
		want := func(v *value) bool { return t.Number != nil && t.Number(v.number) }
		if c.kind == kindText || c.kind == kindObject {
			want = func(v *value) bool { return t.Text != nil && t.Text(v.text) }
		}
		if err := s.find(g, scan, keep, name, want, found); err != nil {
			return err
		}
	}
	if asked {
		keep.set, keep.left = found.set, found.left
	}
	return nil
}

// find marks, of the rows in among, those whose value of a column want takes.
func (s *Segment) find(g *group, scan *Scan, among *mask, column string, want func(*value) bool, found *mask) error {
	r := newColumnReader(s.family.Column(column), g, s.leaf(column), scan.Cache)
	if r == nil || among.left == 0 {
		return nil
	}
	defer r.close()
	var verdicts []int8 // by place in the dictionary: 0 not tried
	for row := range g.rows {
		if !among.set[row] || found.set[row] {
			continue
		}
		at, ok, err := r.place(row)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if r.codes == nil {
			v, err := r.value(at)
			if err != nil {
				return err
			}
			if want(v) {
				found.add(row)
			}
			continue
		}
		code := r.codes[at]
		if verdicts == nil {
			verdicts = make([]int8, len(r.known))
		}
		if uint(code) < uint(len(verdicts)) && verdicts[code] != 0 {
			if verdicts[code] > 0 {
				found.add(row)
			}
			continue
		}
		v, err := r.entry(code)
		if err != nil {
			return err
		}
		verdicts[code] = -1
		if want(v) {
			verdicts[code] = 1
			found.add(row)
		}
	}
	return nil
}

// narrowPositions drops the rows outside the scan's positions.
func (s *Segment) narrowPositions(g *group, scan *Scan, keep *mask) error {
	rows := keep.rows()
	runs := make([]int64, len(rows))
	run := newColumnReader(s.family.Column(ColumnRun), g, s.leaf(ColumnRun), scan.Cache)
	defer run.close()
	if err := run.each(rows, func(i int, v *value) { runs[i] = v.number }); err != nil {
		return err
	}
	seq := newColumnReader(s.family.Column(ColumnSeq), g, s.leaf(ColumnSeq), scan.Cache)
	defer seq.close()
	kept := newMask(len(keep.set))
	err := seq.each(rows, func(i int, v *value) {
		at := Position{runs[i], uint64(v.number)}
		if at.Compare(scan.From) >= 0 && (scan.To.IsZero() || at.Compare(scan.To) < 0) {
			kept.add(int64(rows[i]))
		}
	})
	keep.set, keep.left = kept.set, kept.left
	return err
}

// mask is a set of rows of a group.
type mask struct {
	set  []bool
	left int
}

func newMask(rows int) *mask { return &mask{set: make([]bool, rows)} }

// allRows is the set of all rows.
func allRows(rows int) *mask {
	m := &mask{set: make([]bool, rows), left: rows}
	for i := range m.set {
		m.set[i] = true
	}
	return m
}

func (m *mask) add(row int64) {
	m.set[row] = true
	m.left++
}

func (m *mask) rows() []int32 {
	rows := make([]int32, 0, m.left)
	for i, in := range m.set {
		if in {
			rows = append(rows, int32(i))
		}
	}
	return rows
}
