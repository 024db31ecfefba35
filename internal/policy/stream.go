// SPDX-License-Identifier: Apache-2.0

package policy

import "strings"

// Part is one document of a YAML stream.
type Part struct {
	Text string
	Line int // of its first line in the stream, from 1
}

// Split cuts a stream at the lines that can be nothing but a document's end: "---" and "..." in the first column (YAML
// 1.2, 9.1.4). What follows on a marker's line belongs to the document that it begins, with spaces in the marker's place.
// Documents of nothing but comments are left out.
func Split(stream string) []Part {
	var parts []Part
	var b strings.Builder
	line, first, filled := 0, 1, false
	flush := func(next int) {
		if filled {
			parts = append(parts, Part{Text: b.String(), Line: first})
		}
		b.Reset()
		first, filled = next, false
	}
	for l := range strings.Lines(strings.TrimPrefix(stream, "\ufeff")) { // the byte order mark that some editors write
		line++
		switch {
		case marks(l, "---") && strings.TrimSpace(l[3:]) != "":
			flush(line)
			l = "   " + l[3:]
		case marks(l, "---"), marks(l, "..."):
			flush(line + 1)
			continue
		}
		b.WriteString(l)
		if t := strings.TrimSpace(l); t != "" && t[0] != '#' {
			filled = true
		}
	}
	flush(line)
	return parts
}

// marks reports whether a line begins with a document marker.
func marks(line, marker string) bool {
	rest, ok := strings.CutPrefix(line, marker)
	return ok && (rest == "" || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}
