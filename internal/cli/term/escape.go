// SPDX-License-Identifier: Apache-2.0

package term

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many combining marks one letter keeps: real scripts need up to three or four, more
// would draw over the neighbouring lines.
const maxMarks = 4

// Escape makes one line of harmless, visible text of s: control characters, line and paragraph
// separators, bidirectional and other format characters, characters without a width that terminals
// agree on, and bytes that are not UTF-8 become \n, \t, \r, \xHH, \uHHHH or \UHHHHHHHH. A backslash
// stays as it is, so that the text can be read; where the exact bytes matter, use the JSON output.
func Escape(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	marks, base := 0, false // of the letter that is being written
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			writeHex(&b, 'x', rune(s[i]), 2)
			marks, base = 0, true
		case unicode.Is(unicode.M, r) && base && marks < maxMarks && !unstable(r):
			b.WriteRune(r)
			marks++
		case unicode.Is(unicode.M, r): // a tower of marks stays cut
			writeEscape(&b, r)
		case unicode.IsPrint(r) && !unstable(r):
			b.WriteRune(r)
			marks, base = 0, r != ' '
		default:
			writeEscape(&b, r)
			marks, base = 0, true
		}
		i += n
	}
	return b.String()
}

// plain reports whether s is printable ASCII throughout, which nearly all of it is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// unstable reports whether r is printable by Unicode's tables, but is drawn as nothing or with a width
// that depends on its neighbours and on the terminal.
func unstable(r rune) bool {
	switch {
	case unicode.Is(unicode.Variation_Selector, r),
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), // Hangul fillers and their like
		unicode.Is(unicode.Regional_Indicator, r),                 // flags: one cell, two or four
		r >= 0x1F3FB && r <= 0x1F3FF,                              // skin tones
		r >= 0x1160 && r <= 0x11FF, r >= 0xD7B0 && r <= 0xD7FF,    // conjoining Jamo
		r == 0x2800: // empty Braille cell
		return true
	}
	return false
}

func writeEscape(b *strings.Builder, r rune) {
	switch {
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\t':
		b.WriteString(`\t`)
	case r == '\r':
		b.WriteString(`\r`)
	case r < 0x80:
		writeHex(b, 'x', r, 2)
	case r < 0x10000:
		writeHex(b, 'u', r, 4)
	default:
		writeHex(b, 'U', r, 8)
	}
}

func writeHex(b *strings.Builder, kind byte, r rune, digits int) {
	b.Write(appendHex(make([]byte, 0, 10), kind, r, digits))
}

// Args joins an argument vector into one line of shell words, escaped: an argument that a shell would
// not read as one plain word stands in single quotes.
func Args(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if a != "" && strings.IndexFunc(a, needsQuotes) < 0 {
			b.WriteString(Escape(a))
			continue
		}
		b.WriteByte('\'')
		b.WriteString(strings.ReplaceAll(Escape(a), "'", `'\''`))
		b.WriteByte('\'')
	}
	return b.String()
}

func needsQuotes(r rune) bool {
	return r <= ' ' || strings.ContainsRune("'\"`$&|;<>()*?[]{}~#!\\", r)
}

// JSON makes a JSON text safe for a terminal without changing its meaning: what Escape would change
// can only stand inside JSON strings, where \uHHHH says the same. The line feed that ends a line stays.
func JSON(line []byte) []byte {
	return escapeQuoted(line, func(dst []byte, r rune) []byte {
		r -= 0x10000
		return appendHex(appendHex(dst, 'u', 0xD800+r>>10, 4), 'u', 0xDC00+r&0x3FF, 4)
	})
}

// YAML does the same for a YAML text whose strings beyond ASCII stand in double quotes.
func YAML(doc []byte) []byte {
	return escapeQuoted(doc, func(dst []byte, r rune) []byte {
		return appendHex(dst, 'U', r, 8)
	})
}

// escapeQuoted puts escapes for what is unsafe; beyond makes those of runes of more than 16 bits.
func escapeQuoted(line []byte, beyond func([]byte, rune) []byte) []byte {
	i := 0
	for i < len(line) && (line[i] >= ' ' && line[i] <= '~' || line[i] == '\n') {
		i++
	}
	if i == len(line) {
		return line
	}
	out := append(make([]byte, 0, len(line)+32), line[:i]...)
	for i < len(line) {
		r, n := utf8.DecodeRune(line[i:])
		switch {
		case r == '\n' || unicode.IsPrint(r) && !unicode.Is(unicode.M, r) && !unstable(r):
			if r == utf8.RuneError && n == 1 {
				out = append(out, `\ufffd`...)
			} else {
				out = append(out, line[i:i+n]...)
			}
		case r >= 0x10000:
			out = beyond(out, r)
		default:
			out = appendHex(out, 'u', r, 4)
		}
		i += n
	}
	return out
}

func appendHex(dst []byte, kind byte, r rune, digits int) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '\\', kind)
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hex[r>>shift&15])
	}
	return dst
}

// EscapeLines is Escape line by line: for messages of our own that quote text from elsewhere.
func EscapeLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Escape(lines[i])
	}
	return strings.Join(lines, "\n")
}
