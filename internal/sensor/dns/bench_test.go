// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/testkit"
)

// Both benchmarks compare in turns, with and without, and report the ratio of the medians and of the minima.

// BenchmarkProgram runs the program over a packet that is no DNS, beside one that only lets it pass.
func BenchmarkProgram(b *testing.B) {
	objs := loadPrograms(b)
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, License: "GPL", AttachType: ebpf.AttachCGroupInetEgress,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer pass.Close()
	frame := make([]byte, 14+60)                                     // Ethernet, whose type is IPv4,
	frame[12], frame[14], frame[14+9], frame[14+22] = 8, 0x45, 17, 9 // no options, UDP to port 2304
	run := func(p *ebpf.Program) time.Duration {
		_, perRun, err := p.Benchmark(frame, 1_000_000, nil)
		if err != nil {
			b.Fatal(err)
		}
		return perRun
	}
	var with, without []time.Duration
	for b.Loop() {
		without = append(without, run(pass))
		with = append(with, run(objs.VgDnsEgress))
	}
	compare(b, with, without)
}

// BenchmarkOtherPackets sends a datagram to and fro over loopback, which passes the programs four times.
func BenchmarkOtherPackets(b *testing.B) {
	objs := loadPrograms(b)
	cgroup := kernel.FindCgroup2()
	if cgroup == "" {
		b.Skip("needs cgroup v2 mounted")
	}
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := server.WriteTo(buf[:n], from); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const trips = 2000
	run := func() time.Duration {
		buf := make([]byte, 64)
		begin := time.Now()
		for range trips {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begin) / trips
	}
	var with, without []time.Duration
	for b.Loop() {
		without = append(without, run())
		detach := attach(b, cgroup, objs)
		with = append(with, run())
		detach()
	}
	compare(b, with, without)
}

func loadPrograms(b *testing.B) *bpfObjects {
	b.Helper()
	testkit.RequireBPF(b)
	spec, err := loadBpf()
	if err != nil {
		b.Fatal(err)
	}
	objs := new(bpfObjects)
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { objs.Close() })
	return objs
}

func attach(b *testing.B, cgroup string, objs *bpfObjects) (detach func()) {
	b.Helper()
	var links []link.Link
	for at, p := range map[ebpf.AttachType]*ebpf.Program{
		ebpf.AttachCGroupInetEgress: objs.VgDnsEgress, ebpf.AttachCGroupInetIngress: objs.VgDnsIngress} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: at, Program: p})
		if err != nil {
			b.Fatal(err)
		}
		links = append(links, l)
	}
	return func() {
		for _, l := range links {
			l.Close()
		}
	}
}

func compare(b *testing.B, with, without []time.Duration) {
	b.Helper()
	slices.Sort(with)
	slices.Sort(without)
	n := len(with) / 2
	b.ReportMetric(float64(len(with)), "n")
	b.ReportMetric(float64(with[n])/float64(without[n]), "median-ratio")
	b.ReportMetric(float64(with[0])/float64(without[0]), "min-ratio")
	b.ReportMetric(float64(without[n].Nanoseconds()), "ns-without")
	b.ReportMetric(float64(with[n].Nanoseconds()), "ns-with")
}
