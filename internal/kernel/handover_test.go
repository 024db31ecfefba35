// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/pipeline"
	sensorexec "github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/testkit"
)

// bpffs mounts a BPF file system of the test's own and returns a directory in it.
func bpffs(t *testing.T) string {
	t.Helper()
	testkit.RequireBPF(t)
	mount := t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Skipf("needs to mount bpffs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return filepath.Join(mount, "vigie")
}

func startExec(t *testing.T) *kernel.Host {
	t.Helper()
	h, err := kernel.Open(kernel.Options{Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses)})
	if err != nil {
		t.Fatal(err)
	}
	if err := sensorexec.New(sensorexec.Options{}).Start(context.Background(), h); err != nil {
		t.Fatal(err)
	}
	return h
}

func run(t *testing.T) uint32 {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid)
}

func TestAnUpgradeMissesNothing(t *testing.T) {
	dir := bpffs(t)
	first := startExec(t)
	if err := first.Handover(dir); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	between := run(t) // no agent runs

	second := startExec(t)
	defer second.Close()
	during := run(t) // both agents' programs see it
	got, err := second.Inherit(dir)
	if err != nil {
		t.Fatal(err)
	}
	after := run(t)

	execs := make(map[uint32]int)
	count := func(r kernel.Record) {
		if h := r.Header(); h.Type == uint16(kernel.RecordExec) {
			execs[h.Pid]++
		}
	}
	for _, r := range got.Records {
		count(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // Read drains what is there
	if err := second.Read(ctx, count, func() {}); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]uint32{"between": between, "during": during, "after": after} {
		if execs[pid] != 1 {
			t.Errorf("exec %s the agents was reported %d times, want once", name, execs[pid])
		}
	}
	if got.Foreign != 0 || len(got.Losses) != 0 {
		t.Errorf("%d foreign records, losses %v", got.Foreign, got.Losses)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%d entries are left in bpffs", len(left))
	}
}

func TestWithoutHandoverNothingIsInherited(t *testing.T) {
	dir := bpffs(t)
	h := startExec(t)
	defer h.Close()
	if got, err := h.Inherit(dir); err != nil || len(got.Records) != 0 {
		t.Errorf("inherited %+v, %v", got, err)
	}
}
