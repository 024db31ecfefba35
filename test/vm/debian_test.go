// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSundayMorning(t *testing.T) {
	begin := time.Date(2026, 11, 20, 23, 59, 0, 0, time.UTC)
	for day := range 14 {
		now := begin.AddDate(0, 0, day)
		got := sundayMorning(now)
		if got.Weekday() != time.Sunday || got.Hour() != 6 || !got.After(now) || got.Sub(now) > 8*24*time.Hour {
			t.Errorf("on %v: %v", now, got)
		}
	}
}

func TestGuestsOnDisksAndWithout(t *testing.T) {
	disks := strings.Join(guest{kernel: "k", root: "r.ext4", tests: "t.ext4", cpus: 1, memory: "2G", clock: time.Unix(0, 0).UTC()}.args(), " ")
	for _, want := range []string{"-smp 1 -m 2G", "-snapshot", "file=r.ext4", "nvme,drive=root", "file=t.ext4", "virtio-blk-pci,drive=tests", "base=1970-01-01T00:00:00"} {
		if !strings.Contains(disks, want) {
			t.Errorf("no %s in %s", want, disks)
		}
	}
	memory := strings.Join(guest{kernel: "k", initrd: "i.cpio", cpus: 2, memory: "1G", append: "rdinit=/init"}.args(), " ")
	if !strings.Contains(memory, "-initrd i.cpio") || !strings.Contains(memory, "rdinit=/init") || strings.Contains(memory, "-drive") || strings.Contains(memory, "-rtc") {
		t.Error(memory)
	}
}

func TestDisksAreWholeOrAbsent(t *testing.T) {
	if _, err := exec.LookPath("/sbin/mkfs.ext4"); err != nil {
		t.Skipf("needs e2fsprogs: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.ext4")
	if err := ext4(context.Background(), filepath.Join(dir, "none"), disk, "8M"); err == nil {
		t.Error("a disk was made of a folder that is not there")
	}
	if _, err := os.Stat(disk); err == nil {
		t.Error("half a disk is left")
	}
	if err := ext4(context.Background(), dir, disk, "8M"); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(disk); err != nil || fi.Size() != 8<<20 {
		t.Errorf("%v, %v", fi, err)
	}
}
