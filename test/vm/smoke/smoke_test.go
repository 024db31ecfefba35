// SPDX-License-Identifier: Apache-2.0

// Package smoke proves that a test guest is what the other kernel tests believe it is: BTF is there, LSM
// programs load and attach, the cgroup2 tree is mounted. Nothing flows in or out but the verdict.
package smoke

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// inGuest is set by the guest's init script: there, nothing may be missing.
const inGuest = "VIGIE_VM"

func TestKernelHasBTF(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		unable(t, "kernel BTF", err)
	}
	var task *btf.Struct
	if err := spec.TypeByName("task_struct", &task); err != nil {
		t.Fatal(err)
	}
	if len(task.Members) == 0 {
		t.Error("task_struct has no members")
	}
}

func TestLSMProgramAttaches(t *testing.T) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:       "smoke_lsm",
		Type:       ebpf.LSM,
		AttachType: ebpf.AttachLSMMac,
		AttachTo:   "file_open",
		License:    "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	if err != nil {
		unable(t, "loading LSM programs (CAP_BPF, CAP_PERFMON and a kernel that permits trampolines)", err)
	}
	defer prog.Close()
	l, err := link.AttachLSM(link.LSMOptions{Program: prog})
	if err != nil {
		unable(t, "attaching LSM programs (bpf in the kernel's lsm= list)", err)
	}
	defer l.Close()
	if _, err := os.ReadFile("/proc/self/status"); err != nil {
		t.Errorf("the program allows, but a file cannot be opened: %v", err)
	}
}

func TestCgroup2IsMounted(t *testing.T) {
	if os.Getenv(inGuest) == "" {
		t.Skip("the place of cgroup2 is known only in the test guest; run make test-vm")
	}
	const root = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Fatalf("%s is not cgroup2: magic %#x", root, st.Type)
	}
	sub, err := os.MkdirTemp(root, "smoke-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(sub)
	found := 0
	err = fs.WalkDir(os.DirFS(root), ".", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			found++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 2 {
		t.Errorf("%d folders under %s, wanted the root and the one made here", found, root)
	}
}

// unable skips on a host, whose kernel may lack a feature, and fails in the guest, which must have it.
func unable(t *testing.T, missing string, err error) {
	t.Helper()
	if os.Getenv(inGuest) == "" && (errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrPermission)) {
		t.Skipf("missing on this host: %s: %v", missing, err)
	}
	t.Fatalf("%s: %v", missing, err)
}
