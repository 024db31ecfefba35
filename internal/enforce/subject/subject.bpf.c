//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which process is under which policies. A process is entered in vg_subjects before it runs its first instruction, and
 * every other back-end only looks there.
 *
 * Hooks, and why:
 *   tp_btf/sched_process_fork   the child inherits, before it runs
 *   tp_btf/sched_process_exec   the new binary is in place and has run nothing: it is judged (the last chance to stop
 *                               an exec that no earlier hook saw, such as that of a memfd), then entered
 *   tp_btf/sched_process_exit   takes the entry away; notices the end of the agent itself
 *   tp_btf/sys_exit             of setuid and its like, when a policy selects by user: a server that drops its rights
 *   tp_btf/cgroup_attach_task   a process that moves to another workload
 *   tp_btf/cgroup_mkdir         a new cgroup is of its parent's policies, or of those of a unit with its name
 *   tp_btf/cgroup_rmdir         forgets it
 *   iter/task                   processes that are there when policies change
 * Works from 5.17 with BTF (bpf_loop); needs no trampoline. Fails open: a process whose entry cannot be made is under no
 * policy, which is counted (VG_LOST_SUBJECT_TABLE_FULL, VG_LOST_POLICY_SLOTS_FULL).
 */
#include "enter.h"
#include "regs.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

SEC("tp_btf/sched_process_fork")
int vg_subject_fork(u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0], *child = (struct task_struct *)ctx[1];
	struct vg_cgroup_ref of_parent, of_child;
	struct vg_subject *p;
	struct vg_scratch *s;
	u32 key = parent->tgid;

	if (child->pid != child->tgid)
		return 0;
	p = vg_subject_of(key);
	vg_fill_cgroup(&of_parent, parent);
	vg_fill_cgroup(&of_child, child);
	if (of_parent.id != of_child.id || of_parent.hierarchy != of_child.hierarchy) {
		enter_anew(child, VG_SCRATCH_HOOK); /* CLONE_INTO_CGROUP */
		return 0;
	}
	if (!p)
		return 0;
	s = scratch(VG_SCRATCH_HOOK);
	if (!s)
		return 0;
	s->next = *p;
	s->next.start = child->group_leader->start_boottime;
	s->next.exec = child->self_exec_id;
	for (int i = 0; i < VG_SLOTS; i++) {
		struct vg_slot *slot = &s->next.slots[i];
		struct vg_table *t;

		if (i >= s->next.count)
			break;
		t = vg_table_of(slot->table);
		if (t && t->flags & VG_TABLE_PARENT) /* the child's parent runs the same binary */
			slot->subject = vg_subject_number(t, slot->binary, slot->binary);
	}
	put(child->tgid, &s->next);
	return 0;
}

/* Judges an exec that has happened, by the entry of the image that did it. */
static __always_inline void judge_exec(struct vg_scratch *s, struct task_struct *t, const struct vg_subject *before)
{
	struct vg_policies *p = policies();
	struct vg_verdict *v = vg_verdict_of(&s->binary);
	struct inode *inode = BPF_CORE_READ(t, mm, exe_file, f_inode);
	struct vg_inode_key object = {};
	struct vg_answer a = {};
	u32 n = before->count, *class;

	if (inode) {
		object.inode = BPF_CORE_READ(inode, i_ino);
		object.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	}
	for (u32 i = 0; i < VG_SLOTS && i < n; i++) {
		struct vg_slot slot = before->slots[i];
		struct vg_table *table = vg_table_of(slot.table);

		if (!table || !(table->flags & VG_TABLE_EXEC))
			continue;
		vg_stronger(&a, slot.table,
			    vg_decide_file(table, vg_class(&table->paths, &s->binary), slot.subject, VG_ACCESS_EXEC));
		if (!(table->flags & VG_TABLE_INODES))
			continue;
		object.table = slot.table;
		class = bpf_map_lookup_elem(&vg_inodes, &object); /* by whatever name it was called */
		if (class)
			vg_stronger(&a, slot.table, vg_decide_file(table, *class, slot.subject, VG_ACCESS_EXEC));
	}
	switch (vg_action(a.decision)) {
	case VG_ACT_ALLOW:
		return;
	case VG_ACT_AUDIT:
		if (!p || !p->exec_audit)
			return;
		break;
	default:
		bpf_send_signal(9 /* SIGKILL */);
	}
	if (!vg_begin_verdict(v, &a, t, VG_OP_EXEC, VG_HOOK_EXEC_KILL, object.inode))
		return;
	if (v->action == VG_ACT_DENY)
		v->action = VG_ACT_KILL;
	vg_tell_path(&s->binary);
	climb_exe(&s->binary, t);
}

