// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"fmt"
	"unsafe"

	"github.com/parquet-go/parquet-go"
)

// columnReader reads the values of one column of one row group at rows that are asked for. It works on the pages as they
// are stored: of a column with a dictionary each different value is looked at once, however many rows have it.
type columnReader struct {
	column *Column
	chunk  parquet.ColumnChunk
	rows   int64 // of the group
	cache  *Cache

	pages      parquet.Pages
	page       parquet.Page
	start, end int64  // the rows that page holds
	present    []byte // 1 for each row of page that is not NULL; nil when none is
	rank       int    // how many rows before rankRow are not NULL
	rankRow    int

	codes   []int32 // places in the dictionary; nil when the page holds the values themselves
	narrow  []int32
	wide    []int64
	bits    []byte
	bytes   []byte
	offsets []uint32

	dictionary parquet.Dictionary
	known      []value // of the dictionary, as far as it was looked at
	looked     []bool
	plain      value
}

func newColumnReader(c *Column, g *group, leaf int, cache *Cache) *columnReader {
	if leaf < 0 {
		return nil // the file is older than the column
	}
	return &columnReader{column: c, chunk: g.columns[leaf], rows: g.rows, cache: cache}
}

func (r *columnReader) close() {
	if r == nil || r.pages == nil {
		return
	}
	parquet.Release(r.page)
	r.page = nil
	_ = r.pages.Close() // nothing of it is open
	r.pages = nil
}

// each calls take with the values at rows, which ascend, that are not NULL; i counts rows. The value is valid until take
// returns, its text and object for ever.
func (r *columnReader) each(rows []int32, take func(i int, v *value)) error {
	if r == nil {
		return nil
	}
	for i, row := range rows {
		at, ok, err := r.place(int64(row))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		v, err := r.value(at)
		if err != nil {
			return err
		}
		take(i, v)
	}
	return nil
}

// place finds the value of a row among those of the page that holds it, which it loads; not ok for NULL.
func (r *columnReader) place(row int64) (at int, ok bool, err error) {
	if row < r.start || row >= r.end {
		if err := r.load(row); err != nil {
			return 0, false, err
		}
	}
	i := int(row - r.start)
	if r.present == nil {
		return i, true, nil
	}
	if i < r.rankRow {
		r.rank, r.rankRow = 0, 0
	}
	for ; r.rankRow < i; r.rankRow++ {
		r.rank += int(r.present[r.rankRow])
	}
	return r.rank, r.present[i] != 0, nil
}

// load brings the page in that holds a row.
func (r *columnReader) load(row int64) error {
	if row >= r.rows {
		return fmt.Errorf("column %s: row %d of %d", r.column.Name, row, r.rows)
	}
	if r.pages == nil {
		r.pages = r.chunk.Pages()
	}
	if row != r.end {
		_, _ = r.chunk.OffsetIndex() // without it the pages before are read to find this one
		if err := r.pages.SeekToRow(row); err != nil {
			return fmt.Errorf("column %s: %w", r.column.Name, err)
		}
		r.end = row
	}
	parquet.Release(r.page)
	r.page = nil
	page, err := r.pages.ReadPage()
	if err != nil {
		return fmt.Errorf("column %s: %w", r.column.Name, err)
	}
	r.page = page
	r.start, r.end = r.end, r.end+page.NumRows()
	r.present, r.rank, r.rankRow = page.DefinitionLevels(), 0, 0
	if r.end <= r.start {
		return fmt.Errorf("column %s: an empty page", r.column.Name)
	}
	return r.unpack(page)
}

