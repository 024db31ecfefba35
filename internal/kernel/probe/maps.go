// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// creates is a test that is passed by creating a map.
func creates(spec ebpf.MapSpec) func(*env) error {
	return func(*env) error {
		s := spec
		s.Name = progName
		m, err := ebpf.NewMap(&s)
		if err != nil {
			return step("create a map", err)
		}
		return m.Close()
	}
}

// ring is a ring buffer of the smallest size: one page, which every kernel takes.
func ring(mapType ebpf.MapType) ebpf.MapSpec {
	return ebpf.MapSpec{Type: mapType, MaxEntries: uint32(os.Getpagesize())}
}

// storage is a map whose values live in a kernel object: a socket, a task, a cgroup, an inode. It
// must describe its key and value with BTF.
func storage(mapType ebpf.MapType) ebpf.MapSpec {
	return ebpf.MapSpec{
		Type: mapType, KeySize: 4, ValueSize: 8, Flags: unix.BPF_F_NO_PREALLOC,
		Key:   &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Value: &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed},
	}
}
