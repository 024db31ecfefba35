// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
)

// ErrForeign is wrapped by errors about a Parquet file that is no segment.
var ErrForeign = errors.New("no segment of vigie")

// maxGroupRows bounds what a damaged footer can make a reader set aside.
const maxGroupRows = 1 << 20

// Segment is an open segment. Safe for concurrent use: each scan has a state of its own.
type Segment struct {
	Info
	family *Family
	file   *parquet.File
	leaves []int // column of the file for each of the family's; -1 for those that the file lacks
	groups []group
}

// group is what the footer says of a row group.
type group struct {
	rows         int64
	first, last  Position
	since, until int64 // ns since 1970
	columns      []parquet.ColumnChunk
}

// Open reads the footer of a segment of size bytes. Errors say what is wrong with the file; one that wraps ErrForeign, that
// it is a Parquet file of somebody else.
func Open(r io.ReaderAt, size int64, families []*Family) (s *Segment, err error) {
	defer guard(&err)
	if err := checkFooter(r, size); err != nil {
		return nil, err
	}
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("read the footer: %w", err)
	}
	s = &Segment{file: file}
	if err := s.readInfo(); err != nil {
		return nil, err
	}
	for _, f := range families {
		if f.Name == s.Family {
			s.family = f
		}
	}
	if s.family == nil {
		return nil, fmt.Errorf("%w: family %q is not known to this version", ErrForeign, s.Family)
	}
	if err := s.findColumns(); err != nil {
		return nil, err
	}
	return s, s.readGroups()
}

// checkFooter makes sure that the file ends as a Parquet file does: the library sets as much memory aside as a damaged
// one says that its footer takes.
func checkFooter(r io.ReaderAt, size int64) error {
	const magic = "PAR1"
	var end [4 + len(magic)]byte
	if size < int64(len(magic)+len(end)) {
		return fmt.Errorf("%w: it is too short", ErrForeign)
	}
	if _, err := r.ReadAt(end[:], size-int64(len(end))); err != nil {
		return fmt.Errorf("read the end of the file: %w", err)
	}
	if string(end[4:]) != magic {
		return fmt.Errorf("%w: it does not end as a Parquet file does, it may be cut off", ErrForeign)
	}
	if n := int64(binary.LittleEndian.Uint32(end[:])); n > size-int64(len(magic)+len(end)) {
		return fmt.Errorf("damaged: a footer of %d bytes in a file of %d", n, size)
	}
	return nil
}

// guard turns a panic of the library over a damaged file into an error.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("damaged: %v", r)
	}
}

func (s *Segment) readInfo() error {
	version, ok := s.file.Lookup(metaVersion)
	if !ok {
		return fmt.Errorf("%w: it lacks %s", ErrForeign, metaVersion)
	}
	s.Family, _ = s.file.Lookup(metaFamily)
	first, _ := s.file.Lookup(metaFirst)
	last, _ := s.file.Lookup(metaLast)
	since, _ := s.file.Lookup(metaSince)
	until, _ := s.file.Lookup(metaUntil)
	var errs [5]error
	var from, to int64
	s.Version, errs[0] = strconv.Atoi(version)
	s.First, errs[1] = ParsePosition(first)
	s.Last, errs[2] = ParsePosition(last)
	from, errs[3] = strconv.ParseInt(since, 10, 64)
	to, errs[4] = strconv.ParseInt(until, 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("%w: its metadata is not whole: %w", ErrForeign, err)
	}
	s.Since, s.Until = time.Unix(0, from).UTC(), time.Unix(0, to).UTC()
	s.Rows = s.file.NumRows()
	return nil
}

func (s *Segment) findColumns() error {
	s.leaves = make([]int, len(s.family.Columns))
	for i := range s.family.Columns {
		c := &s.family.Columns[i]
		leaf, ok := s.file.Schema().Lookup(c.Name)
		s.leaves[i] = -1
		if !ok {
			continue
		}
		if leaf.MaxRepetitionLevel != 0 || leaf.MaxDefinitionLevel > 1 || leaf.Node.Type().Kind() != c.physical() {
			return fmt.Errorf("%w: column %s is a %s", ErrForeign, c.Name, leaf.Node)
		}
		s.leaves[i] = leaf.ColumnIndex
	}
	return nil
}

// physical is the type in which the column is stored.
func (c *Column) physical() parquet.Kind {
	switch c.kind {
	case kindText, kindObject:
		return parquet.ByteArray
	case kindInt32, kindUint32:
		return parquet.Int32
	case kindBool:
		return parquet.Boolean
	}
	return parquet.Int64
}

func (s *Segment) readGroups() error {
	for _, g := range s.file.RowGroups() {
		if n := g.NumRows(); n < 0 || n > maxGroupRows {
			return fmt.Errorf("damaged: a row group of %d rows", n)
		}
		at := group{rows: g.NumRows(), columns: g.ColumnChunks(), first: s.First, last: s.Last,
			since: s.Since.UnixNano(), until: s.Until.UnixNano()}
		if lo, hi, ok := s.bounds(&at, ColumnTime); ok {
			at.since, at.until = lo, hi
		}
		// Where all rows are of one run, which is nearly always, their numbers say where they are.
		if lo, hi, ok := s.bounds(&at, ColumnRun); ok && lo == hi {
			if from, to, ok := s.bounds(&at, ColumnSeq); ok {
				at.first, at.last = Position{lo, uint64(from)}, Position{lo, uint64(to)}
			}
		}
		s.groups = append(s.groups, at)
	}
	return nil
}

// bounds are the least and the greatest value of a column in a group.
func (s *Segment) bounds(g *group, name string) (lo, hi int64, ok bool) {
	i := s.leaf(name)
	if i < 0 || i >= len(g.columns) {
		return 0, 0, false
	}
	c, ok := g.columns[i].(*parquet.FileColumnChunk)
	if !ok {
		return 0, 0, false
	}
	a, b, ok := c.Bounds()
	if !ok || a.Kind() != parquet.Int64 || b.Kind() != parquet.Int64 {
		return 0, 0, false
	}
	return a.Int64(), b.Int64(), true
}

// leaf is the file's column of that name; -1 when it has none.
func (s *Segment) leaf(name string) int {
	for i := range s.family.Columns {
		if s.family.Columns[i].Name == name {
			return s.leaves[i]
		}
	}
	return -1
}
