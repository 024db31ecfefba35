// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"io"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Scan says which rows of a segment to read.
type Scan struct {
	From, To     Position  // not before, before; zero for no bound
	Since, Until time.Time // not before, before; zero for no bound
	Types        map[model.Type]bool
	Tests        []Test // each must hold
	Reverse      bool   // the last rows first
	Cache        *Cache // of the query; nil for one of its own
}

// Test is a condition on columns, tried on each different value and not on each row. It holds where one of the columns
// has a value that Text, or Number, takes. Of a family, or an older file, that lacks the columns it says nothing.
type Test struct {
	Columns []string
	Text    func(string) bool // of columns of text
	Number  func(int64) bool  // of columns of numbers
}

// Cursor goes over the rows of a scan.
type Cursor struct {
	s       *Segment
	scan    Scan
	group   int     // the next one
	rows    []int32 // of the open group, that are still to be read
	readers []*columnReader
	batch   []*model.Event // read, still to be given out
	run     []int64        // their runs
	at      int
}

// batchRows is how many events are made at once.
const batchRows = 512

// Scan begins a scan. The caller closes it.
func (s *Segment) Scan(scan Scan) *Cursor {
	if scan.Cache == nil {
		scan.Cache = NewCache()
	}
	c := &Cursor{s: s, scan: scan}
	if scan.Reverse {
		c.group = len(s.groups) - 1
	}
	return c
}

// Next is the next event and its place. Errors: io.EOF after the last; else what is wrong with the file, and what comes
// after it can not be read.
func (c *Cursor) Next() (*model.Event, Position, error) {
	for c.at == len(c.batch) {
		if err := c.fill(); err != nil {
			return nil, Position{}, err
		}
	}
	e, run := c.batch[c.at], c.run[c.at]
	c.batch[c.at] = nil
	c.at++
	return e, Position{run, e.Seq}, nil
}

// Close ends the scan.
func (c *Cursor) Close() {
	for _, r := range c.readers {
		r.close()
	}
	c.readers = nil
}

// fill makes the next batch.
func (c *Cursor) fill() (err error) {
	defer guard(&err)
	for len(c.rows) == 0 {
		if err := c.open(); err != nil {
			return err
		}
	}
	n := min(len(c.rows), batchRows)
	var rows []int32
	if c.scan.Reverse {
		rows, c.rows = c.rows[len(c.rows)-n:], c.rows[:len(c.rows)-n]
	} else {
		rows, c.rows = c.rows[:n], c.rows[n:]
	}
	return c.build(rows)
}

// open goes to the next row group that has rows to read.
func (c *Cursor) open() error {
	c.Close()
	if c.group < 0 || c.group >= len(c.s.groups) {
		return io.EOF
	}
	g := &c.s.groups[c.group]
	if c.scan.Reverse {
		c.group--
	} else {
		c.group++
	}
	rows, err := c.s.choose(g, &c.scan)
	if err != nil || len(rows) == 0 {
		return err
	}
	c.rows = rows
	c.readers = make([]*columnReader, len(c.s.family.Columns))
	for i := range c.s.family.Columns {
		if col := &c.s.family.Columns[i]; !col.derived {
			c.readers[i] = newColumnReader(col, g, c.s.leaves[i], c.scan.Cache)
		}
	}
	return nil
}

// build makes the events of rows.
func (c *Cursor) build(rows []int32) error {
	events := make([]model.Event, len(rows))
	run := make([]int64, len(rows))
	for i, r := range c.readers {
		if r == nil {
			continue
		}
		col := &c.s.family.Columns[i]
		take := func(j int, v *value) { col.read(&events[j], v) }
		if col.Name == ColumnRun {
			take = func(j int, v *value) { run[j] = v.number }
		}
		if err := r.each(rows, take); err != nil {
			return err
		}
	}
	c.batch, c.run, c.at = c.batch[:0], run, 0
	for i := range events {
		settleParent(&events[i])
		settleEnds(&events[i])
		complete(&events[i])
		c.batch = append(c.batch, &events[i])
	}
	if c.scan.Reverse {
		reverse(c.batch)
		reverse(c.run)
	}
	return nil
}

func reverse[T any](list []T) {
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
}
