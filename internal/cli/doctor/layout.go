// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/vigie-io/vigie/internal/cli/term"
)

// gap stands between two columns.
const gap = "  "

func (p *page) line(s string) {
	p.WriteString(strings.TrimRight(s, " "))
	p.WriteByte('\n')
}

func (p *page) heading(s string) { p.line(p.style.Bold(s)) }

// columns are the widths of columns of which one, given as 0, takes what the margin and the others
// leave of the page.
func (p *page) columns(margin int, widths ...int) []int {
	left := p.width - margin - len(gap)*(len(widths)-1)
	for _, w := range widths {
		left -= w
	}
	for i, w := range widths {
		if w == 0 {
			widths[i] = left
		}
	}
	return widths
}

// row prints cells beside each other, each broken into lines at spaces to fit its column. margin
// stands before the first line, and as many spaces before the others.
func (p *page) row(widths []int, margin string, cells ...string) {
	var lines [][]string
	height := 1
	for i, cell := range cells {
		broken := strings.Split(ansi.Wrap(cell, widths[i], ""), "\n")
		lines = append(lines, broken)
		height = max(height, len(broken))
	}
	for n := range height {
		var b strings.Builder
		b.WriteString(margin)
		for i, cell := range lines {
			text := ""
			if n < len(cell) {
				text = cell[n]
			}
			if i == len(lines)-1 {
				b.WriteString(text)
				break
			}
			b.WriteString(term.Fit(text, widths[i]) + gap)
		}
		p.line(b.String())
		margin = strings.Repeat(" ", term.Width(margin))
	}
}
