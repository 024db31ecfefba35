// SPDX-License-Identifier: Apache-2.0

package site

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

func code(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEntryIsTheFirstCheapPlaceWithTheArguments(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		want int
	}{
		"push":                         {"53 c3", 0},
		"endbr64, push":                {"f30f1efa 4154 c3", 4},
		"sub, call":                    {"4883ec08 e800000000 c3", 4},
		"sub, test, js":                {"4883ec18 85d2 7801 90 c3", 6},
		"xor, jmp out":                 {"4531c0 31c9 e900000100", 5},
		"an argument is lost before":   {"4889f7 53 c3", 0},
		"a part of one is lost before": {"31ff 53 c3", 0},
		"a loop leads there":           {"4883ec08 53 75fd c3", 0},
		"begins again after growing":   {"493b6610 7602 55 c3 ebf6", 6},
		"unknown":                      {"c5f877 53 c3", 0},
	} {
		if got := Entry(code(t, c.code), CArgs[:2]); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestExitsAreTheLastCheapPlacesWithTheResult(t *testing.T) {
	const guard = "64482b142528000000" // sub %fs:0x28,%rdx
	for name, c := range map[string]struct {
		code string
		want []int
	}{
		"guard":                  {guard + "7505 4883c418 c3 e800000000", []int{9}},
		"no guard":               {"85c0 7504 4883c408 c3", nil},
		"result comes after":     {guard + "7502 31c0 c3 e800000000", nil},
		"entered from elsewhere": {"eb0b" + guard + "7504 4883c418 c3", nil},
		"nop":                    {"90 c3", []int{0}},
		"leaves by a jump":       {guard + "7504 4883c418 c3 e900000100", nil},
	} {
		if got := Exits(code(t, c.code)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func open(t *testing.T, path string) *elf.File {
	t.Helper()
	f, err := elf.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("needs %s", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if f.Machine != elf.EM_X86_64 {
		t.Skip("needs a library for amd64")
	}
	return f
}

// The libraries as Debian builds them: each probe is where its function still has, or already has, what is asked for.
func TestRealLibraries(t *testing.T) {
	for path, names := range map[string][]string{
		"/usr/lib/x86_64-linux-gnu/libssl.so.3":     {"SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"},
		"/usr/lib/x86_64-linux-gnu/libgnutls.so.30": {"gnutls_record_recv", "gnutls_record_send"},
	} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			functions, err := Functions(open(t, path), func(name string) bool { return slices.Contains(names, name) })
			if err != nil {
				t.Fatal(err)
			}
			if len(functions) != len(names) {
				t.Errorf("%d functions, want %d", len(functions), len(names))
			}
			for _, fn := range functions {
				at, exits := Entry(fn.Code, CArgs[:2]), Exits(fn.Code)
				t.Logf("%s: enter at +%d, leave at %v", fn.Name, at, exits)
				if !emulated(fn.Code[at:]) {
					t.Errorf("%s: at +%d the kernel steps", fn.Name, at)
				}
				for _, x := range exits {
					if !emulated(fn.Code[x:]) {
						t.Errorf("%s: at +%d the kernel steps", fn.Name, x)
					}
				}
			}
		})
	}
}

const program = `package main

import ("crypto/tls"; "os")

func main() {
	c, err := tls.Dial("tcp", os.Args[1], nil)
	if err == nil { c.Write([]byte("x")); c.Read(make([]byte, 10)) }
}
`

func TestGoPrograms(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		flags  []string
		reader bool
	}{
		"usual": {nil, false}, "stripped": {[]string{"-ldflags=-s -w"}, false}, "not inlined": {[]string{"-gcflags=bytes=-l"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			bin := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			cmd := exec.Command("go", append(append([]string{"build", "-o", bin}, c.flags...), source)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("build: %v: %s", err, out)
			}
			f := open(t, bin)
			got, err := Go(f)
			if err != nil {
				t.Fatal(err)
			}
			if got.Reader != c.reader {
				t.Errorf("reader %v, want %v", got.Reader, c.reader)
			}
			for what, offset := range map[string]uint64{"write": got.Write, "read": got.Read} {
				var b [16]byte
				raw, err := os.Open(bin)
				if err != nil {
					t.Fatal(err)
				}
				defer raw.Close()
				if _, err := raw.ReadAt(b[:], int64(offset)); err != nil || !emulated(b[:]) {
					inst, _ := x86asm.Decode(b[:], 64)
					t.Errorf("%s at %#x: %v is stepped (%v)", what, offset, inst, err)
				}
			}
		})
	}
	if _, err := Go(open(t, "/usr/lib/x86_64-linux-gnu/libssl.so.3")); !errors.Is(err, ErrNone) {
		t.Errorf("a C library: %v", err)
	}
}
