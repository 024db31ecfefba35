// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"debug/elf"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor/l7/site"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/testkit"
)

const (
	request = "GET /api/v1/orders/4711/items?page=2 HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: bench\r\nAccept: application/json\r\n" +
		"Cookie: session=0123456789abcdef0123456789abcdef\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
	answerHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)

// BenchmarkHTTP has one thread ask and answer over loopback, by turns with the agent's sensors that are always there, and
// with this one beside them. What is compared is that thread's CPU time, softirqs and programs included.
func BenchmarkHTTP(b *testing.B) {
	for _, size := range []int{600, 100_000} {
		b.Run(fmt.Sprintf("body of %d", size), func(b *testing.B) { compareHTTP(b, size) })
	}
}

func compareHTTP(b *testing.B, size int) {
	testkit.RequireBPF(b)
	ns := testkit.NewNetNS(b)
	const n = 2000
	took := map[string][]time.Duration{}
	told := 0 // what is not told was lost to a full ring, and counted
	for b.Loop() {
		for _, arm := range []string{"off", "on"} {
			detach := attach(b, arm == "on")
			var t time.Duration
			ns.Do(b, func() (err error) { t, err = converse(n, size); return err })
			seen := detach()
			took[arm] = append(took[arm], t/n)
			if arm == "on" {
				told += seen
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(took["on"])), "n")
	for _, v := range took {
		slices.Sort(v)
	}
	m := len(took["on"]) / 2
	b.ReportMetric(float64(took["off"][m].Nanoseconds()), "off-ns")
	b.ReportMetric(float64(took["on"][m].Nanoseconds()), "on-ns")
	b.ReportMetric(float64(took["on"][m])/float64(took["off"][m]), "on-median-ratio")
	b.ReportMetric(float64(took["on"][0])/float64(took["off"][0]), "on-min-ratio")
	b.ReportMetric(float64(told)/float64(2*n*len(took["on"])), "told")
}

// converse makes a connection, and has n requests asked and answered on it; it returns the thread's CPU time.
func converse(n, size int) (time.Duration, error) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(l)
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(c)
	at := &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}
	for _, step := range []func() error{func() error { return unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		func() error { return unix.Bind(l, at) }, func() error { return unix.Listen(l, 1) }, func() error { return unix.Connect(c, at) }} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	s, _, err := unix.Accept(l)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	asks, answers := []byte(request), append(fmt.Appendf(nil, answerHead, size), make([]byte, size)...)
	buf := make([]byte, 16<<10)
	var begin, end unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &begin); err != nil {
		return 0, err
	}
	for range n {
		for _, way := range []struct {
			from, to int
			what     []byte
		}{{c, s, asks}, {s, c, answers}} {
			for rest := way.what; len(rest) > 0; {
				k, err := unix.Write(way.from, rest[:min(len(rest), len(buf))])
				if err != nil {
					return 0, err
				}
				rest = rest[k:]
				for got := 0; got < k; {
					r, err := unix.Read(way.to, buf)
					if err != nil {
						return 0, err
					}
					got += r
				}
			}
		}
	}
	err = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &end)
	return time.Duration(end.Nano() - begin.Nano()), err
}

// BenchmarkDecode is the agent's CPU for a request: from the records of the kernel to the event.
func BenchmarkDecode(b *testing.B) {
	s := New(Options{Choice: &Choice{everybody: true}})
	asks := record(request, flagSent)
	answers := record(fmt.Sprintf(answerHead, 600)+strings.Repeat("x", 600), 0)
	told := 0
	b.ReportAllocs()
	for i := range uint32(b.N) {
		for _, r := range [][]byte{asks, answers} {
			v, _, err := kernel.View[bpfVgL7](r)
			if err != nil {
				b.Fatal(err)
			}
			v.Pos, v.H.Time = i*v.Size, uint64(i)
			ev := &model.Event{BootTime: v.H.Time, Key: kernel.Record(r).Header().Key()}
			keep, err := s.decode(r, ev)
			if err != nil {
				b.Fatal(err)
			}
			if keep {
				told++
			}
		}
	}
	if told != b.N {
		b.Fatalf("%d requests were told, of %d", told, b.N)
	}
}

// record is a record as the kernel writes it.
func record(text string, flags uint8) []byte {
	v := bpfVgL7{Conn: 1, Size: uint32(len(text)), Len: uint16(len(text)), Flags: flags}
	v.H.Pid, v.H.Start, v.Local[15], v.LocalPort = 1, 1, 1, 80
	return append(slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))), text...)
}

