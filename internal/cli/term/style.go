// SPDX-License-Identifier: Apache-2.0

package term

import (
	"io"
	"os"

	xterm "golang.org/x/term"
)

// Style colours text, or leaves it alone when Color is false. It uses the sixteen colours that a
// terminal's user has chosen, so that the text can be read on any background.
type Style struct{ Color bool }

// Bold makes s bright.
func (st Style) Bold(s string) string { return st.sgr("1", s) }

// Dim makes s recede.
func (st Style) Dim(s string) string { return st.sgr("2", s) }

// Reverse swaps fore- and background.
func (st Style) Reverse(s string) string { return st.sgr("7", s) }

// Red is for what failed, was lost or was stopped.
func (st Style) Red(s string) string { return st.sgr("31", s) }

// Alarm is for what must not be overlooked.
func (st Style) Alarm(s string) string { return st.sgr("1;97;41", s) }

// Green is for programs that start and for what is well.
func (st Style) Green(s string) string { return st.sgr("32", s) }

// Yellow is for files and for warnings.
func (st Style) Yellow(s string) string { return st.sgr("33", s) }

// Blue is for names of addresses.
func (st Style) Blue(s string) string { return st.sgr("34", s) }

// Magenta is for what changes a process's rights or the kernel.
func (st Style) Magenta(s string) string { return st.sgr("35", s) }

// Cyan is for the network.
func (st Style) Cyan(s string) string { return st.sgr("36", s) }

func (st Style) sgr(code, s string) string {
	if !st.Color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Screen is what is known of an output: whether it is a terminal, how wide, and whether to colour.
type Screen struct {
	Terminal bool
	Width    int // cells; 0 when it is no terminal
	Height   int
	Style    Style
}

// ScreenOf looks at w. Colour needs a terminal other than "dumb" and an empty or unset NO_COLOR
// (https://no-color.org).
func ScreenOf(w io.Writer, getenv func(string) string) Screen {
	f, ok := w.(*os.File)
	if !ok || !xterm.IsTerminal(int(f.Fd())) {
		return Screen{}
	}
	s := Screen{Terminal: true}
	if width, height, err := xterm.GetSize(int(f.Fd())); err == nil {
		s.Width, s.Height = width, height
	}
	s.Style.Color = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return s
}
