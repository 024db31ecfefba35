//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What TracingPolicies are made of in the kernel. The filter of a hook is a program that the agent writes for it,
 * with the policy's values as operands of its instructions; here are the functions that such programs call, and
 * the programs that are the same for all.
 *
 * Hooks, and why:
 *   tp_btf/sys_enter, sys_exit      every system call by one dispatcher, and from there to what was generated for its
 *                                   number: a number that no policy names costs one missed look-up. Attached only while a
 *                                   policy needs them. Arguments are the registers, at the exit too
 *   tp_btf/sched_process_fork       followChildren and followForks: a child is in its parent's sets
 *   tp_btf/sched_process_exec       namespaces and capabilities that a process begins with, for the filters of changes
 *   iter/task                       both for what ran before the policy: a pass over all processes
 * The generated programs are of whatever type their hook takes.
 *
 * Works from 5.17 with BTF. Fails open: a hit that cannot be looked at is counted, and the call goes on.
 */
#include "record.h"
#include "walk.h"
#include "read.h"
#include "net.h"
#include "filter.h"
#include "act.h"
#include "regs.h"

VG_EXPORT(struct, vg_probe);
VG_EXPORT(struct, vg_probe_slot);
VG_EXPORT(struct, vg_probe_sock);
VG_EXPORT(struct, vg_probe_scratch);
VG_EXPORT(struct, vg_pattern);
VG_EXPORT(struct, vg_text_key);
VG_EXPORT(struct, vg_rate);
VG_EXPORT(struct, vg_image);
VG_EXPORT(struct, vg_cred);
VG_EXPORT(struct, vg_cgroup_ref);
VG_EXPORT(enum, vg_slot_kind);

/* By system call number, which is below 512 on every target. Never full. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 512);
	__type(key, u32);
	__type(value, u32);
} vg_enter_calls SEC(".maps"), vg_exit_calls SEC(".maps");

SEC("tp_btf/sys_enter")
int vg_probe_enter(u64 *ctx)
{
	bpf_tail_call(ctx, &vg_enter_calls, ctx[1]);
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_probe_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];

	bpf_tail_call(ctx, &vg_exit_calls, vg_sys_nr(regs));
	return 0;
}

/* A 32-bit system call: its number means another call. */
VG_LIB u64 vg_compat(void)
{
	return vg_sys_compat(bpf_get_current_task_btf()) != 0;
}

/* A child begins in the sets of its parent. Threads share their leader's. */
SEC("tp_btf/sched_process_fork")
int vg_follow_fork(u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	struct task_struct *leader = parent->group_leader;
	u64 *bits;

	if (child->pid != child->tgid || !leader)
		return 0;
	bits = bpf_task_storage_get(&vg_follow, leader, 0, 0);
	if (bits && *bits)
		vg_follow_add(child, *bits);
	return 0;
}

/* How many processes the last pass put into a set that they were not in. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} vg_follow_changed SEC(".maps");

/* One pass of inheritance over the processes that run; repeated until nothing changes. */
SEC("iter/task")
int vg_follow_inherit(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task, *parent;
	u64 *bits, *own, *changed, mine = 0;
	u32 zero = 0;

	if (!t || t->pid != t->tgid)
		return 0;
	parent = t->real_parent;
	if (parent)
		parent = parent->group_leader;
	if (!parent)
		return 0;
	bits = bpf_task_storage_get(&vg_follow, parent, 0, 0);
	if (!bits || !*bits)
		return 0;
	own = bpf_task_storage_get(&vg_follow, t, 0, 0);
	if (own)
		mine = *own;
	if ((mine | *bits) == mine)
		return 0;
	vg_follow_add(t, *bits);
	changed = bpf_map_lookup_elem(&vg_follow_changed, &zero);
	if (changed)
		(*changed)++;
	return 0;
}