// unpack finds the values in a page.
func (r *columnReader) unpack(page parquet.Page) error {
	data := page.Data()
	r.codes, r.narrow, r.wide, r.bits, r.bytes, r.offsets = nil, nil, nil, nil, nil, nil
	values := int(page.NumValues() - page.NumNulls())
	if d := page.Dictionary(); d != nil {
		r.codes = data.Int32()
		if d != r.dictionary {
			r.dictionary, r.known, r.looked = d, make([]value, d.Len()), make([]bool, d.Len())
		}
		return enough(len(r.codes), values)
	}
	switch r.column.physical() {
	case parquet.Int32:
		r.narrow = data.Int32()
		return enough(len(r.narrow), values)
	case parquet.Int64:
		r.wide = data.Int64()
		return enough(len(r.wide), values)
	case parquet.Boolean:
		r.bits = data.Boolean()
		return enough(8*len(r.bits), values)
	}
	r.bytes, r.offsets = data.ByteArray()
	return enough(len(r.offsets), values+1)
}

func enough(got, want int) error {
	if got < want {
		return fmt.Errorf("damaged: a page of %d values has %d", want, got)
	}
	return nil
}

// value is the one at a place of the page.
func (r *columnReader) value(at int) (*value, error) {
	if r.codes != nil {
		return r.entry(r.codes[at])
	}
	v := &r.plain
	switch {
	case r.narrow != nil:
		v.number = r.column.widen(r.narrow[at])
	case r.wide != nil:
		v.number = r.wide[at]
	case r.bits != nil:
		v.number = int64(r.bits[at>>3] >> (at & 7) & 1)
	case r.offsets != nil:
		from, to := r.offsets[at], r.offsets[at+1]
		if from > to || int(to) > len(r.bytes) {
			return nil, fmt.Errorf("damaged: column %s: text from %d to %d of %d", r.column.Name, from, to, len(r.bytes))
		}
		return v, r.setText(v, r.bytes[from:to])
	}
	return v, nil
}

// entry is the value at a place of the dictionary.
func (r *columnReader) entry(code int32) (*value, error) {
	if uint(code) >= uint(len(r.known)) {
		return nil, fmt.Errorf("damaged: column %s: place %d in a dictionary of %d", r.column.Name, code, len(r.known))
	}
	v := &r.known[code]
	if r.looked[code] {
		return v, nil
	}
	raw := r.dictionary.Index(code)
	switch r.column.physical() {
	case parquet.Int32:
		v.number = r.column.widen(raw.Int32())
	case parquet.Int64:
		v.number = raw.Int64()
	default:
		if err := r.setText(v, raw.ByteArray()); err != nil {
			return nil, err
		}
	}
	r.looked[code] = true
	return v, nil
}

// setText copies a text out of the page, or finds the one that it was copied to before.
func (r *columnReader) setText(v *value, b []byte) (err error) {
	if r.column.kind != kindObject {
		v.text = string(b)
		return nil
	}
	v.text, v.object, err = r.cache.object(r.column, b)
	return err
}

// widen keeps the sign of what has one.
func (c *Column) widen(n int32) int64 {
	if c.kind == kindUint32 {
		return int64(uint32(n))
	}
	return int64(n)
}

// Cache holds what the JSON of a scan stands for: neighbours share most of it, across row groups and segments. One scan at
// a time uses it.
type Cache struct{ objects map[cacheKey]cached }

type cacheKey struct{ column, text string }

type cached struct {
	text   string
	object any
}

// cacheEntries bounds a cache: it is emptied when it is full.
const cacheEntries = 8192

// NewCache makes an empty cache.
func NewCache() *Cache { return &Cache{make(map[cacheKey]cached)} }

func (c *Cache) object(column *Column, b []byte) (string, any, error) {
	// The key is only looked up with, or made anew, so that it may borrow the bytes.
	if got, ok := c.objects[cacheKey{column.Name, unsafe.String(unsafe.SliceData(b), len(b))}]; ok {
		return got.text, got.object, nil
	}
	s := string(b)
	o, err := column.decode(s)
	if err != nil {
		return "", nil, fmt.Errorf("damaged: column %s: %w", column.Name, err)
	}
	if len(c.objects) >= cacheEntries {
		clear(c.objects)
	}
	c.objects[cacheKey{column.Name, s}] = cached{s, o}
	return s, o, nil
}
