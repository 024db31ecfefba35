// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// callName is the name of a system call, whose number is the running architecture's.
func callName(nr uint32) string {
	switch nr {
	case unix.SYS_SETUID:
		return "setuid"
	case unix.SYS_SETGID:
		return "setgid"
	case unix.SYS_SETREUID:
		return "setreuid"
	case unix.SYS_SETREGID:
		return "setregid"
	case unix.SYS_SETRESUID:
		return "setresuid"
	case unix.SYS_SETRESGID:
		return "setresgid"
	case unix.SYS_SETFSUID:
		return "setfsuid"
	case unix.SYS_SETFSGID:
		return "setfsgid"
	case unix.SYS_SETGROUPS:
		return "setgroups"
	case unix.SYS_CAPSET:
		return "capset"
	case unix.SYS_UNSHARE:
		return "unshare"
	case unix.SYS_SETNS:
		return "setns"
	case unix.SYS_CLONE, unix.SYS_CLONE3:
		return "clone"
	case unix.SYS_PROCESS_VM_READV:
		return "process_vm_readv"
	case unix.SYS_PROCESS_VM_WRITEV:
		return "process_vm_writev"
	case unix.SYS_MOUNT:
		return "mount"
	case unix.SYS_UMOUNT2:
		return "umount"
	case unix.SYS_MOVE_MOUNT:
		return "move_mount"
	case unix.SYS_PIVOT_ROOT:
		return "pivot_root"
	case unix.SYS_MOUNT_SETATTR:
		return "mount_setattr"
	}
	return number(nr)
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// namespaceKinds are the namespaces with their clone flags and the field that holds each.
var namespaceKinds = [...]struct {
	name  string
	flag  uint64
	inode func(*model.Namespaces) uint32
}{
	{"mnt", unix.CLONE_NEWNS, func(n *model.Namespaces) uint32 { return n.Mnt }},
	{"net", unix.CLONE_NEWNET, func(n *model.Namespaces) uint32 { return n.Net }},
	{"pid", unix.CLONE_NEWPID, func(n *model.Namespaces) uint32 { return n.PID }},
	{"user", unix.CLONE_NEWUSER, func(n *model.Namespaces) uint32 { return n.User }},
	{"uts", unix.CLONE_NEWUTS, func(n *model.Namespaces) uint32 { return n.UTS }},
	{"ipc", unix.CLONE_NEWIPC, func(n *model.Namespaces) uint32 { return n.IPC }},
	{"cgroup", unix.CLONE_NEWCGROUP, func(n *model.Namespaces) uint32 { return n.Cgroup }},
	{"time", unix.CLONE_NEWTIME, func(n *model.Namespaces) uint32 { return n.Time }},
}

func flagNames(flags uint64) (names []string) {
	for _, k := range &namespaceKinds {
		if flags&k.flag != 0 {
			names = append(names, k.name)
		}
	}
	return names
}

// changed names the namespaces in which a and b differ.
func changed(a, b *model.Namespaces) (names []string) {
	for _, k := range &namespaceKinds {
		if k.inode(a) != k.inode(b) {
			names = append(names, k.name)
		}
	}
	return names
}

// joined names the namespace of n with that inode number.
func joined(n *model.Namespaces, inode uint64) []string {
	for _, k := range &namespaceKinds {
		if uint64(k.inode(n)) == inode {
			return []string{k.name}
		}
	}
	return nil
}

// progTypes are the kernel's names, enum bpf_prog_type in lower case without its prefix.
var progTypes = [...]string{"unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp",
	"perf_event", "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb",
	"cgroup_device", "sk_msg", "raw_tracepoint", "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2",
	"sk_reuseport", "flow_dissector", "cgroup_sysctl", "raw_tracepoint_writable", "cgroup_sockopt", "tracing",
	"struct_ops", "ext", "lsm", "sk_lookup", "syscall", "netfilter"}

func progType(n uint32) string {
	if int(n) < len(progTypes) {
		return progTypes[n]
	}
	return number(n)
}