/* What a process begins with, for matchNamespaceChanges and matchCapabilityChanges: at its exec, */
SEC("tp_btf/sched_process_exec")
int vg_change_exec(u64 *ctx)
{
	struct vg_baseline *b = bpf_task_storage_get(&vg_baselines, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (b)
		vg_fill_baseline(b, bpf_get_current_task_btf());
	else
		vg_lose(VG_LOST_PROBE_EVENT);
	return 0;
}

/* of a child without one: what its parent began with, */
SEC("tp_btf/sched_process_fork")
int vg_change_fork(u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	struct task_struct *leader = parent->group_leader;
	struct vg_baseline *b;

	if (child->pid != child->tgid || !leader)
		return 0;
	b = bpf_task_storage_get(&vg_baselines, leader, 0, 0);
	if (b && !bpf_task_storage_get(&vg_baselines, child, b, BPF_LOCAL_STORAGE_GET_F_CREATE))
		vg_lose(VG_LOST_PROBE_EVENT);
	return 0;
}

/* and of what runs already: what it has now. */
SEC("iter/task")
int vg_change_iter(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct vg_baseline *b;

	if (!t || t->pid != t->tgid)
		return 0;
	b = bpf_task_storage_get(&vg_baselines, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (b)
		vg_fill_baseline(b, t);
	return 0;
}

/*
 * Never loaded: it names the functions, so that the object holds them and the agent can take them out. Calls through
 * volatile values keep the compiler from seeing through any.
 */
SEC("tp_btf/sys_enter")
int vg_library(u64 *ctx)
{
	volatile u64 any = ctx[1];
	struct vg_probe_scratch *s = vg_take();
	struct vg_probe_slot *slot;
	u64 x = any;

	if (!s)
		return 0;
	slot = vg_slots(s);
	x += vg_begin(s, any, any, any) + vg_exe(s, bpf_get_current_task_btf()) + vg_parent_exe(s);
	x += vg_image_of(s, any) + vg_cached(s, &vg_tracked, any) + vg_cache(s, &vg_tracked, any, any);
	x += vg_arg_text(s, slot, any) + vg_arg_bytes(s, slot, any, any, any) + vg_arg_iovec(s, slot, any, any);
	x += vg_arg_path(s, slot, any) + vg_arg_file(s, slot, any) + vg_arg_fd(s, slot, any);
	x += vg_arg_dentry(s, slot, any) + vg_arg_kiocb(s, slot, any) + vg_arg_binprm(s, slot, any);
	x += vg_arg_filename(s, slot, any) + vg_arg_module(s, slot, any) + vg_arg_load_info(s, slot, any);
	x += vg_arg_bpf_map(s, slot, any) + vg_arg_bpf_prog(s, slot, any) + vg_arg_net_device(s, slot, any);
	x += vg_arg_perf_event(s, slot, any) + vg_arg_user_ns(s, slot, any) + vg_arg_bpf_attr(s, slot, any);
	x += vg_arg_cred(s, slot, any) + vg_cap_set(any, any) + vg_arg_sock(s, slot, any);
	x += vg_arg_socket(s, slot, any) + vg_arg_skb(s, slot, any) + vg_arg_sockaddr(s, slot, any);
	x += vg_arg_sockaddr_un(s, slot, any) + vg_track(s, any) + vg_untrack(any);
	x += vg_in_texts(s, s->tail, any, &vg_tracked) + vg_in_prefixes(s, s->tail, any, &vg_tracked);
	x += vg_in_suffixes(s, s->tail, any, &vg_tracked) + vg_substring(s->tail, any, (struct vg_pattern *)s->tail);
	x += vg_in_cgroups(&vg_tracked) + vg_ns_pid() + vg_ns_pid_of(bpf_get_current_task_btf()) + vg_namespace(any) + vg_own_caps(any);
	x += vg_followed(any) + vg_follow_add(bpf_get_current_task_btf(), any);
	x += vg_follow_renew(bpf_get_current_task_btf(), any, any) + vg_compat();
	x += vg_changed_namespaces() + vg_changed_caps(any);
	x += vg_limited(s, &vg_tracked, any, any) + vg_stack(ctx, s, any) + vg_emit(s);
	x += vg_defer(&vg_follow) + vg_deferred(&vg_follow) + vg_unjudged();
	x += vg_stash(s, &vg_tracked) + vg_unstash(s, &vg_tracked, any) + vg_tally(&vg_tracked, any);
	return x;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
