// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// Version is the version of the schemas here. A higher one may have columns that are not known here, and never gives one
// that is known another meaning; older segments lack columns, which read as NULL.
const Version = 1

// Keys of a segment's metadata.
const (
	metaVersion = "vigie.version" // of the schema
	metaFamily  = "vigie.family"
	metaFirst   = "vigie.first" // position of the first row
	metaLast    = "vigie.last"  // and of the last
	metaSince   = "vigie.since" // time of the earliest row, ns since 1970
	metaUntil   = "vigie.until" // and of the latest
)

const (
	// groupRows bounds a row group: what a writer holds in memory, and what a reader that needs one row of it reads.
	groupRows = 32 << 10
	// pageBytes is how large a page grows before it is packed, uncompressed: some thousand rows.
	pageBytes = 64 << 10
	// dictionaryBytes is where a column stops to gain by a dictionary.
	dictionaryBytes = 2 << 20
	// chunkRows is how many values are handed to a column at once.
	chunkRows = 512
)

// Position is the place of an event in history: the run of the agent that saw it, and its number there. Runs are named
// by the time of their start, ns since 1970, so that positions are in the order of time.
type Position struct {
	Run int64
	Seq uint64
}

// Compare is -1, 0 or 1 as p is before, at or after q.
func (p Position) Compare(q Position) int {
	switch {
	case p.Run < q.Run || p.Run == q.Run && p.Seq < q.Seq:
		return -1
	case p == q:
		return 0
	}
	return 1
}

// IsZero reports whether p is no position.
func (p Position) IsZero() bool { return p == Position{} }

// Next is the position after p.
func (p Position) Next() Position { return Position{p.Run, p.Seq + 1} }

// String is "run-seq", hexadecimal with leading zeros: texts are in the order of positions.
func (p Position) String() string { return fmt.Sprintf("%016x-%010x", uint64(p.Run), p.Seq) }

// ParsePosition is the inverse of String.
func ParsePosition(s string) (Position, error) {
	var p Position
	if len(s) < 18 || s[16] != '-' {
		return p, fmt.Errorf("%q is no position", s)
	}
	run, err1 := strconv.ParseUint(s[:16], 16, 64)
	seq, err2 := strconv.ParseUint(s[17:], 16, 64)
	if err1 != nil || err2 != nil {
		return p, fmt.Errorf("%q is no position", s)
	}
	return Position{int64(run), seq}, nil
}

// Info is what is known of a segment without its columns.
type Info struct {
	Family       string
	Version      int
	Rows         int64
	First, Last  Position
	Since, Until time.Time // of the earliest and of the latest row
}

// Options are what a writer needs to know.
type Options struct {
	// Boot is the beginning of the boot id, as exec_ids carry it.
	Boot string
	// Run is the start of the agent's run, ns since 1970.
	Run int64
	// Agent is its version, noted in the file.
	Agent string
	// Packer is used by one writer at a time; nil for one of its own.
	Packer *Packer
}

// Write writes events of one family, in the order of their numbers, as a segment. Errors: those of w.
func Write(w io.Writer, f *Family, o Options, events []*model.Event) (Info, error) {
	b := newBuilder(w, f, o)
	t := newTexts(o.Boot)
	rows := make([]row, 0, chunkRows)
	for start := 0; start < len(events); start += chunkRows {
		rows = rows[:0]
		for _, e := range events[start:min(start+chunkRows, len(events))] {
			rows = append(rows, t.row(e, o.Run, f))
			b.note(Position{o.Run, e.Seq}, nanos(e.Time))
		}
		if err := b.writeRows(rows); err != nil {
			return Info{}, err
		}
	}
	return b.close()
}

// builder writes one segment.
type builder struct {
	family *Family
	w      *parquet.GenericWriter[any]
	cols   []*parquet.ColumnWriter
	values []parquet.Value
	inRows int // in the row group that is open
	info   Info
	since  int64
	until  int64
}

func newBuilder(w io.Writer, f *Family, o Options) *builder {
	if o.Packer == nil {
		o.Packer = new(Packer)
	}
	options := []parquet.WriterOption{f.schema, parquet.Compression(o.Packer), parquet.PageBufferSize(pageBytes),
		parquet.DictionaryMaxBytes(dictionaryBytes), parquet.CreatedBy("vigie", o.Agent, ""), parquet.DataPageStatistics(false)}
	for i := range f.Columns {
		if !f.Columns[i].bounded() {
			options = append(options, parquet.SkipPageBounds(f.Columns[i].Name))
		}
	}
	b := &builder{family: f, w: parquet.NewGenericWriter[any](w, options...), values: make([]parquet.Value, chunkRows),
		info: Info{Family: f.Name, Version: Version}}
	b.cols = b.w.ColumnWriters()
	return b
}

// bounded columns have their least and greatest value noted in each row group, so that engines pass over groups.
func (c *Column) bounded() bool {
	return c.kind == kindTime || c.Name == ColumnSeq
}

// note takes the place and time of the next row in.
func (b *builder) note(at Position, when int64) {
	if b.info.Rows == 0 {
		b.info.First, b.since, b.until = at, when, when
	}
	b.info.Last, b.since, b.until = at, min(b.since, when), max(b.until, when)
	b.info.Rows++
}

// writeRows writes at most chunkRows rows, column by column.
func (b *builder) writeRows(rows []row) error {
	values := b.values[:len(rows)]
	for i := range b.family.Columns {
		write := b.family.Columns[i].write
		for j := range rows {
			v := write(&rows[j])
			if !v.IsNull() {
				v.SetDefinitionLevel(1)
			}
			values[j] = v
		}
		if _, err := b.cols[i].WriteRowValues(values); err != nil {
			return fmt.Errorf("write column %s: %w", b.family.Columns[i].Name, err)
		}
	}
	return b.endGroup(len(rows))
}

// endGroup counts rows, and ends the row group when it is full.
func (b *builder) endGroup(rows int) error {
	if b.inRows += rows; b.inRows < groupRows {
		return nil
	}
	b.inRows = 0
	if err := b.w.Flush(); err != nil {
		return fmt.Errorf("write a row group: %w", err)
	}
	return nil
}

func (b *builder) close() (Info, error) {
	b.info.Since, b.info.Until = time.Unix(0, b.since).UTC(), time.Unix(0, b.until).UTC()
	for key, value := range map[string]string{metaVersion: strconv.Itoa(b.info.Version), metaFamily: b.family.Name,
		metaFirst: b.info.First.String(), metaLast: b.info.Last.String(),
		metaSince: strconv.FormatInt(b.since, 10), metaUntil: strconv.FormatInt(b.until, 10)} {
		b.w.SetKeyValueMetadata(key, value)
	}
	if err := b.w.Close(); err != nil {
		return Info{}, fmt.Errorf("end the segment: %w", err)
	}
	return b.info, nil
}
