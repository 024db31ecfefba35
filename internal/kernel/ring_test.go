// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
)

// TestRing holds that records come out as they were written, in their order, also those that go over the ring's end and behind
// those that were discarded, and that one that is being written is waited for.
func TestRing(t *testing.T) {
	const size = 1 << 10
	var consumed, produced uint64
	r := &ring{consumed: &consumed, produced: &produced, data: make([]byte, size)}
	random := rand.New(rand.NewPCG(1, 2))
	write := func(flags uint32, record []byte) {
		binary.NativeEndian.PutUint32(r.data[produced%size:], uint32(len(record))|flags)
		for i, b := range record {
			r.data[(produced+ringHeader+uint64(i))%size] = b
		}
		produced += ringHeader + (uint64(len(record))+7)&^7
	}
	for range 2000 {
		var want [][]byte
		for len(want) < 1+random.IntN(3) {
			record := make([]byte, random.IntN(200))
			for i := range record {
				record[i] = byte(random.Uint32())
			}
			if random.IntN(4) == 0 {
				write(ringDiscard, record)
				continue
			}
			write(0, record)
			want = append(want, record)
			if r.waiting() > size/2 {
				break
			}
		}
		at := produced
		write(ringBusy, []byte("not yet"))
		for _, w := range want {
			if got, ok := r.next(); !ok || !bytes.Equal(got, w) {
				t.Fatalf("read %x, %v; want %x", got, ok, w)
			}
		}
		if got, ok := r.next(); ok {
			t.Fatalf("a record that is being written was read: %x", got)
		}
		binary.NativeEndian.PutUint32(r.data[at%size:], 7)
		if got, ok := r.next(); !ok || string(got) != "not yet" {
			t.Fatalf("read %q, %v, want the record that has been written by now", got, ok)
		}
		if _, ok := r.next(); ok || r.waiting() != 0 {
			t.Fatalf("%d bytes wait where nothing does", r.waiting())
		}
	}
}

// TestRingOfTheKernel holds the same of a ring that the kernel writes, several times around.
func TestRingOfTheKernel(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Skip(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
	if err != nil {
		t.Skipf("needs the right to make BPF maps: %v", err)
	}
	defer m.Close()
	// Copies what it is given into the ring.
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, -24),
		asm.Mov.Imm(asm.R4, 24),
		asm.FnSkbLoadBytes.Call(),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -24),
		asm.Mov.Imm(asm.R3, 24),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		t.Skipf("needs the right to load BPF programs: %v", err)
	}
	defer p.Close()
	r, err := openRing(m)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	if r.size() != 4096 {
		t.Errorf("%d bytes fit, want 4096", r.size())
	}
	for i := range uint64(1000) {
		var packet [14 + 24]byte // behind an Ethernet header
		want := packet[14:]
		binary.NativeEndian.PutUint64(want, i)
		binary.NativeEndian.PutUint64(want[16:], ^i)
		if _, _, err := p.Test(packet[:]); err != nil {
			t.Fatal(err)
		}
		if got, ok := r.next(); !ok || !bytes.Equal(got, want) {
			t.Fatalf("record %d is %x, %v; want %x", i, got, ok, want)
		}
		if _, ok := r.next(); ok {
			t.Fatal("there is another one")
		}
	}
}
