// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func read(t testing.TB, text string) []*Document {
	t.Helper()
	r := NewReader(strings.NewReader(text), "f.yaml")
	var docs []*Document
	for {
		d, err := r.Next()
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, d)
	}
}

func TestABrokenDocumentIsToldAndTheOthersAreRead(t *testing.T) {
	docs := read(t, "# comment\n---\na: 1\n---\nb: [1\nc: 2\n---\n\n# nothing\n---\nd: x\n...\n--- {e: 5}\n")
	if len(docs) != 4 {
		t.Fatalf("%d documents, want 4", len(docs))
	}
	if docs[0].Value["a"] != int64(1) || docs[0].Line != 3 {
		t.Errorf("first: %+v", docs[0])
	}
	if docs[1].Err == nil || docs[1].Err.Line < 5 || docs[1].Err.Line > 7 {
		t.Errorf("the broken one: %v", docs[1].Err)
	}
	if docs[2].Value["d"] != "x" || docs[2].Line != 11 {
		t.Errorf("third: %+v", docs[2])
	}
	if docs[3].Value["e"] != int64(5) {
		t.Errorf("fourth: %+v", docs[3])
	}
	if at := docs[3].At([]string{"e"}); at.Line != 13 || at.Column != 9 || at.Value != "5" {
		t.Errorf("place on the separator's line: %+v", at)
	}
}

func TestValuesAreThoseThatKubectlReads(t *testing.T) {
	d := read(t, "a: yes\nb: 'yes'\nc: 0777\nd: 2026-01-02\ne: ~\nf: 1.5\ng: &x {h: off}\ni: *x\nj: {<<: *x, k: 1}\n80: y\n")[0]
	if d.Err != nil {
		t.Fatal(d.Err)
	}
	want := map[string]any{"a": true, "b": "yes", "c": int64(511), "d": "2026-01-02", "e": nil, "f": 1.5, "g": map[string]any{"h": false},
		"i": map[string]any{"h": false}, "j": map[string]any{"h": false, "k": int64(1)}, "80": true}
	if !reflect.DeepEqual(d.Value, want) {
		t.Errorf("got  %#v\nwant %#v", d.Value, want)
	}
}

func TestWhatIsWrongHasItsLine(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'k'; i++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", i, i, strings.Repeat(fmt.Sprintf("*%c, ", i-1), 9), i-1)
	}
	tests := []struct {
		name, text, want string
		line             int
	}{
		{"duplicate key", "a: 1\nb: 2\na: 3\n", "twice", 3},
		{"bomb", bomb, "", 0},
		{"deep", strings.Repeat("[", 600) + strings.Repeat("]", 600), "deep", 1},
		{"list", "- a\n", "a list where an object", 1},
		{"latin-1", "a: b\nc: \xe9\n", "UTF-8", 2},
		{"zero", "a: \x00\n", "zero byte", 1},
		{"infinity", "a: .inf\n", "no number", 1},
		{"object as a key", "? {a: b}\n: c\n", "cannot be a key", 1},
		{"unknown anchor", "a: 1\nb: *nope\n", "not YAML", 0},
		{"alias of itself", "a: &a {b: *a}\n", "", 0},
		{"tab", "a:\n\tb: 1\n", "not YAML", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := read(t, tt.text)[0]
			if d.Err == nil {
				t.Fatal("it was taken")
			}
			if !strings.Contains(d.Err.Message, tt.want) || tt.line > 0 && d.Err.Line != tt.line {
				t.Errorf("got %v, want %q in line %d", d.Err, tt.want, tt.line)
			}
		})
	}
}

func TestEncodings(t *testing.T) {
	for name, text := range map[string]string{
		"utf-8 with a mark": "\xef\xbb\xbfa: \xc3\xa9\n",
		"utf-16le":          "\xff\xfea\x00:\x00 \x00\xe9\x00\n\x00",
		"utf-16be":          "\xfe\xff\x00a\x00:\x00 \x00\xe9\x00\n",
		"dos line ends":     "a: \xc3\xa9\r\n",
	} {
		if d := read(t, text)[0]; d.Err != nil || d.Value["a"] != "é" {
			t.Errorf("%s: %v %v", name, d.Value, d.Err)
		}
	}
}

func TestADocumentThatIsTooLargeIsPassedOver(t *testing.T) {
	docs := read(t, "a: "+strings.Repeat("x", MaxDocument)+"\n---\nb: 1\n")
	if len(docs) != 2 || docs[0].Err == nil || docs[1].Value["b"] != int64(1) {
		t.Fatalf("got %d documents: %+v", len(docs), docs)
	}
}

func TestJSONWithTabs(t *testing.T) {
	d := read(t, "{\n\t\"a\": {\n\t\t\"b\": true\n\t}\n}\n")[0]
	if at := d.At([]string{"a", "b"}); d.Err != nil || at.Line != 3 || at.Column != 8 {
		t.Errorf("%v: %+v", d.Err, at)
	}
}

func TestPlaces(t *testing.T) {
	d := read(t, "kind: List\nitems:\n- spec:\n    c:\n    - name: a\n      image: b\n- base: &b {x: 1}\n  <<: *b\n")[0]
	items := d.Items()
	if len(items) != 2 || items[0].Line != 3 {
		t.Fatalf("items: %+v", items)
	}
	for _, tt := range []struct {
		doc          *Document
		path         []string
		line, column int
		found        bool
	}{
		{items[0], []string{"spec", "c", "0", "image"}, 6, 14, true},
		{items[0], []string{"spec", "c", "0"}, 5, 7, true},
		{items[0], []string{"spec", "c", "0", "securityContext", "x"}, 5, 7, false},
		{items[0], []string{"spec"}, 3, 3, true},
		{items[0], []string{"spec", "c", "7"}, 4, 5, false},
		{items[1], []string{"x"}, 7, 16, true},
	} {
		at := tt.doc.At(tt.path)
		if at.Line != tt.line || at.Column != tt.column || at.Found != tt.found {
			t.Errorf("%s: got %+v, want %d:%d %v", PathString(tt.path), at, tt.line, tt.column, tt.found)
		}
	}
}

func TestPathsAreReadAsTheyAreWritten(t *testing.T) {
	for _, path := range [][]string{{"spec", "containers", "0", "image"}, {"metadata", "annotations", "a.b/c"}, {"0", "a"}, {"a", "x[\"]", "1"}, nil} {
		if got := ParsePath(PathString(path)); !slices.Equal(got, path) {
			t.Errorf("%q: got %q", path, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("a: 1\n---\nb: &x [1]\nc: *x\n")
	f.Add("{\"kind\": \"List\", \"items\": [{\"a\": 1}]}")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range read(t, text) {
			if (d.Value == nil) == (d.Err == nil) {
				t.Errorf("neither value nor error: %+v", d)
			}
			for _, item := range d.Items() {
				item.At([]string{"metadata", "0", "name"})
			}
		}
	})
}
