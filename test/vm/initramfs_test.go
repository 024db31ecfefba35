// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCpioMembers(t *testing.T) {
	host := t.TempDir()
	if err := os.MkdirAll(filepath.Join(host, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "sub", "data"), []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	c := &cpio{w: bufio.NewWriter(&buf)}
	c.dir("etc")
	c.file("etc/run", 0o644, []byte("abc"))
	c.tree("testdata", host)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if buf.Len()%4 != 0 {
		t.Errorf("archive is %d bytes, not a multiple of 4", buf.Len())
	}
	// Header of 110 bytes, name, NUL, padding to four, body, padding to four.
	const mode, size, name = 1, 6, 110
	var got []string
	for rest := buf.String(); rest != ""; {
		if !strings.HasPrefix(rest, "070701") {
			t.Fatalf("no header at %.20q", rest)
		}
		n, l := hex(t, rest, size), hex(t, rest, 11)
		body := align(name + l)
		got = append(got, strings.TrimRight(rest[name:name+l], "\x00")+"="+rest[body:body+n]+
			map[bool]string{true: "/"}[hex(t, rest, mode)&0o170000 == modeDir])
		rest = rest[align(body+n):]
	}
	want := "etc=/ etc/run=abc testdata=/ testdata/sub=/ testdata/sub/data=12345 TRAILER!!!="
	if s := strings.Join(got, " "); s != want {
		t.Errorf("members:\n%s\nwant:\n%s", s, want)
	}
}

func TestCpioKeepsTheFirstError(t *testing.T) {
	c := &cpio{w: bufio.NewWriter(&bytes.Buffer{})}
	c.copy("bin/busybox", filepath.Join(t.TempDir(), "absent"))
	c.file("init", 0o755, nil)
	if err := c.close(); !os.IsNotExist(err) {
		t.Errorf("close = %v, want the missing file", err)
	}
}

// hex reads the nth 8-digit field of a header.
func hex(t *testing.T, header string, n int) int {
	t.Helper()
	v := 0
	for _, d := range header[6+8*n : 14+8*n] {
		i := strings.IndexRune("0123456789abcdef", d)
		if i < 0 {
			t.Fatalf("field %d of %.110q is not hexadecimal", n, header)
		}
		v = v<<4 | i
	}
	return v
}

func align(n int) int { return (n + 3) &^ 3 }
