// SPDX-License-Identifier: Apache-2.0

// Package testkit is what the kernel tests share: a host with one sensor running whose events can be
// awaited, network namespaces that go away again, and checks of what a test may need. Only tests import it.
package testkit

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor"
)

// Deadline bounds how long a test waits for something that must happen. Generous: machines are shared.
const Deadline = 20 * time.Second

// RequireBPF skips the test with the missing capability when it cannot load BPF programs.
func RequireBPF(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN) to load BPF programs")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)")
	}
}

// Kernel is a host with running sensors, and everything that they have reported.
type Kernel struct {
	Host   *kernel.Host
	Losses *pipeline.Losses

	mu     sync.Mutex
	events []*model.Event
	errs   []error
}

// StartSensor opens a host, starts the sensors on it and collects their events until the test ends.
func StartSensor(t testing.TB, sensors ...sensor.Sensor) *Kernel {
	t.Helper()
	RequireBPF(t)
	k := &Kernel{Losses: new(pipeline.Losses)}
	host, err := kernel.Open(kernel.Options{Log: slog.New(slog.DiscardHandler), Losses: k.Losses})
	if err != nil {
		t.Fatal(err)
	}
	k.Host = host
	var decode [kernel.RecordTypes]sensor.Decode
	ctx, cancel := context.WithCancel(context.Background())
	for _, s := range sensors {
		if err := s.Start(ctx, host); err != nil {
			t.Fatalf("start sensor %s: %v", s.Name(), err)
		}
		for typ, d := range s.Decoders() {
			decode[typ] = d
		}
	}
	var done sync.WaitGroup
	lastFlush := time.Now()
	done.Go(func() {
		err := host.Read(ctx, func(r kernel.Record) { k.take(r, &decode) }, func() {
			if time.Since(lastFlush) > 200*time.Millisecond {
				lastFlush = time.Now()
				k.flush(sensors)
			}
		})
		if err != nil {
			k.fail(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := host.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
		for _, err := range k.errs {
			t.Error(err)
		}
	})
	return k
}

// Inventory runs the sensor's inventory and collects its events with the rest.
func (k *Kernel) Inventory(t testing.TB, s sensor.Sensor) {
	t.Helper()
	var decode [kernel.RecordTypes]sensor.Decode
	for typ, d := range s.Decoders() {
		decode[typ] = d
	}
	err := s.(sensor.Inventory).Inventory(context.Background(), k.Host, func(r kernel.Record) error {
		k.take(r, &decode)
		return nil
	})
	if err != nil {
		t.Fatalf("inventory of sensor %s: %v", s.Name(), err)
	}
}

func (k *Kernel) take(r kernel.Record, decode *[kernel.RecordTypes]sensor.Decode) {
	h := r.Header()
	if h == nil || int(h.Type) >= len(decode) || decode[h.Type] == nil {
		k.fail(fmt.Errorf("record of %d bytes, header %+v, has no decoder", len(r), h))
		return
	}
	ev := &model.Event{BootTime: h.Time, Key: h.Key(), TID: h.Tid, Count: h.Count,
		PreExisting: h.Flags&kernel.FlagPreExisting != 0}
	keep, err := decode[h.Type](r, ev)
	if err != nil {
		k.fail(fmt.Errorf("decode record type %d: %w", h.Type, err))
	}
	if keep {
		k.add(ev)
	}
}

func (k *Kernel) flush(sensors []sensor.Sensor) {
	for _, s := range sensors {
		if f, ok := s.(sensor.Flusher); ok {
			if err := f.Flush(k.add, false); err != nil {
				k.fail(fmt.Errorf("flush sensor %s: %w", s.Name(), err))
			}
		}
	}
}

func (k *Kernel) add(ev *model.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, ev)
}

func (k *Kernel) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs = append(k.errs, err)
}

// Events returns what was reported so far and matches.
func (k *Kernel) Events(match func(*model.Event) bool) []*model.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*model.Event
	for _, e := range k.events {
		if match(e) {
			out = append(out, e)
		}
	}
	return out
}

// Await returns the first event that matches, waiting for it; the test fails when it does not come.
func (k *Kernel) Await(t testing.TB, what string, match func(*model.Event) bool) *model.Event {
	t.Helper()
	for end := time.Now().Add(Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := k.Events(match); len(got) > 0 {
			return got[0]
		}
	}
	t.Fatalf("%s was not reported within %v", what, Deadline)
	return nil
}

// PID is this process's id.
func PID() int { return os.Getpid() }

// RealPath is path with its symbolic links resolved, as the kernel reports it.
func RealPath(t testing.TB, path string) string {
	t.Helper()
	p, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// CheckNamespaces compares namespaces with those of this process, as /proc shows them.
func CheckNamespaces(t testing.TB, got model.Namespaces) {
	t.Helper()
	for _, c := range []struct {
		name string
		got  uint32
	}{{"uts", got.UTS}, {"ipc", got.IPC}, {"mnt", got.Mnt}, {"pid", got.PID}, {"net", got.Net},
		{"cgroup", got.Cgroup}, {"user", got.User}, {"time", got.Time}} {
		link, err := os.Readlink("/proc/self/ns/" + c.name)
		if err != nil {
			continue // the kernel has no such namespace
		}
		if want := fmt.Sprintf("%s:[%d]", c.name, c.got); link != want {
			t.Errorf("namespace is %s, want %s", want, link)
		}
	}
}

// Run runs a command and returns its pid and combined output; the test fails only if it cannot be started.
func Run(t testing.TB, attr *syscall.SysProcAttr, argv ...string) (pid int, output string) {
	t.Helper()
	var out strings.Builder
	cmd := command(argv, attr, &out)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", argv, err)
	}
	_ = cmd.Wait()
	return cmd.Process.Pid, out.String()
}