// attach starts the socket sensor, and this one, and decodes what they say; detach returns how many requests were told.
func attach(b *testing.B, on bool) (detach func() int) {
	losses := new(pipeline.Losses)
	host, err := kernel.Open(kernel.Options{Log: slog.New(slog.DiscardHandler), Losses: losses})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := socket.New(socket.Options{}).Start(ctx, host); err != nil {
		b.Fatal(err)
	}
	s := New(Options{Choice: &Choice{everybody: true}, Losses: losses})
	s.self = 0 // this process does both
	if on {
		if err := s.Start(ctx, host); err != nil {
			b.Fatal(err)
		}
	}
	told := 0
	read := make(chan error, 1)
	go func() {
		read <- host.Read(ctx, func(r kernel.Record) {
			h := r.Header()
			if h == nil || kernel.RecordType(h.Type) != kernel.RecordL7 {
				return
			}
			ev := &model.Event{BootTime: h.Time, Key: h.Key(), TID: h.Tid}
			if keep, err := s.decode(r, ev); err == nil && keep {
				told += 1 + len(s.ready)
				s.ready = s.ready[:0]
			}
		}, func() {})
	}()
	return func() int {
		cancel()
		if err := <-read; err != nil {
			b.Error(err)
		}
		if err := host.Close(); err != nil {
			b.Error(err)
		}
		return told
	}
}

// probedSource is a function as Debian builds SSL_read, with nothing in it, and a program that calls it again and again.
const probedSource = `
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
asm(".globl probed\n.type probed,@function\nprobed:\n"
    "sub $0x18,%rsp\n mov %fs:0x28,%rax\n mov %rax,8(%rsp)\n xor %eax,%eax\n test %edx,%edx\n js 1f\n mov $1,%eax\n"
    "1: mov 8(%rsp),%rdx\n sub %fs:0x28,%rdx\n jne 2f\n add $0x18,%rsp\n ret\n2: call abort\n.size probed,.-probed\n");
int probed(void *, void *, int);
int main(int argc, char **argv) {
	struct timespec a, b;
	int n = atoi(argv[1]);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < n; i++) probed(0, 0, 1);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%.0f", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n);
}`

// BenchmarkProbes compares a call that is probed where the kernel does the instruction itself with one that is probed at its
// first instruction, which it steps over, and at its return.
func BenchmarkProbes(b *testing.B) {
	testkit.RequireBPF(b)
	dir := b.TempDir()
	source, bin := filepath.Join(dir, "probed.c"), filepath.Join(dir, "probed")
	if err := os.WriteFile(source, []byte(probedSource), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O1", "-o", bin, source).CombinedOutput(); err != nil {
		b.Skipf("needs gcc for amd64: %v: %s", err, out)
	}
	nothing, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer nothing.Close()
	exe, err := link.OpenExecutable(bin)
	if err != nil {
		b.Fatal(err)
	}
	fn := probedFunction(b, bin)
	moved := probesOfFunction(fn, 1, true)
	took := map[string][]float64{}
	arms := map[string][]probe{"none": nil, "chosen": moved, "first": {{offset: fn.Offset}, {offset: fn.Offset, returns: true}}}
	for b.Loop() {
		for name, probes := range arms {
			var links []link.Link
			for _, p := range probes {
				at := exe.Uprobe
				if p.returns {
					at = exe.Uretprobe
				}
				k, err := at("", nothing, &link.UprobeOptions{Address: p.offset})
				if err != nil {
					b.Fatal(err)
				}
				links = append(links, k)
			}
			out, err := exec.Command(bin, "3000").Output()
			for _, k := range links {
				k.Close()
			}
			ns, parseErr := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			if err != nil || parseErr != nil {
				b.Fatal(err, parseErr)
			}
			took[name] = append(took[name], ns)
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, v := range took {
		slices.Sort(v)
		b.ReportMetric(v[len(v)/2], name+"-median-ns")
		b.ReportMetric(v[0], name+"-min-ns")
	}
	b.ReportMetric(float64(len(took["none"])), "n")
}

func probedFunction(b *testing.B, bin string) site.Function {
	b.Helper()
	f, err := elf.Open(bin)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	found, err := site.Functions(f, func(name string) bool { return name == "probed" })
	if err != nil {
		b.Fatal(err)
	}
	return found[0]
}
