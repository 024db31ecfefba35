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

// opaque is a map value that holds one of the kernel's own structures, known to it by name.
func opaque(name string, words uint32) ebpf.MapSpec {
	word := &btf.Int{Name: "unsigned long long", Size: 8}
	inner := &btf.Struct{Name: name, Size: 8 * words, Members: []btf.Member{
		{Name: "__opaque", Type: &btf.Array{Index: &btf.Int{Name: "int", Size: 4}, Type: word, Nelems: words}}}}
	return ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 8 * words, MaxEntries: 1,
		Key:   &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Value: &btf.Struct{Name: "value", Size: 8 * words, Members: []btf.Member{{Name: "field", Type: inner}}},
	}
}

// spinLock is a map whose value holds a lock: struct bpf_spin_lock of include/uapi/linux/bpf.h, four
// bytes at the value's start.
func spinLock() ebpf.MapSpec {
	word := &btf.Int{Name: "unsigned int", Size: 4}
	lock := &btf.Struct{Name: "bpf_spin_lock", Size: 4, Members: []btf.Member{{Name: "val", Type: word}}}
	return ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1,
		Key: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Value: &btf.Struct{Name: "value", Size: 8, Members: []btf.Member{
			{Name: "lock", Type: lock}, {Name: "count", Type: word, Offset: 32}}},
	}
}
