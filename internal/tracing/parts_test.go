// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

func TestParseFormat(t *testing.T) {
	fields, err := parseFormat(`name: sched_process_exec
ID: 300
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:__data_loc char[] filename;	offset:8;	size:4;	signed:0;
	field:char comm[16];	offset:12;	size:16;	signed:0;
	field:const char * name;	offset:32;	size:8;	signed:0;
	field:pid_t pid;	offset:40;	size:4;	signed:1;

print fmt: "filename=%s", __get_str(filename)
`)
	if err != nil {
		t.Fatal(err)
	}
	var names, types []string
	for _, f := range fields {
		names, types = append(names, f.name), append(types, fieldType(f))
	}
	if !slices.Equal(names, []string{"common_type", "filename", "comm", "name", "pid"}) || !slices.Equal(types, []string{"uint16", "data_loc", "string", "string", "int32"}) {
		t.Errorf("fields are %v of types %v", names, types)
	}
	if fields[4].offset != 40 || !fields[4].signed || !fields[1].dataLoc {
		t.Errorf("fields are %+v", fields)
	}
	if _, err := parseFormat("field:int x;\toffset:first;\tsize:4;\tsigned:1;"); err == nil {
		t.Error("a field without an offset was read")
	}
}

func TestResolveChains(t *testing.T) {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	inner := &btf.Struct{Name: "inner", Size: 16, Members: []btf.Member{
		{Name: "a", Type: number, Offset: 0}, {Name: "list", Type: &btf.Array{Type: number, Nelems: 3}, Offset: 32}}}
	hidden := &btf.Struct{Size: 8, Members: []btf.Member{{Name: "deep", Type: number, Offset: 32}}}
	outer := &btf.Struct{Name: "outer", Size: 48, Members: []btf.Member{
		{Name: "in", Type: inner, Offset: 64}, {Name: "next", Type: &btf.Pointer{Target: inner}, Offset: 192},
		{Type: hidden, Offset: 256}, {Name: "bits", Type: number, Offset: 320, BitfieldSize: 3}}}
	arg := &btf.Pointer{Target: outer}
	tests := []struct {
		path  string
		chain []step
	}{
		{"in.a", []step{{8, false}}},
		{"in.list[2]", []step{{20, false}}},
		{"next.list[1]", []step{{24, true}, {8, false}}},
		{"deep", []step{{36, false}}},
	}
	for _, test := range tests {
		chain, end, err := resolve(arg, test.path)
		if err != nil || !slices.Equal(chain, test.chain) || end != btf.Type(number) {
			t.Errorf("%s: chain %v to %v, error %v; want %v", test.path, chain, end, err, test.chain)
		}
	}
	for _, bad := range []string{"nothing", "in.a.b", "bits", "in[x]", "in.a[0]", ""} {
		if chain, _, err := resolve(arg, bad); err == nil {
			t.Errorf("%q was found: %v", bad, chain)
		}
	}
}

func TestParseWindowAndNet(t *testing.T) {
	for text, want := range map[string]time.Duration{"5": 5 * time.Second, "5s": 5 * time.Second, "2m": 2 * time.Minute, "1h": time.Hour} {
		if got, err := parseWindow(text); err != nil || got != want {
			t.Errorf("%q is %v, error %v; want %v", text, got, err, want)
		}
	}
	for text, bits := range map[string]int{"10.0.0.0/8": 104, "10.1.2.3": 128, "::/0": 0, "fe80::1": 128, "0.0.0.0/0": 96} {
		if got, err := parseNet(text); err != nil || got.Bits() != bits || !got.Addr().Is6() {
			t.Errorf("%q is %v, error %v; want %d bits", text, got, err, bits)
		}
	}
}

func TestSymbols(t *testing.T) {
	s := symbols{read: true, list: []symbol{{0x1000, "first"}, {0x2000, "second"}}}
	var frames []byte
	for _, a := range []uint64{0x2010, 0x1000, 0x500} {
		frames = binary.NativeEndian.AppendUint64(frames, a)
	}
	if got := s.kernel(frames); !slices.Equal(got, []string{"second+0x10", "first+0x0", "0x500"}) {
		t.Errorf("the stack is %q", got)
	}
}

// TestUnreachedCodeIsLeftOut: the verifier refuses a program with it.
func TestUnreachedCodeIsLeftOut(t *testing.T) {
	b := newBuilder("x")
	b.imm(0, 1)
	b.jump("end")
	b.place("never")
	b.imm(0, 2)
	b.place("end")
	b.place("too")
	b.emit(asm.Return())
	if got := b.finish(); len(got) != 3 || got[2].Symbol() != "end" {
		t.Errorf("the program is\n%v", got)
	}
}
