// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// field reads one field of a message from the model's type that stands for it. Exactly one getter is
// set, but for has and empty. A getter takes a typed pointer, also a nil one: a part that is not set reads as empty.
type field struct {
	text   func(any) string
	number func(any) uint64
	signed func(any) int64
	flag   func(any) bool
	texts  func(any) []string
	part   func(any) any // a message: a typed pointer, nil when it is not set
	other  func(any) any // what only CEL itself handles: times, maps, lists of messages
	// has reports whether the field is set, where that is not "differs from empty".
	has func(any) bool
	// empty is text == "" without making the text.
	empty func(any) bool
	// message is the type of part, of other's elements: "File".
	message string
}

// get is the value in the form that CEL's adapter takes.
func (f *field) get(o any) any {
	switch {
	case f.text != nil:
		return f.text(o)
	case f.number != nil:
		return f.number(o)
	case f.signed != nil:
		return f.signed(o)
	case f.flag != nil:
		return f.flag(o)
	case f.texts != nil:
		return f.texts(o)
	case f.part != nil:
		return f.part(o)
	}
	return f.other(o)
}

// isSet is has(x.field).
func (f *field) isSet(o any) bool {
	switch {
	case f.has != nil:
		return f.has(o)
	case f.empty != nil:
		return !f.empty(o)
	case f.text != nil:
		return f.text(o) != ""
	case f.number != nil:
		return f.number(o) != 0
	case f.signed != nil:
		return f.signed(o) != 0
	case f.flag != nil:
		return f.flag(o)
	}
	return len(f.texts(o)) > 0
}

// of is o as a *T, nil when o is something else.
func of[T any](o any) *T {
	p, _ := o.(*T)
	return p
}

func text[T any, S ~string](get func(*T) S) field {
	return field{text: func(o any) string {
		if p := of[T](o); p != nil {
			return string(get(p))
		}
		return ""
	}}
}

func number[T any, N ~uint8 | ~uint16 | ~uint32 | ~uint64](get func(*T) N) field {
	return field{number: func(o any) uint64 {
		if p := of[T](o); p != nil {
			return uint64(get(p))
		}
		return 0
	}}
}

func signed[T any, N ~int32 | ~int64](get func(*T) N) field {
	return field{signed: func(o any) int64 {
		if p := of[T](o); p != nil {
			return int64(get(p))
		}
		return 0
	}}
}

func flag[T any](get func(*T) bool) field {
	return field{flag: func(o any) bool {
		p := of[T](o)
		return p != nil && get(p)
	}}
}

func texts[T any](get func(*T) []string) field {
	return field{texts: func(o any) []string {
		if p := of[T](o); p != nil {
			return get(p)
		}
		return nil
	}}
}

// part is a message that is a pointer in the model.
func part[T, P any](message string, get func(*T) *P) field {
	at := func(o any) *P {
		if p := of[T](o); p != nil {
			return get(p)
		}
		return nil
	}
	return field{message: message, part: func(o any) any { return at(o) }, has: func(o any) bool { return at(o) != nil }}
}

// inside is a message that is a field in the model: set when it differs from the zero one, or always.
func inside[T any, P comparable](message string, always bool, get func(*T) *P) field {
	f := part(message, get)
	if !always {
		f.has = func(o any) bool {
			p := of[T](o)
			return p != nil && *get(p) != *new(P)
		}
	}
	return f
}

// other is a value for CEL; has must be given, its zero value is empty's.
func other[T any](message string, empty any, get func(*T) any, has func(*T) bool) field {
	return field{message: message, other: func(o any) any {
		if p := of[T](o); p != nil {
			return get(p)
		}
		return empty
	}, has: func(o any) bool {
		p := of[T](o)
		return p != nil && has(p)
	}}
}

func moment[T any](get func(*T) time.Time) field {
	// The empty time of protobuf is the epoch.
	return other("", time.Unix(0, 0).UTC(), func(p *T) any {
		if t := get(p); !t.IsZero() {
			return t
		}
		return time.Unix(0, 0).UTC()
	}, func(p *T) bool { return !get(p).IsZero() })
}

func errno[T any](get func(*T) model.Errno) field {
	f := text(func(p *T) string { return get(p).String() })
	f.empty = func(o any) bool {
		p := of[T](o)
		return p == nil || get(p) == 0
	}
	return f
}

func address[T any](get func(*T) netip.AddrPort) field {
	f := text(func(p *T) string {
		if a := get(p).Addr(); a.IsValid() {
			return a.String()
		}
		return ""
	})
	f.empty = func(o any) bool {
		p := of[T](o)
		return p == nil || !get(p).Addr().IsValid()
	}
	return f
}

func port[T any](get func(*T) netip.AddrPort) field {
	return number(func(p *T) uint16 { return get(p).Port() })
}

func device[T any](get func(*T) uint32) field {
	return text(func(p *T) string {
		if d := get(p); d != 0 {
			return string(model.AppendDevice(nil, d))
		}
		return ""
	})
}

// uid is a number that (uid_t)-1 unsets.
func uid[T any](get func(*T) uint32) field {
	f := number(func(p *T) uint32 {
		if n := get(p); n != model.NoUID {
			return n
		}
		return 0
	})
	f.has = func(o any) bool {
		p := of[T](o)
		return p != nil && get(p) != model.NoUID
	}
	return f
}

func capSet[T any](get func(*T) model.CapSet) field {
	f := text(func(p *T) string {
		if s := get(p); s != 0 {
			return string(model.AppendCapSet(nil, s))
		}
		return ""
	})
	f.empty = func(o any) bool {
		p := of[T](o)
		return p == nil || get(p) == 0
	}
	return f
}

func mode(m uint32) string {
	if m == 0 {
		return ""
	}
	return string(model.AppendMode(nil, m))
}
