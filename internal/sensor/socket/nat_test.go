// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// A program of somebody else gives a socket another address than its caller named, as what replaces kube-proxy does.
func TestAnAddressThatAProgramPutInPlaceOfAnother(t *testing.T) {
	w := newWorld(t)
	const service, port = 0x0a600001, 4430 // 10.96.0.1, which nobody else on this host asks for
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	// struct bpf_sock_addr: user_ip4 at 4, user_port at 24, both in network byte order.
	rewrite, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 4, asm.Word),
			asm.HostTo(asm.BE, asm.R2, asm.Word),
			asm.JNE.Imm(asm.R2, service, "pass"),
			asm.Mov.Imm(asm.R2, 0x7f000001),
			asm.HostTo(asm.BE, asm.R2, asm.Word),
			asm.StoreMem(asm.R1, 4, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R2, 80),
			asm.HostTo(asm.BE, asm.R2, asm.Half),
			asm.StoreMem(asm.R1, 24, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer rewrite.Close()
	attached, err := link.AttachCgroup(link.CgroupOptions{Path: kernel.FindCgroup2(), Attach: ebpf.AttachCGroupInet4Connect, Program: rewrite})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()

	client := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	client.check("connect", client.connect("10.96.0.1:4430"))
	server := l.accept()
	if got := client.remote(); got.String() != "127.0.0.1:80" {
		t.Fatalf("the program did not run: the socket is connected to %v", got)
	}
	w.settle()
	got, ok := w.sensor.Translated(client.cookie(), "tcp", client.local(), client.remote())
	if want := netip.AddrPortFrom(netip.MustParseAddr("10.96.0.1"), port); !ok || got.Asked != want || got.Destination.IsValid() {
		t.Errorf("translation is %+v, %t; want that %v was asked for", got, ok, want)
	}
	if _, again := w.sensor.Translated(client.cookie(), "tcp", client.local(), client.remote()); again {
		t.Error("it is told a second time")
	}
	plain, _ := w.pair(l)
	if got, ok := w.sensor.Translated(plain.cookie(), "tcp", plain.local(), plain.remote()); ok {
		t.Errorf("a connection that nobody touched is translated: %+v", got)
	}
	server.close()
}
