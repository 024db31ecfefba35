// SPDX-License-Identifier: Apache-2.0

package term

import (
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Width is the number of terminal cells that s takes; colours take none.
func Width(s string) int {
	if plain(s) {
		return len(s)
	}
	return ansi.StringWidth(s)
}

// Cut shortens s to at most width cells, with an ellipsis at its end where something is missing.
func Cut(s string, width int) string {
	switch {
	case width <= 0:
		return ""
	case Width(s) <= width:
		return s
	}
	return ansi.Truncate(s, width, "…")
}

// CutMiddle shortens s as Cut does, but takes the missing part from the middle: of a path, both the
// place and the name stay visible. s has no colours.
func CutMiddle(s string, width int) string {
	w := Width(s)
	if w <= width || width < 8 {
		return Cut(s, width)
	}
	head := (width - 1) / 3
	return ansi.Truncate(s, head, "") + "…" + ansi.TruncateLeft(s, w-(width-1-head), "")
}

// Fit makes s exactly width cells wide: cut, or filled with spaces on its right.
func Fit(s string, width int) string {
	s = Cut(s, width)
	return s + strings.Repeat(" ", max(width-Width(s), 0))
}

// FitLeft is Fit with the spaces on the left, for numbers.
func FitLeft(s string, width int) string {
	s = Cut(s, width)
	return strings.Repeat(" ", max(width-Width(s), 0)) + s
}

// Table lays out rows in columns. Cells hold text that is already escaped.
type Table struct {
	Header []string
	Rows   [][]string
	Right  []int // columns that are aligned to the right
	// Width is the terminal's width, into which the last column is cut; 0 cuts nothing.
	Width int
	Style Style
}

// maxColumn bounds all columns but the last, so that one long name does not push out the rest.
const maxColumn = 40

// Write prints the table.
func (t *Table) Write(w io.Writer) error {
	widths := make([]int, len(t.Header))
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for i, c := range row[:min(len(row), len(widths))] {
			widths[i] = max(widths[i], Width(c))
		}
	}
	right := make([]bool, len(widths))
	for _, i := range t.Right {
		right[i] = true
	}
	var b strings.Builder
	line := func(row []string, style func(string) string) {
		var l strings.Builder
		for i, c := range row {
			last := i == len(row)-1
			width := widths[i]
			if !last && t.Width > 0 {
				width = min(width, maxColumn)
			}
			switch {
			case right[i]:
				l.WriteString(FitLeft(c, width))
			case last:
				l.WriteString(c)
			default:
				l.WriteString(Fit(c, width))
			}
			if !last {
				l.WriteString("  ")
			}
		}
		text := strings.TrimRight(l.String(), " ")
		if t.Width > 0 {
			text = Cut(text, t.Width)
		}
		b.WriteString(style(text))
		b.WriteByte('\n')
	}
	line(t.Header, t.Style.Bold)
	for _, row := range t.Rows {
		line(row, func(s string) string { return s })
	}
	_, err := io.WriteString(w, b.String())
	return err
}
