// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"debug/elf"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/sensor/l7/site"
)

func inGo(o *bpfObjects) *ebpf.Program { return o.VgL7Go }

// goProbes says where the plain text of a Go program's TLS is.
func goProbes(f *elf.File) ([]probe, error) {
	places, err := site.Go(f)
	if err != nil {
		return nil, err
	}
	read := uint64(bpfVgL7SourceVG_L7GO)
	if places.Reader {
		read |= cookieReader
	}
	return []probe{
		{name: "crypto/tls.(*Conn).Write", offset: places.Write, cookie: uint64(bpfVgL7SourceVG_L7GO) | cookieSent, program: inGo},
		{name: "crypto/tls.(*Conn).Read", offset: places.Read, cookie: read, program: inGo},
	}, nil
}
