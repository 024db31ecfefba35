// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/policy"
)

// The benchmarks compare in turns: under no policy and nothing attached, under a policy with ten CIDRs, with a thousand. Each
// process measures its own connects; ratios and differences are of medians and of minima.

// BenchmarkConnectTCP connects over loopback.
func BenchmarkConnectTCP(b *testing.B) { benchmarkConnect(b, "tcp4", "127.0.0.1:1001", 300) }

// BenchmarkConnectUDP connects a socket for datagrams, which does nothing but what the hook costs.
func BenchmarkConnectUDP(b *testing.B) { benchmarkConnect(b, "udp4", "127.0.0.1:1001", 2000) }

// BenchmarkDeniedUDP is the same, refused.
func BenchmarkDeniedUDP(b *testing.B) { benchmarkConnect(b, "udp4", "127.0.0.1:2001", 2000) }

func benchmarkConnect(b *testing.B, network, addr string, n int) {
	w := newWorld(b)
	w.server("tcp4", "127.0.0.1:1001")
	arms := []struct {
		name  string
		cidrs int
	}{{"none", 0}, {"10", 10}, {"1000", 1000}}
	medians, minima := make([][]int, len(arms)), make([][]int, len(arms))
	for b.Loop() {
		for i, arm := range arms {
			if arm.cidrs == 0 {
				w.apply()
			} else {
				w.apply(manyCIDRs(arm.cidrs))
			}
			a := w.actor()
			a.do("measure %d %s %s", n/10, network, addr)
			var median, least int
			if _, err := fmt.Sscan(a.do("measure %d %s %s", n, network, addr), &median, &least); err != nil {
				b.Fatal(err)
			}
			medians[i], minima[i] = append(medians[i], median), append(minima[i], least)
			a.in.Close()
			_ = a.cmd.Wait()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(medians[0])), "n")
	median := func(i int) float64 { slices.Sort(medians[i]); return float64(medians[i][len(medians[i])/2]) }
	for i, arm := range arms {
		b.ReportMetric(median(i), arm.name+"-median-ns")
		b.ReportMetric(float64(slices.Min(minima[i])), arm.name+"-min-ns")
	}
	b.ReportMetric(median(2)/median(1), "1000/10-median-ratio")
	b.ReportMetric(float64(slices.Min(minima[2]))/float64(slices.Min(minima[1])), "1000/10-min-ratio")
	b.ReportMetric(median(2)-median(0), "added-median-ns")
}

// manyCIDRs allows port 1001 of so many networks, loopback's last.
func manyCIDRs(n int) string {
	cidrs := make([]string, n)
	for i := range cidrs {
		cidrs[i] = fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)
	}
	cidrs[n-1] = "127.0.0.1"
	return "\tnetwork: {egress: {allow: [{to: {cidr: [" + strings.Join(cidrs, ", ") + "]}, ports: [1001]}]}}"
}

// BenchmarkLoad writes a table of a thousand CIDRs into the maps and takes it out.
func BenchmarkLoad(b *testing.B) {
	w := newWorld(b)
	w.apply(onlyAllowed)
	table := w.compile(manyCIDRs(1000))[0]
	in := w.backend.wanted
	for b.Loop() {
		if err := w.backend.Load(b.Context(), append(slices.Clone(in), enforce.Loaded{Number: 60000, Table: table})); err != nil {
			b.Fatal(err)
		}
		if err := w.backend.Load(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// A policy's thousands of rules are there, and gone, whole.
func testLoadManyPrefixes(t *testing.T, w *world) {
	w.apply(onlyAllowed)
	in := slices.Clone(w.backend.wanted)
	before := w.entries()
	table := w.compile(manyCIDRs(1000), manyPorts())
	var began unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &began); err != nil {
		t.Fatal(err)
	}
	loaded := append(slices.Clone(in), enforce.Loaded{Number: 60000, Table: table[0]}, enforce.Loaded{Number: 60001, Table: table[1]})
	if err := w.backend.Load(t.Context(), loaded); err != nil {
		t.Fatal(err)
	}
	var ended unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ended); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d prefixes and %d ports took %v", len(table[0].Prefixes)+len(table[1].Prefixes), len(table[0].Ports)+len(table[1].Ports), time.Duration(ended.Nano()-began.Nano()))
	want := [2]int{before[0] + len(table[0].Prefixes) + len(table[1].Prefixes), before[1] + len(table[0].Ports) + len(table[1].Ports)}
	if got := w.entries(); got != want {
		t.Errorf("there are %v prefixes and ports, want %v", got, want)
	}
	if err := w.backend.Load(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if got := w.entries(); got != before {
		t.Errorf("%v prefixes and ports are left, want %v", got, before)
	}
	// What does not fit leaves nothing behind, and those before it as they were.
	broken, err := policy.Compile(table[0].Policy, policy.Env{})
	if err != nil {
		t.Fatal(err)
	}
	broken.Prefixes = append(slices.Clone(broken.Prefixes), policy.Prefix{Prefix: broken.Prefixes[0].Prefix, Direction: 9})
	broken.Ports = append(slices.Clone(broken.Ports), policy.Port{Bits: 200}) // the kernel refuses it
	if err := w.backend.Load(t.Context(), append(slices.Clone(in), enforce.Loaded{Number: 60000, Table: broken})); err == nil {
		t.Error("a table that cannot be written was taken")
	}
	if got := w.entries(); got != before {
		t.Errorf("%v prefixes and ports are left of a table that could not be written, want %v", got, before)
	}
	a := w.actor()
	a.expect("EPERM", "connect udp4 127.0.0.1:2001")
	a.expect("ok", "connect udp4 127.0.0.1:1001")
}

func manyPorts() string {
	ports := make([]string, 300)
	for i := range ports {
		ports[i] = fmt.Sprint(1 + 200*i)
	}
	return "\tnetwork: {egress: {allow: [{ports: [" + strings.Join(ports, ", ") + "]}]}}"
}

// entries counts what is in the maps of prefixes and ports.
func (w *world) entries() (n [2]int) {
	w.t.Helper()
	var prefix bpfVgNetPrefixKey
	var port bpfVgNetPortKey
	var v uint32
	it := w.backend.objs.VgNetPrefixes.Iterate()
	for it.Next(&prefix, &v) {
		n[0]++
	}
	if err := it.Err(); err != nil {
		w.t.Fatal(err)
	}
	it = w.backend.objs.VgNetPorts.Iterate()
	for it.Next(&port, &v) {
		n[1]++
	}
	if err := it.Err(); err != nil {
		w.t.Fatal(err)
	}
	return n
}
