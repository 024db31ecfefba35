// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"debug/elf"

	"github.com/cilium/ebpf"
	"golang.org/x/arch/x86/x86asm"

	"github.com/vigie-io/vigie/internal/sensor/l7/site"
)

// probe is one place in a file, and what is attached there.
type probe struct {
	name    string // of the function
	offset  uint64 // in the file
	cookie  uint64
	returns bool // a return probe
	program func(*bpfObjects) *ebpf.Program
}

// A probe's cookie (library.h): the source, and these.
const (
	cookieSent   = 0x100
	cookieLength = 0x200
	cookieReader = 0x400
)

func enter(o *bpfObjects) *ebpf.Program { return o.VgL7Enter }
func leave(o *bpfObjects) *ebpf.Program { return o.VgL7Leave }
func free(o *bpfObjects) *ebpf.Program  { return o.VgL7Free }

// libraryFunctions are the functions of C libraries that are probed: their cookies. Those that free a session have none.
var libraryFunctions = map[string]uint64{
	"SSL_read":           uint64(bpfVgL7SourceVG_L7OPENSSL),
	"SSL_write":          uint64(bpfVgL7SourceVG_L7OPENSSL) | cookieSent,
	"SSL_read_ex":        uint64(bpfVgL7SourceVG_L7OPENSSL) | cookieLength,
	"SSL_write_ex":       uint64(bpfVgL7SourceVG_L7OPENSSL) | cookieLength | cookieSent,
	"SSL_free":           0,
	"gnutls_record_recv": uint64(bpfVgL7SourceVG_L7GNUTLS),
	"gnutls_record_send": uint64(bpfVgL7SourceVG_L7GNUTLS) | cookieSent,
	"gnutls_deinit":      0,
}

func libraryProbes(f *elf.File) ([]probe, error) {
	functions, err := site.Functions(f, func(name string) bool { _, ok := libraryFunctions[name]; return ok })
	if err != nil {
		return nil, err
	}
	var out []probe
	for _, fn := range functions {
		out = append(out, probesOfFunction(fn, libraryFunctions[fn.Name], f.Machine == elf.EM_X86_64)...)
	}
	return out, nil
}

// probesOfFunction says where a function's arguments and its result are had for least. A return probe has the kernel stop at the
// function's beginning anyway: then the arguments are taken there.
func probesOfFunction(fn site.Function, cookie uint64, known bool) []probe {
	var exits []int
	entry := 0
	if known {
		exits = site.Exits(fn.Code)
		keep := site.CArgs[:2]
		if cookie&cookieLength != 0 {
			keep = []x86asm.Reg{site.CArgs[0], site.CArgs[1], site.CArgs[3]}
		}
		if exits != nil || cookie == 0 {
			entry = site.Entry(fn.Code, keep)
		}
	}
	if cookie == 0 {
		return []probe{{name: fn.Name, offset: fn.Offset + uint64(entry), program: free}}
	}
	out := []probe{{name: fn.Name, offset: fn.Offset + uint64(entry), cookie: cookie, program: enter}}
	for _, at := range exits {
		out = append(out, probe{name: fn.Name, offset: fn.Offset + uint64(at), program: leave})
	}
	if exits == nil {
		out = append(out, probe{name: fn.Name, offset: fn.Offset, program: leave, returns: true})
	}
	return out
}
