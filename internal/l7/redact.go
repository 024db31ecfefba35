// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// Bounds of what is kept of a path.
const (
	maxPath     = 256
	maxSegments = 16
	maxSegment  = 64
)

// id stands for what tells one thing from another of its kind.
const id = "{id}"

// PathTemplate makes a path of a URL one of many: its query and fragment are gone, and numbers, UUIDs, hashes, tokens and mail
// addresses in it are {id}. raw may be anything.
func PathTemplate(raw []byte) string {
	var out strings.Builder
	for n := 0; len(raw) > 0; n++ {
		if i := strings.IndexByte("?#", raw[0]); i >= 0 {
			break
		}
		if raw[0] == '/' {
			out.WriteByte('/')
			raw = raw[1:]
		}
		end := 0
		for end < len(raw) && raw[end] != '/' && raw[end] != '?' && raw[end] != '#' {
			end++
		}
		if n == maxSegments || out.Len() > maxPath-maxSegment {
			out.WriteString("…")
			break
		}
		segment(&out, raw[:end])
		raw = raw[end:]
	}
	if out.Len() == 0 {
		return "/"
	}
	return model.CleanString([]byte(out.String()))
}

// segment writes what lies between two slashes, part by part: "report-2024-10.pdf" is "report-{id}.pdf".
func segment(out *strings.Builder, b []byte) {
	for i, c := range b {
		if c == ';' || c == '=' { // a parameter of the segment
			b = b[:i]
			break
		}
	}
	if identifies(b) {
		out.WriteString(id)
		return
	}
	wrote := false // {id} was the last thing
	var separator byte
	for len(b) > 0 {
		end := 0
		for end < len(b) && !separates(b[end]) {
			end++
		}
		one := telling(b[:end])
		if !one || !wrote {
			if separator != 0 {
				out.WriteByte(separator)
			}
			if one {
				out.WriteString(id)
			} else {
				out.Write(b[:end])
			}
		}
		wrote = one
		if end == len(b) {
			return
		}
		separator, b = b[end], b[end+1:]
		if len(b) == 0 {
			out.WriteByte(separator)
		}
	}
}

func separates(c byte) bool {
	return c == '-' || c == '.' || c == '_' || c == '~' || c == ':' || c == ','
}

// identifies judges a whole segment: too long for a name, an address, or not plain.
func identifies(b []byte) bool {
	if len(b) > maxSegment {
		return true
	}
	for _, c := range b {
		if c == '@' || c == '%' || c == '+' || c == '!' || c == '\'' || c == '(' || c == '*' || c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// telling judges a part of a segment: a number, a hash, a token.
func telling(b []byte) bool {
	var digits, hex, upper, lower int
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'z':
			lower++
			if c <= 'f' {
				hex++
			}
		case c >= 'A' && c <= 'Z':
			upper++
			if c <= 'F' {
				hex++
			}
		}
	}
	switch n := len(b); {
	case n == 0:
		return false
	case digits == n: // a number
		return true
	case hex == n && n >= 8 && digits > 0, hex == n && n >= 16: // a hash, or a piece of a UUID
		return true
	case hex == n && n == 4 && digits > 0: // the middle pieces of a UUID
		return true
	case digits >= 4: // user12345, a date, a Kubernetes suffix
		return true
	case n >= 16 && digits > 0 && upper+lower > 0: // a token
		return true
	case n >= 20 && upper > 3 && lower > 3: // one without digits
		return true
	}
	return false
}

// Host is the authority of a URL without who logs in there.
func Host(raw []byte) string {
	for i := len(raw) - 1; i >= 0; i-- {
		if raw[i] == '@' {
			raw = raw[i+1:]
			break
		}
	}
	return model.CleanString(raw[:min(len(raw), 255)])
}
