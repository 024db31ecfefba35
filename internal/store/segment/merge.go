// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// Merge writes the rows of sources, which are of one family and follow each other, as one segment. It copies values
// column by column: events are not rebuilt, and of each column no more than a row group is in memory. Of o, Boot and Run do
// not apply.
func Merge(w io.Writer, o Options, sources []*Segment) (info Info, err error) {
	defer guard(&err)
	if len(sources) == 0 {
		return Info{}, errors.New("nothing to merge")
	}
	b := newBuilder(w, sources[0].family, o)
	for _, s := range sources {
		if s.Family != b.family.Name {
			return Info{}, fmt.Errorf("family %s is merged with %s", s.Family, b.family.Name)
		}
	}
	for _, slices := range outputGroups(sources) {
		for i := range b.family.Columns {
			for _, s := range slices {
				if err := b.copyColumn(i, s); err != nil {
					return Info{}, fmt.Errorf("column %s: %w", b.family.Columns[i].Name, err)
				}
			}
		}
		for _, s := range slices {
			if err := b.endGroup(int(s.to - s.from)); err != nil {
				return Info{}, err
			}
		}
	}
	first, last := sources[0].Info, sources[len(sources)-1].Info
	b.info.First, b.info.Last, b.since, b.until = first.First, last.Last, first.Since.UnixNano(), first.Until.UnixNano()
	for _, s := range sources {
		b.info.Rows += s.Rows
		b.since, b.until = min(b.since, s.Since.UnixNano()), max(b.until, s.Until.UnixNano())
	}
	return b.close()
}

// slice is a range of rows of a row group.
type slice struct {
	s        *Segment
	group    *group
	from, to int64
}

// outputGroups cuts the rows of sources into row groups.
func outputGroups(sources []*Segment) [][]slice {
	var groups [][]slice
	var open []slice
	room := int64(groupRows)
	for _, s := range sources {
		for i := range s.groups {
			g := &s.groups[i]
			for from := int64(0); from < g.rows; {
				n := min(room, g.rows-from)
				open = append(open, slice{s, g, from, from + n})
				from += n
				if room -= n; room == 0 {
					groups, open, room = append(groups, open), nil, groupRows
				}
			}
		}
	}
	if len(open) > 0 {
		groups = append(groups, open)
	}
	return groups
}

// copyColumn copies a slice of column i.
func (b *builder) copyColumn(i int, s slice) error {
	leaf, left := s.s.leaves[i], s.to-s.from
	if leaf < 0 {
		clear(b.values)
		for left > 0 {
			n := min(left, int64(len(b.values)))
			if _, err := b.cols[i].WriteRowValues(b.values[:n]); err != nil {
				return err
			}
			left -= n
		}
		return nil
	}
	r := parquet.NewColumnChunkValueReader(s.group.columns[leaf])
	defer r.Close()
	if s.from > 0 {
		if err := r.SeekToRow(s.from); err != nil {
			return err
		}
	}
	for left > 0 {
		n, err := r.ReadValues(b.values[:min(left, int64(len(b.values)))])
		if n == 0 && err != nil {
			return err
		}
		for j := range n {
			if !b.values[j].IsNull() {
				b.values[j].SetDefinitionLevel(1)
			}
		}
		if _, err := b.cols[i].WriteRowValues(b.values[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
