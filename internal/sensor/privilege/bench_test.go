// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

// BenchmarkCapabilityCheck is what the folded use of a capability costs: chroot to where the process is already, a cheap
// call that takes one capability, with and without the program, in turns.
func BenchmarkCapabilityCheck(b *testing.B) {
	testkit.RequireBPF(b)
	spec, err := loadBpf()
	if err != nil {
		b.Fatal(err)
	}
	var programs struct {
		Capable *ebpf.Program `ebpf:"vg_cap_capable"`
	}
	if err := spec.LoadAndAssign(&programs, nil); err != nil {
		b.Skip("needs Linux 6.13 (tracepoint cap_capable): ", err)
	}
	defer programs.Capable.Close()
	const calls = 20000
	run := func() time.Duration {
		begin := time.Now()
		for range calls {
			if err := unix.Chroot("/"); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begin) / calls
	}
	var with, without []time.Duration
	for b.Loop() {
		without = append(without, run())
		l, err := link.AttachTracing(link.TracingOptions{Program: programs.Capable})
		if err != nil {
			b.Fatal(err)
		}
		with = append(with, run())
		l.Close()
	}
	slices.Sort(with)
	slices.Sort(without)
	n := len(with) / 2
	b.ReportMetric(float64(len(with)), "n")
	b.ReportMetric(float64(with[n])/float64(without[n]), "median-ratio")
	b.ReportMetric(float64(with[0])/float64(without[0]), "min-ratio")
	b.ReportMetric(float64(without[n].Nanoseconds()), "ns-without")
	b.ReportMetric(float64(with[n].Nanoseconds()), "ns-with")
}