SEC("tp_btf/sched_process_exec")
int vg_subject_exec(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[0];
	u32 pid = t->tgid;
	struct vg_subject *before = vg_subject_of(pid);
	struct vg_policies *p = policies();
	struct vg_scratch *s;

	if (!before && !(p && p->selectors))
		return 0;
	s = scratch(VG_SCRATCH_HOOK);
	if (!s)
		return 0;
	climb_exe(&s->binary, t);
	if (before)
		judge_exec(s, t, before);
	enter(s, t, cgroup_of(t), before);
	if (before || s->next.count)
		put(pid, &s->next);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int vg_subject_exit(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[0];
	struct vg_policies *p;
	u32 pid = t->tgid;

	if (t->signal->live.counter != 0)
		return 0;
	bpf_map_delete_elem(&vg_subjects, &pid);
	p = policies();
	if (p && p->agent == pid)
		p->gone = 1;
	return 0;
}

/* Set before load: the numbers of setuid, setreuid and setresuid. */
const volatile u32 vg_setuid_calls[3] = {};

SEC("tp_btf/sys_exit")
int vg_subject_user(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	u64 nr = vg_sys_nr(regs);

	if ((nr != vg_setuid_calls[0] && nr != vg_setuid_calls[1] && nr != vg_setuid_calls[2]) || (s64)ctx[1] || vg_sys_compat(t))
		return 0;
	enter_anew(t, VG_SCRATCH_HOOK);
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int vg_subject_moved(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[2];

	enter_anew(t, VG_SCRATCH_HOOK);
	return 0;
}

static __always_inline struct cgroup *parent_of(struct cgroup *cg)
{
	return (void *)BPF_CORE_READ(cg, self.parent, cgroup);
}

SEC("tp_btf/cgroup_mkdir")
int vg_subject_mkdir(u64 *ctx)
{
	struct cgroup *cg = (struct cgroup *)ctx[0], *parent = parent_of(cg);
	struct vg_cgroup_ref ref = {}, above = {};
	struct vg_cgroup_policies *c;
	struct vg_scratch *s;

	ref.id = BPF_CORE_READ(cg, kn, id);
	ref.hierarchy = BPF_CORE_READ(cg, root, hierarchy_id);
	above.id = BPF_CORE_READ(parent, kn, id);
	above.hierarchy = ref.hierarchy;
	c = bpf_map_lookup_elem(&vg_cgroups, &above);
	if (!c) {
		s = scratch(VG_SCRATCH_HOOK);
		if (!s)
			return 0;
		__builtin_memset(&s->unit, 0, sizeof(s->unit));
		bpf_probe_read_kernel_str(s->unit.name, sizeof(s->unit.name), BPF_CORE_READ(cg, kn, name));
		c = bpf_map_lookup_elem(&vg_units, &s->unit);
	}
	if (c && bpf_map_update_elem(&vg_cgroups, &ref, c, BPF_ANY))
		vg_lose(VG_LOST_SUBJECT_TABLE_FULL);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int vg_subject_rmdir(u64 *ctx)
{
	struct cgroup *cg = (struct cgroup *)ctx[0];
	struct vg_cgroup_ref ref = {};

	ref.id = BPF_CORE_READ(cg, kn, id);
	ref.hierarchy = BPF_CORE_READ(cg, root, hierarchy_id);
	bpf_map_delete_elem(&vg_cgroups, &ref);
	return 0;
}

/*
 * Enters each process anew. An exec may happen while this runs: its own hook writes the entry of the new image, which
 * this may then have overwritten with that of the old. So it looks again when it has written.
 */
SEC("iter/task")
int vg_subject_all(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	u64 exec;

	if (!t || t->pid != t->tgid || t->flags & PF_KTHREAD)
		return 0;
	exec = *(volatile u64 *)&t->self_exec_id;
	enter_anew(t, VG_SCRATCH_ITER);
	if (*(volatile u64 *)&t->self_exec_id != exec)
		enter_anew(t, VG_SCRATCH_ITER);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
