// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// The functions here append `"name":value,`; jsonClose turns the last comma into the closing brace.

func jsonName(dst []byte, name string) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func jsonClose(dst []byte) []byte {
	if dst[len(dst)-1] == ',' {
		dst[len(dst)-1] = '}'
		return dst
	}
	return append(dst, '}')
}

func jsonText(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return jsonTextAlways(dst, name, s)
}

func jsonTextAlways(dst []byte, name, s string) []byte {
	return append(appendText(jsonName(dst, name), s), ',')
}

func jsonTexts(dst []byte, name string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	return jsonTextsAlways(dst, name, list)
}

func jsonTextsAlways(dst []byte, name string, list []string) []byte {
	dst = append(jsonName(dst, name), '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, s)
	}
	return append(dst, ']', ',')
}

func jsonUint(dst []byte, name string, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return jsonUintAlways(dst, name, n)
}

func jsonUintAlways(dst []byte, name string, n uint64) []byte {
	return append(strconv.AppendUint(jsonName(dst, name), n, 10), ',')
}

func jsonIntAlways(dst []byte, name string, n int64) []byte {
	return append(strconv.AppendInt(jsonName(dst, name), n, 10), ',')
}

func jsonDuration(dst []byte, name string, d time.Duration) []byte {
	if d == 0 {
		return dst
	}
	return jsonIntAlways(dst, name, int64(d))
}

func jsonBool(dst []byte, name string, b bool) []byte {
	if !b {
		return dst
	}
	return jsonBoolAlways(dst, name, b)
}

func jsonBoolAlways(dst []byte, name string, b bool) []byte {
	return append(strconv.AppendBool(jsonName(dst, name), b), ',')
}

// jsonTime appends RFC 3339 in UTC with nine digits of a second, or nothing for the zero time.
func jsonTime(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(jsonName(dst, name), '"')
	dst = append(appendDigits(dst, year, 4), '-')
	dst = append(appendDigits(dst, int(month), 2), '-')
	dst = append(appendDigits(dst, day, 2), 'T')
	dst = append(appendDigits(dst, hour, 2), ':')
	dst = append(appendDigits(dst, minute, 2), ':')
	dst = append(appendDigits(dst, second, 2), '.')
	return append(appendDigits(dst, t.Nanosecond(), 9), 'Z', '"', ',')
}

// appendDigits appends the last width decimal digits of n.
func appendDigits(dst []byte, n, width int) []byte {
	start := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := start + width - 1; i >= start && n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

func jsonErrno(dst []byte, e Errno) []byte {
	if e == 0 {
		return dst
	}
	return jsonText(dst, "error", e.String())
}

func jsonDevice(dst []byte, name string, dev uint32) []byte {
	if dev == 0 {
		return dst
	}
	return append(AppendDevice(append(jsonName(dst, name), '"'), dev), '"', ',')
}

func jsonMode(dst []byte, name string, mode uint32) []byte {
	return append(AppendMode(append(jsonName(dst, name), '"'), mode), '"', ',')
}

func jsonCapSet(dst []byte, name string, s CapSet) []byte {
	if s == 0 {
		return dst
	}
	return append(AppendCapSet(append(jsonName(dst, name), '"'), s), '"', ',')
}

func jsonCapNames(dst []byte, name string, s CapSet) []byte {
	if s == 0 {
		return dst
	}
	dst = append(jsonName(dst, name), '[')
	for c := Cap(0); c < 64; c++ {
		if s&(1<<c) != 0 {
			dst = append(c.append(append(dst, '"')), '"', ',')
		}
	}
	dst[len(dst)-1] = ']'
	return append(dst, ',')
}

// append appends Cap.String without making the string.
func (c Cap) append(dst []byte) []byte {
	if int(c) < len(capNames) {
		return append(dst, capNames[c]...)
	}
	return strconv.AppendUint(append(dst, "CAP_"...), uint64(c), 10)
}

// jsonLabels appends labels ordered by name, so that equal labels are equal text.
func jsonLabels(dst []byte, name string, labels map[string]string) []byte {
	if len(labels) == 0 {
		return dst
	}
	var few [32]string // the names of most label sets, without allocating
	keys := few[:0]
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	dst = append(jsonName(dst, name), '{')
	for _, k := range keys {
		dst = append(appendText(dst, k), ':')
		dst = append(appendText(dst, labels[k]), ',')
	}
	return append(jsonClose(dst), ',')
}

// AppendJSONText appends s as a JSON string under the rules of Event.AppendJSON, for other JSON than the events'.
func AppendJSONText(dst []byte, s string) []byte { return appendText(dst, s) }

// appendText appends s as a JSON string. Whatever could end a line, close the string, steer a terminal
// or turn the direction of text is written as \u escapes: C0 and C1 controls, DEL, the line and
// paragraph separators, the bidirectional controls. A byte that is no UTF-8 becomes the text \xHH, as
// CleanString makes it.
func appendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\t':
				dst = append(dst, '\\', 't')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', '\\', 'x', hex[c>>4], hex[c&15])
			start = i + n
		case Unsafe(r):
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			start = i + n
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// Unsafe reports whether r must not reach a terminal or a line of a log as it is: a control character
// (C0, DEL, C1), a line or paragraph separator, or one that changes the direction of the text around it.
func Unsafe(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r <= 0x9f:
		return true
	case r < 0x061c:
		return false
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}
