// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscapeShowsWhatATerminalWouldObey(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/ls":              "/usr/bin/ls",
		"":                         "",
		"a\nb\tc\rd":               `a\nb\tc\rd`,
		"\x1b[2J\x1b]0;own\x07":    `\x1b[2J\x1b]0;own\x07`,
		"\x00\x7f":                 `\x00\x7f`,
		"\u009b31m":                `\u009b31m`,
		"a\u202etxt.exe":           `a\u202etxt.exe`,
		"\u2028\u2066\ufeff\u200d": `\u2028\u2066\ufeff\u200d`,
		"\xff\xfea":                `\xff\xfea`,
		"\U000e0041":               `\U000e0041`,
		"grün 日本 e\u0301":          "grün 日本 e\u0301",
		"\u0301x":                  `\u0301x`,
		" \u0301":                  ` \u0301`,
		"✔\ufe0f":                  `✔\ufe0f`,
		"\u3164":                   `\u3164`,
		`C:\x`:                     `C:\x`,
		"\ufffd":                   "\ufffd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%+q) = %+q, want %+q", in, got, want)
		}
	}
	if got := Escape("a" + strings.Repeat("\u0301", 50)); strings.Count(got, "\u0301") != maxMarks ||
		strings.Count(got, `\u0301`) != 50-maxMarks {
		t.Errorf("a tower of marks is not cut: %+q", got)
	}
}

func TestArgsCanBeToldApart(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ls", "-l"}, "ls -l"},
		{[]string{"sh", "-c", "a b; c"}, "sh -c 'a b; c'"},
		{[]string{"x", "", "it's"}, `x '' 'it'\''s'`},
		{[]string{"a\nb"}, `'a\nb'`},
		{nil, ""},
	} {
		if got := Args(c.args); got != c.want {
			t.Errorf("Args(%q) = %s, want %s", c.args, got, c.want)
		}
	}
}

func TestJSONKeepsItsMeaning(t *testing.T) {
	in := []byte("{\"a\":\"\u009b31m \u202e grün \U000e0041 \U0001F1E9 e\u0301\",\"b\":1}\n")
	out := JSON(in)
	var want, got map[string]any
	if err := json.Unmarshal(in, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got["a"] != want["a"] {
		t.Errorf("got %+q, want %+q", got["a"], want["a"])
	}
	if bytes.ContainsRune(out, 0x9b) || bytes.ContainsRune(out, 0x202e) || !bytes.Contains(out, []byte("grün")) {
		t.Errorf("got %+q", out)
	}
}

func TestCutMeasuresCells(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"},
		{"日本語", 4, "日…"}, {"abc", 0, ""}, {"abc", 1, "…"},
	} {
		if got := Cut(c.in, c.width); got != c.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
	if got := Cut(Style{Color: true}.Red("abcdef"), 3); Width(got) != 3 || !strings.HasSuffix(got, "\x1b[0m") {
		t.Errorf("cut colour: %q", got)
	}
	if got := CutMiddle("/usr/lib/x86_64-linux-gnu/libc.so.6", 20); Width(got) != 20 ||
		!strings.HasPrefix(got, "/usr/") || !strings.HasSuffix(got, "libc.so.6") {
		t.Errorf("CutMiddle: %q", got)
	}
	if got := Fit("日本語", 4); Width(got) != 4 {
		t.Errorf("Fit: %q is %d wide", got, Width(got))
	}
	if got := FitLeft("12", 4); got != "  12" {
		t.Errorf("FitLeft: %q", got)
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	var b strings.Builder
	tb := Table{Header: []string{"NAME", "N", "PATH"}, Right: []int{1}, Width: 24,
		Rows: [][]string{{"a", "7", "/a/very/long/path/indeed"}, {"bcdef", "123", "/x"}}}
	if err := tb.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME     N  PATH\na        7  /a/very/lon…\nbcdef  123  /x\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestStyleIsPlainWithoutColour(t *testing.T) {
	if got := (Style{}).Alarm("x"); got != "x" {
		t.Errorf("got %q", got)
	}
	if got := (Style{Color: true}).Bold("x"); got != "\x1b[1mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
	if s := ScreenOf(&bytes.Buffer{}, func(string) string { return "" }); s != (Screen{}) {
		t.Errorf("a buffer is no terminal: %+v", s)
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"ls", "\x1b[31m", "a\u202eb", "\xff", "日本\u0301", "\U0001F468\u200d\U0001F469"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		if !utf8.ValidString(got) {
			t.Fatalf("Escape(%q) is not UTF-8: %q", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Cc, r) {
				t.Fatalf("Escape(%q) holds %U", s, r)
			}
		}
		if again := Escape(got); again != got {
			t.Fatalf("escaping twice changes %q to %q", got, again)
		}
		for _, w := range []int{1, 2, 7} {
			if cut := Cut(got, w); Width(cut) > w {
				t.Fatalf("Cut(%q, %d) is %d wide", got, w, Width(cut))
			}
		}
		quoted, _ := json.Marshal(s)
		var want, have string
		if json.Unmarshal(quoted, &want) != nil || json.Unmarshal(JSON(quoted), &have) != nil || want != have {
			t.Fatalf("JSON(%s) = %s", quoted, JSON(quoted))
		}
	})
}
