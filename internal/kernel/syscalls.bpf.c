//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Hook: tp_btf/sys_exit, once for the whole agent. Every return from a system call passes here, so the
 * program does one thing: it jumps to what a sensor registered for that number. A number that nobody asked
 * for costs one missed look-up. At the exit the call's effect has happened and its object can be read: an
 * fd is the file that was opened, not the name that was asked for. Fails open: it only observes.
 */
#include "abi.h"
#include "packets.h"
#include "regs.h"
#include "task.h"

VG_EXPORT(struct, vg_header);
VG_EXPORT(struct, vg_image);
VG_EXPORT(struct, vg_cgroup_ref);
VG_EXPORT(struct, vg_cred);
VG_EXPORT(struct, vg_ns);
VG_EXPORT(enum, vg_type);
VG_EXPORT(struct, vg_agent);
VG_EXPORT(enum, vg_lost);

/* By system call number, which is below 512 on every target; a sensor's program, or none. Never full. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 512);
	__type(key, u32);
	__type(value, u32);
} vg_syscalls SEC(".maps");

SEC("tp_btf/sys_exit")
int vg_sys_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];

	if (vg_sys_compat(bpf_get_current_task_btf())) {
		vg_lose(VG_LOST_COMPAT_SYSCALL);
		return 0;
	}
	bpf_tail_call(ctx, &vg_syscalls, vg_sys_nr(regs));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
