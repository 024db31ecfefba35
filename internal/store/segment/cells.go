// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// Cell is the value of one column in one row, for who counts and needs no event.
type Cell struct {
	Known  bool // false for NULL
	Number int64
	Text   string
}

// Cells gives take the values of columns in the rows of a scan, some hundred rows at a time: cells[column][row]. A column
// that the family lacks is NULL. The cells are valid until take returns, their texts for ever. Errors: take's, and what is
// wrong with the file.
func (s *Segment) Cells(scan Scan, columns []string, take func(cells [][]Cell) error) (err error) {
	defer guard(&err)
	if scan.Cache == nil {
		scan.Cache = NewCache()
	}
	cells := make([][]Cell, len(columns))
	for i := range cells {
		cells[i] = make([]Cell, batchRows)
	}
	for i := range s.groups {
		if err := s.groupCells(&s.groups[i], &scan, columns, cells, take); err != nil {
			return err
		}
	}
	return nil
}

func (s *Segment) groupCells(g *group, scan *Scan, columns []string, cells [][]Cell, take func([][]Cell) error) error {
	rows, err := s.choose(g, scan)
	if err != nil || len(rows) == 0 {
		return err
	}
	readers := make([]*columnReader, len(columns))
	defer func() {
		for _, r := range readers {
			r.close()
		}
	}()
	for i, name := range columns {
		if c := s.family.Column(name); c != nil {
			readers[i] = newColumnReader(c, g, s.leaf(name), scan.Cache)
		}
	}
	part := make([][]Cell, len(columns))
	for len(rows) > 0 {
		n := min(len(rows), batchRows)
		for i, r := range readers {
			part[i] = cells[i][:n]
			clear(part[i])
			if err := r.each(rows[:n], func(j int, v *value) { part[i][j] = Cell{true, v.number, v.text} }); err != nil {
				return err
			}
		}
		if err := take(part); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// CellsOf is Cells of events that are in no segment yet.
func (f *Family) CellsOf(o Options, events []*model.Event, columns []string) [][]Cell {
	t := newTexts(o.Boot)
	cells := make([][]Cell, len(columns))
	for i := range cells {
		cells[i] = make([]Cell, len(events))
	}
	for j, e := range events {
		r := t.row(e, o.Run, f)
		for i, name := range columns {
			c := f.Column(name)
			if c == nil {
				continue
			}
			if v := c.write(&r); !v.IsNull() {
				cells[i][j] = c.cell(v)
			}
		}
	}
	return cells
}

func (c *Column) cell(v parquet.Value) Cell {
	switch c.physical() {
	case parquet.ByteArray:
		return Cell{Known: true, Text: string(v.ByteArray())}
	case parquet.Int32:
		return Cell{Known: true, Number: c.widen(v.Int32())}
	case parquet.Boolean:
		if v.Boolean() {
			return Cell{Known: true, Number: 1}
		}
		return Cell{Known: true}
	}
	return Cell{Known: true, Number: v.Int64()}
}
