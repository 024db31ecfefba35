// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// matcherOf compiles globs so that each set of patterns is a class of its own, and gives the sets by class.
func matcherOf(globs []glob) (Matcher, [][]int32, error) {
	a, err := compileAutomaton(globs)
	if err != nil {
		return Matcher{}, nil, err
	}
	class := make([]uint16, len(a.sets))
	for i := range class {
		class[i] = uint16(i)
	}
	m, err := a.matcher(class, len(class))
	return m, a.sets, err
}

// checkMatcher holds the compiled matcher to the slow one.
func checkMatcher(t *testing.T, globs []glob, texts ...string) {
	t.Helper()
	m, sets, err := matcherOf(globs)
	if errors.Is(err, errTooLarge) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		var want []int32
		for i, g := range globs {
			if g.match(text) {
				want = append(want, int32(i))
			}
		}
		if got := sets[m.Class(text)]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q is matched by the patterns %v, not %v", text, got, want)
		}
	}
}

func mustGlob(t testing.TB, text string) glob {
	t.Helper()
	g, err := parsePathGlob(text)
	if err != nil {
		t.Fatalf("%q %v", text, err)
	}
	return g
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct{ glob, yes, no string }{
		{"/etc/shadow", "/etc/shadow", "/etc/shadow- /etc/shado /etc/shadow/x /etc shadow"},
		{"/root/.ssh/**", "/root/.ssh/id /root/.ssh/a/b", "/root/.ssh /root/.sshx /root/xssh/id"},
		{"/**", "/ /a /a/b", "pipe:[1]"},
		{"/a/**/b", "/a/b /a/x/b /a/x/y/b", "/a/xb /ab /a/b/c /b"},
		{"/a/**b", "/a/b /a/xb /a/x/b", "/ab /a/bx"},
		{"/usr/lib**", "/usr/lib /usr/lib64/x /usr/lib/x", "/usr/li"},
		{"/proc/*/status", "/proc/1/status /proc/self/status", "/proc/status /proc/1/task/1/status"},
		{"/*", "/ /a /memfd:x", "/a/b"},
		{"/a?c", "/abc", "/a/c /ac /abbc"},
		{"/[a-cx]1", "/a1 /c1 /x1", "/d1 /-1"},
		{"/[!a-c]", "/d /-", "/a // /"},
		{"/[]a-]", "/] /a /-", "/b"},
		{`/\*\[`, "/*[", "/a["},
		{"/**/*.so", "/a.so /a/b.so /a/.b.so", "/aso /a.so/b"},
		{"/é", "/é", "/e"},
	} {
		g := mustGlob(t, c.glob)
		for _, text := range strings.Fields(c.yes) {
			if !g.match(text) {
				t.Errorf("%s does not match %s", c.glob, text)
			}
		}
		for _, text := range strings.Fields(c.no) {
			if g.match(text) {
				t.Errorf("%s matches %s", c.glob, text)
			}
		}
		checkMatcher(t, []glob{g}, append(strings.Fields(c.yes), strings.Fields(c.no)...)...)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ glob, yes, no string }{
		{"example.org", "example.org", "www.example.org example.org. xexample.org"},
		{"*.example.org", "www.example.org", "example.org a.b.example.org"},
		{"**.example.org", "www.example.org a.b.example.org", "example.org xexample.org"},
		{"api-*.example.org", "api-1.example.org api-.example.org", "api.example.org api-1.x.example.org"},
		{"**.**.org", "", ""},
	} {
		g := parseNameGlob(c.glob)
		for _, text := range strings.Fields(c.yes) {
			if !g.match(text) {
				t.Errorf("%s does not match %s", c.glob, text)
			}
		}
		for _, text := range strings.Fields(c.no) {
			if g.match(text) {
				t.Errorf("%s matches %s", c.glob, text)
			}
		}
		checkMatcher(t, []glob{g}, append(strings.Fields(c.yes), strings.Fields(c.no)...)...)
	}
}

// randomGlob makes a glob of few letters, so that globs overlap.
func randomGlob(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(4) {
		b.WriteByte('/')
		if rng.IntN(5) == 0 {
			b.WriteString("**")
			continue
		}
		for range 1 + rng.IntN(3) {
			b.WriteString([]string{"a", "b", "a", "b", "c", "*", "?", "[ab]", "[!a]"}[rng.IntN(9)])
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), "***", "**"), "***", "**")
}

func randomPath(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(5) {
		b.WriteByte('/')
		for range 1 + rng.IntN(3) {
			b.WriteByte("aabbcd"[rng.IntN(6)])
		}
	}
	return b.String()
}

func TestMatcherAgreesWithGlobs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var globs []glob
		for range 1 + rng.IntN(8) {
			g, err := parsePathGlob(randomGlob(rng))
			if err == nil {
				globs = append(globs, g)
			}
		}
		var paths []string
		for range 200 {
			paths = append(paths, randomPath(rng))
		}
		checkMatcher(t, globs, append(paths, "", "/", "a")...)
	}
}

func FuzzMatcher(f *testing.F) {
	f.Add("/a/**/b\n/a/*\n/[a-c]?", "/a/x/b")
	f.Add("/**/*.so\n/usr/**", "/usr/lib/x.so")
	f.Fuzz(func(t *testing.T, patterns, text string) {
		if len(patterns) > 200 || len(text) > 200 {
			return
		}
		var globs []glob
		for p := range strings.SplitSeq(patterns, "\n") {
			if g, err := parsePathGlob(p); err == nil {
				globs = append(globs, g)
			}
		}
		checkMatcher(t, globs, text, text+"x", "/"+text, patterns)
	})
}

func TestMatcherIsBounded(t *testing.T) {
	var globs []glob
	for i := range 40 {
		globs = append(globs, mustGlob(t, fmt.Sprintf("/**/a%d/**/b%d/**", i, i)))
	}
	if _, _, err := matcherOf(globs); !errors.Is(err, errTooLarge) {
		t.Fatalf("40 patterns that multiply compile: %v", err)
	}
}
