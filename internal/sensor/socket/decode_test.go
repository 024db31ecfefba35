// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

func bytesOf[T any](v *T, tail string) []byte {
	return append(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)), tail...)
}

func mapped(a string) [16]uint8 { return netip.MustParseAddr(a).As16() }

func TestDecodeAddresses(t *testing.T) {
	for _, c := range []struct {
		local, remote         string
		wantLocal, wantRemote string
		family                string
		localPort, remotePort uint16
	}{
		{"10.0.0.1", "192.0.2.7", "10.0.0.1:80", "192.0.2.7:443", "ipv4", 0x5000, 0xbb01},
		{"::ffff:10.0.0.1", "::", "10.0.0.1:80", "invalid AddrPort", "ipv4", 0x5000, 0},
		{"::", "10.0.0.1", "invalid AddrPort", "10.0.0.1:443", "ipv4", 0, 0xbb01},
		{"::", "::", "[::]:80", "invalid AddrPort", "ipv6", 0x5000, 0},
		{"2001:db8::1", "2001:db8::2", "[2001:db8::1]:80", "[2001:db8::2]:443", "ipv6", 0x5000, 0xbb01},
	} {
		rec := bpfVgConn{H: kernelHeader(kernel.RecordConnect), Local: mapped(c.local), Remote: mapped(c.remote),
			LocalPort: c.localPort, RemotePort: c.remotePort, Direction: 1}
		var ev model.Event
		if ok, err := decodeConn(bytesOf(&rec, ""), &ev); !ok || err != nil {
			t.Fatalf("decode: %t %v", ok, err)
		}
		s := ev.Socket
		if s.Local.String() != c.wantLocal || s.Remote.String() != c.wantRemote || s.Family != c.family {
			t.Errorf("%s to %s is %s %v to %v, want %s %s to %s", c.local, c.remote, s.Family, s.Local, s.Remote,
				c.family, c.wantLocal, c.wantRemote)
		}
	}
}

func kernelHeader(typ kernel.RecordType) bpfVgHeader { return bpfVgHeader{Type: uint16(typ), Count: 1} }

// What the decoders make of any bytes is an event or an error, and an event has what every event of its type has.
func FuzzDecode(f *testing.F) {
	for _, typ := range []kernel.RecordType{kernel.RecordConnect, kernel.RecordAccept, kernel.RecordListen, kernel.RecordClose} {
		for protocol := range uint8(4) {
			closed := bpfVgClosed{C: bpfVgConn{H: kernelHeader(typ), Protocol: protocol, Local: mapped("10.0.0.1"), Direction: 2}}
			f.Add(bytesOf(&closed, ""))
			for form := range uint8(3) {
				u := bpfVgUnix{C: closed.C, PathLen: 6, Form: form}
				f.Add(bytesOf(&u, "\xfft\x00mp\x00"))
				f.Add(bytesOf(&u, "cut"))
			}
		}
	}
	decoders := New(Options{}).Decoders()
	f.Fuzz(func(t *testing.T, b []byte) {
		// The rings keep records aligned; a copy with room at its front does so too.
		aligned := append(make([]byte, 0, len(b)+8), b...)
		h := kernel.Record(aligned).Header()
		if h == nil {
			return
		}
		decode := decoders[kernel.RecordType(h.Type)]
		if decode == nil {
			return
		}
		var ev model.Event
		ok, err := decode(aligned, &ev)
		if ok == (err != nil) {
			t.Fatalf("decoded: %t, error: %v", ok, err)
		}
		if !ok {
			return
		}
		s := ev.Socket
		if s == nil || s.Protocol == "" || s.Family == "" || ev.Type == "" {
			t.Fatalf("incomplete event %+v", ev)
		}
		if (s.Protocol == "unix") == (s.Local.IsValid() || s.Remote.IsValid()) && s.Protocol == "unix" {
			t.Fatalf("unix socket with an address: %+v", s)
		}
		if s.Local.Addr().Is4In6() || s.Remote.Addr().Is4In6() {
			t.Fatalf("IPv4 shown as IPv6: %+v", s)
		}
	})
}
