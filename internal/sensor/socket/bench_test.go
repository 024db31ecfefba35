// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// The benchmarks compare in turns: nothing attached, the agent's system call dispatcher alone, and this sensor on
// top of it. What is compared is the time of the one thread that does all the work, softirqs included, so that other load on
// the machine weighs less. Ratios are of medians and of minima, to nothing attached.

// BenchmarkTCPRoundTrip sends a byte to and fro over loopback.
func BenchmarkTCPRoundTrip(b *testing.B) { roundTrip(b, unix.SOCK_STREAM) }

// BenchmarkUDPRoundTrip does the same over connected UDP sockets.
func BenchmarkUDPRoundTrip(b *testing.B) { roundTrip(b, unix.SOCK_DGRAM) }

// BenchmarkConnection makes a connection, accepts it and closes both ends.
func BenchmarkConnection(b *testing.B) {
	w := &world{t: b, ns: testkit.NewNetNS(b)}
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	to := l.address(l.local().String())
	compare(b, 500, func(n int) error { return storm(l.fd, to, n) }, w.ns.Run)
}

// BenchmarkOtherPacket runs the programs on the path of packets over one that is not UDP's, beside a program that only
// lets it pass: what each TCP packet pays at each end.
func BenchmarkOtherPacket(b *testing.B) {
	testkit.RequireBPF(b)
	spec, err := loadBpf()
	if err != nil {
		b.Fatal(err)
	}
	var objs bpfObjects
	if err := spec.LoadAndAssign(&objs, nil); err != nil {
		b.Fatal(err)
	}
	defer objs.Close()
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, License: "GPL", AttachType: ebpf.AttachCGroupInetEgress,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer pass.Close()
	frame := make([]byte, 14+60)                   // Ethernet, of type
	frame[12], frame[14], frame[14+9] = 8, 0x45, 6 // IPv4 without options, TCP
	took := map[*ebpf.Program][]time.Duration{}
	for b.Loop() {
		for _, p := range []*ebpf.Program{pass, objs.VgEgress, objs.VgIngress} {
			_, perRun, err := p.Benchmark(frame, 1_000_000, nil)
			if err != nil {
				b.Fatal(err)
			}
			took[p] = append(took[p], perRun)
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, p := range map[string]*ebpf.Program{"pass": pass, "egress": objs.VgEgress, "ingress": objs.VgIngress} {
		slices.Sort(took[p])
		b.ReportMetric(float64(took[p][len(took[p])/2].Nanoseconds()), name+"-median-ns")
		b.ReportMetric(float64(took[p][0].Nanoseconds()), name+"-min-ns")
	}
}

func roundTrip(b *testing.B, typ int) {
	w := &world{t: b, ns: testkit.NewNetNS(b)}
	var client, server *sock
	if typ == unix.SOCK_STREAM {
		client, server = w.pair(w.listener(unix.AF_INET, "127.0.0.1:80"))
		for _, s := range []*sock{client, server} {
			s.check("set TCP_NODELAY", unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		}
	} else {
		client, server = w.socket(unix.AF_INET, typ), w.socket(unix.AF_INET, typ)
		client.bind("127.0.0.1:80")
		server.bind("127.0.0.1:81")
		client.check("connect", client.connect("127.0.0.1:81"))
		server.check("connect", server.connect("127.0.0.1:80"))
	}
	// One thread does both ends, so that the scheduler is not what is measured.
	compare(b, 3000, func(n int) error {
		buf := make([]byte, 1)
		for range n {
			for _, fd := range []int{client.fd, server.fd} {
				if _, err := unix.Write(fd, buf); err != nil {
					return fmt.Errorf("write: %w", err)
				}
				if _, err := unix.Read(client.fd+server.fd-fd, buf); err != nil {
					return fmt.Errorf("read: %w", err)
				}
			}
		}
		return nil
	}, w.ns.Run)
}

// compare runs n operations in each arm, in turns, for as long as the benchmark lasts; on gives a thread to run on.
func compare(b *testing.B, n int, run func(n int) error, on func(func() error) error) {
	testkit.RequireBPF(b)
	arms := []struct {
		name             string
		open, withSensor bool
	}{{"without", false, false}, {"dispatcher", true, false}, {"with", true, true}}
	took := make([][]time.Duration, len(arms))
	for b.Loop() {
		for i, arm := range arms {
			detach := func() {}
			if arm.open {
				detach = attach(b, arm.withSensor)
			}
			t, err := threadTime(n, run, on)
			if err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], t/time.Duration(n))
			detach()
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(took[0])), "n")
	for i, arm := range arms {
		median, least := took[i][len(took[i])/2], took[i][0]
		b.ReportMetric(float64(median.Nanoseconds()), arm.name+"-ns")
		if i > 0 {
			b.ReportMetric(float64(median)/float64(took[0][len(took[0])/2]), arm.name+"-median-ratio")
			b.ReportMetric(float64(least)/float64(took[0][0]), arm.name+"-min-ratio")
		}
	}
}

// threadTime is the time that a thread spends on n operations, after some that fill the caches.
func threadTime(n int, run func(n int) error, on func(func() error) error) (took time.Duration, err error) {
	err = on(func() error {
		if err := run(n / 10); err != nil {
			return err
		}
		var begin, end unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &begin); err != nil {
			return err
		}
		if err := run(n); err != nil {
			return err
		}
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &end); err != nil {
			return err
		}
		took = time.Duration(end.Nano() - begin.Nano())
		return nil
	})
	return took, err
}

// attach opens a host, with the sensor or without, and drains its rings until detach.
func attach(b *testing.B, withSensor bool) (detach func()) {
	host, err := kernel.Open(kernel.Options{Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if withSensor {
		if err := New(Options{}).Start(ctx, host); err != nil {
			b.Fatal(err)
		}
	}
	read := make(chan error, 1)
	go func() { read <- host.Read(ctx, func(kernel.Record) {}, func() {}) }()
	return func() {
		cancel()
		if err := <-read; err != nil {
			b.Error(err)
		}
		if err := host.Close(); err != nil {
			b.Error(err)
		}
	}
}
