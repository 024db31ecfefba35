// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"net/netip"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// Column is one column of a family: what it holds, how an event's value gets in and out again.
type Column struct {
	Name string
	Doc  string
	kind kind
	// packed columns hold numbers that grow or are all different; the others hold few different values, in a dictionary.
	packed bool
	// derived columns repeat what others hold in a form that is easier to ask for. An event is rebuilt without them.
	derived bool
	// write is the value of a row; the zero Value for NULL.
	write func(*row) parquet.Value
	// read puts a value that is not NULL into the event.
	read func(*model.Event, *value)
	// decode makes the object of a text, of columns of kind object: once for each different text.
	decode func(string) (any, error)
}

// kind is the Parquet type of a column.
type kind int

const (
	kindText   kind = iota
	kindObject      // JSON
	kindInt32
	kindInt64
	kindUint32
	kindUint64
	kindBool
	kindTime // nanoseconds since 1970, UTC
)

// String is the type as docs/history.md names it: that of SQL.
func (k kind) String() string {
	return [...]string{"VARCHAR", "JSON", "INTEGER", "BIGINT", "UINTEGER", "UBIGINT", "BOOLEAN", "TIMESTAMP_NS"}[k]
}

// Type is the column's SQL type.
func (c *Column) Type() string { return c.kind.String() }

// row is an event that is written, with the texts that it shares with others.
type row struct {
	*model.Event
	run     int64
	execID  string
	texts   *texts
	process *processTexts // nil without a process
	parent  string        // arguments of the parent
	detail  string
}

// value is what a column gives for one row: number, text or object by the column's kind.
type value struct {
	number int64
	text   string
	object any
}

// part finds a part of an event. With make it is made where it is not there; without, nil says so.
type part[P any] func(e *model.Event, make bool) *P

func text[P any, S ~string](name string, in part[P], at func(*P) *S, doc string) Column {
	return Column{Name: name, Doc: doc, kind: kindText,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil {
				return textValue(string(*at(p)))
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) { *at(in(e, true)) = S(v.text) }}
}

// number is a column of whole numbers: NULL where the part is not there.
func number[P any, N int32 | uint8 | uint16 | uint32 | uint64](name string, in part[P], at func(*P) *N, doc string) Column {
	c := Column{Name: name, Doc: doc, kind: kindUint32, read: func(e *model.Event, v *value) { *at(in(e, true)) = N(v.number) }}
	var zero N
	switch any(zero).(type) {
	case int32:
		c.kind = kindInt32
	case uint64:
		c.kind, c.packed = kindUint64, true
	}
	wide := c.kind == kindUint64
	c.write = func(r *row) parquet.Value {
		p := in(r.Event, false)
		switch {
		case p == nil:
			return parquet.Value{}
		case wide:
			return parquet.Int64Value(int64(*at(p)))
		}
		return parquet.Int32Value(int32(*at(p)))
	}
	return c
}

// duration is a column of nanoseconds: NULL where there is none.
func duration[P any](name string, in part[P], at func(*P) *time.Duration, doc string) Column {
	return Column{Name: name, Doc: doc, kind: kindInt64, packed: true,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil && *at(p) != 0 {
				return parquet.Int64Value(int64(*at(p)))
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) { *at(in(e, true)) = time.Duration(v.number) }}
}

func boolean[P any](name string, in part[P], at func(*P) *bool, doc string) Column {
	return Column{Name: name, Doc: doc, kind: kindBool,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil {
				return parquet.BooleanValue(*at(p))
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) { *at(in(e, true)) = v.number != 0 }}
}

// moment is a column of times: NULL for the zero time.
func moment[P any](name string, in part[P], at func(*P) *time.Time, doc string) Column {
	return Column{Name: name, Doc: doc, kind: kindTime,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil && !at(p).IsZero() {
				return parquet.Int64Value(at(p).UnixNano())
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) { *at(in(e, true)) = time.Unix(0, v.number).UTC() }}
}

func errno[P any](name string, in part[P], at func(*P) *model.Errno, doc string) Column {
	return Column{Name: name, Doc: doc, kind: kindText,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil {
				return textValue(at(p).String())
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) { *at(in(e, true)) = model.ParseErrno(v.text) }}
}

// endpoint is the two columns of an address and a port: NULL where there is none.
func endpoint[P any](name string, in part[P], at func(*P) *netip.AddrPort, what string) []Column {
	address := Column{Name: name + "_address", Doc: "Address of " + what, kind: kindText,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil && at(p).Addr().IsValid() {
				return textValue(at(p).Addr().String())
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) {
			a := at(in(e, true))
			addr, _ := netip.ParseAddr(v.text) // what is no address is none
			*a = netip.AddrPortFrom(addr, a.Port())
		}}
	port := Column{Name: name + "_port", Doc: "Port of " + what, kind: kindUint32,
		write: func(r *row) parquet.Value {
			if p := in(r.Event, false); p != nil && at(p).Port() != 0 {
				return parquet.Int32Value(int32(at(p).Port()))
			}
			return parquet.Value{}
		},
		read: func(e *model.Event, v *value) {
			a := at(in(e, true))
			*a = netip.AddrPortFrom(a.Addr(), uint16(v.number))
		}}
	return []Column{address, port}
}

// object is a column of JSON. assign gets what decode made of the text: it is shared and must not be changed.
func object(name string, write func(*row) string, decode func(string) (any, error), assign func(*model.Event, any), doc string) Column {
	return Column{Name: name, Doc: doc, kind: kindObject, decode: decode,
		write: func(r *row) parquet.Value { return textValue(write(r)) },
		read:  func(e *model.Event, v *value) { assign(e, v.object) }}
}

// derived marks a column as one that only repeats.
func derived(c Column) Column {
	c.derived = true
	return c
}

// packed marks a column as one of numbers that are mostly different.
func packed(c Column) Column {
	c.packed = true
	return c
}

// textValue is the value of a text without a copy of it: the writer copies it before it returns. NULL when empty.
func textValue(s string) parquet.Value {
	if s == "" {
		return parquet.Value{}
	}
	return parquet.ByteArrayValue(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// node is the column in a schema.
func (c *Column) node() parquet.Node {
	var n parquet.Node
	switch c.kind {
	case kindText:
		n = parquet.String()
	case kindObject:
		n = parquet.JSON()
	case kindInt32:
		n = parquet.Int(32)
	case kindInt64:
		n = parquet.Int(64)
	case kindUint32:
		n = parquet.Uint(32)
	case kindUint64:
		n = parquet.Uint(64)
	case kindTime:
		// Not as an instant (adjusted to UTC): DuckDB has these in microseconds.
		n = parquet.TimestampAdjusted(parquet.Nanosecond, false)
	case kindBool:
		return parquet.Optional(parquet.Leaf(parquet.BooleanType))
	}
	if c.packed {
		return parquet.Optional(parquet.Encoded(n, &parquet.DeltaBinaryPacked))
	}
	return parquet.Optional(parquet.Encoded(n, &parquet.RLEDictionary))
}
