/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What selects processes, and how one gets its entry in vg_subjects. */
#ifndef VIGIE_ENFORCE_ENTER_H
#define VIGIE_ENFORCE_ENTER_H

#include "policy.h"
#include "climb.h"

#define VG_SELECTORS 64 /* policies that select by user or binary alone: each costs every exec of the host a look */

struct vg_cgroup_policies {
	u32 count;
	u16 policies[VG_SLOTS];
};

/* Cgroups under policies, and all below them. Full: VG_LOST_SUBJECT_TABLE_FULL. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_cgroup_ref);
	__type(value, struct vg_cgroup_policies);
} vg_cgroups SEC(".maps");

#define VG_UNIT_NAME 128 /* longer names are left to the agent */

struct vg_unit {
	char name[VG_UNIT_NAME];
};

/* Policies of units by their exact names, so that a unit that starts is under them at once. Others follow when the agent
 * has seen the new cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_unit);
	__type(value, struct vg_cgroup_policies);
} vg_units SEC(".maps");

/* By policy number: the table in force; 0 is none. As large as vg_tables, the agent sees to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2048);
	__type(key, u32);
	__type(value, u32);
} vg_live SEC(".maps");

/* Numbers of the policies that select by user or binary and not by cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VG_SELECTORS);
	__type(key, u32);
	__type(value, u32);
} vg_selectors SEC(".maps");

struct vg_scratch {
	struct vg_subject next;
	struct vg_text binary, parent;
	struct vg_unit unit;
};

#define VG_SCRATCH_HOOK 0 /* tracepoints: with preemption off */
#define VG_SCRATCH_ITER 1 /* the iterator can be preempted by them */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct vg_scratch);
} vg_scratch SEC(".maps");

VG_EXPORT(struct, vg_cgroup_policies);
VG_EXPORT(struct, vg_unit);

/* A process that is being entered. */
struct vg_entering {
	struct vg_subject *next;
	struct vg_text *binary, *parent;
	const struct vg_cgroup_policies *cgroup; /* or null */
	const struct vg_subject *before;         /* the entry that it had, or its parent's; or null */
	u32 uid;
	u32 has_parent; /* parent holds a path */
};

static __always_inline const struct vg_slot *slot_of_policy(const struct vg_subject *s, u32 policy)
{
	u32 n = s->count;

	for (u32 i = 0; i < VG_SLOTS && i < n; i++) {
		struct vg_table *t = vg_table_of(s->slots[i].table);

		if (t && t->policy == policy)
			return &s->slots[i];
	}
	return 0;
}

/* Enters a process under a policy if that selects it. */
static __noinline int consider(struct vg_entering *e, u32 policy)
{
	struct vg_subject *next = e->next;
	struct vg_text *binary = e->binary, *parent = e->parent;
	const struct vg_subject *before = e->before;
	u32 *live = bpf_map_lookup_elem(&vg_live, &policy);
	u16 class = 0, parent_class = 0;
	struct vg_table *t;
	u32 n;

	if (!live || !*live || !next || !binary || !parent)
		return 0;
	t = vg_table_of(*live);
	if (!t)
		return 0;
	if ((t->flags & VG_TABLE_USER && e->uid != t->uid) ||
	    (t->flags & VG_TABLE_BINARY && !vg_class(&t->select, binary))) {
		/* Once selected, always: it and what it starts cannot leave by another binary or user. */
		if (!before || !slot_of_policy(before, policy))
			return 0;
	}
	n = next->count;
	if (n >= VG_SLOTS) {
		vg_lose(VG_LOST_POLICY_SLOTS_FULL);
		return 0;
	}
	if (t->subjects > 1 || t->flags & VG_TABLE_PARENT) {
		class = vg_class(&t->paths, binary);
		if (t->flags & VG_TABLE_PARENT && e->has_parent)
			parent_class = vg_class(&t->paths, parent);
	}
	next->slots[n].table = *live;
	next->slots[n].binary = class;
	next->slots[n].subject = vg_subject_number(t, class, parent_class);
	next->slots[n].pad = 0;
	next->count = n + 1;
	return 0;
}

static long consider_cgroup(u32 i, struct vg_entering *e)
{
	const struct vg_cgroup_policies *c = e->cgroup;

	if (!c || i >= c->count || i >= VG_SLOTS)
		return 1;
	consider(e, c->policies[i]);
	return 0;
}

static long consider_selector(u32 i, struct vg_entering *e)
{
	u32 key = i, *policy = bpf_map_lookup_elem(&vg_selectors, &key);

	if (!policy)
		return 1;
	consider(e, *policy);
	return 0;
}

static __always_inline struct vg_policies *policies(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&vg_policy_state, &zero);
}

static __always_inline void climb_exe(struct vg_text *text, struct task_struct *t)
{
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);

	text->pos = VG_TEXT_MAX;
	if (exe)
		vg_climb(text, BPF_CORE_READ(exe, f_path.mnt), BPF_CORE_READ(exe, f_path.dentry));
}

/* Makes s->next the entry of t, whose binary's path is in s->binary. */
static __always_inline void enter(struct vg_scratch *s, struct task_struct *t, const struct vg_cgroup_policies *cgroup,
				  const struct vg_subject *before)
{
	struct vg_policies *p = policies();
	struct vg_entering e = {.next = &s->next, .binary = &s->binary, .parent = &s->parent, .cgroup = cgroup,
				.before = before, .uid = t->real_cred->uid.val};

	s->next.start = t->group_leader->start_boottime;
	s->next.exec = t->self_exec_id;
	s->next.count = 0;
	for (int i = 0; i < VG_SLOTS; i++)
		__builtin_memset(&s->next.slots[i], 0, sizeof(s->next.slots[i]));
	s->parent.pos = VG_TEXT_MAX;
	if (p && p->parents) {
		climb_exe(&s->parent, t->real_parent);
		e.has_parent = 1;
	}
	if (cgroup)
		bpf_loop(VG_SLOTS, consider_cgroup, &e, 0);
	if (p && p->selectors)
		bpf_loop(p->selectors, consider_selector, &e, 0);
}

/*
 * Whether next is what now says with other tables of the same policies, and perhaps more policies behind them. Then the entry is
 * written in place, slot by slot: a slot is one word, so each policy changes in one step. An entry that is replaced may
 * be given to another process while somebody still reads it, as the kernel's hash maps reuse what they free at once.
 */
static __noinline int only_tables_differ(struct vg_subject *now, struct vg_subject *next)
{
	if (!now || !next || now->start != next->start || now->count > next->count)
		return 0;
	for (u32 i = 0; i < VG_SLOTS; i++) {
		struct vg_table *a, *b;

		if (i >= now->count)
			break;
		if (now->slots[i].table == next->slots[i].table)
			continue;
		a = vg_table_of(now->slots[i].table);
		b = vg_table_of(next->slots[i].table);
		if (!a || !b || a->policy != b->policy)
			return 0;
	}
	return 1;
}

static __always_inline void put(u32 pid, struct vg_subject *next)
{
	struct vg_subject *now = vg_subject_of(pid);

	if (!next->count) {
		bpf_map_delete_elem(&vg_subjects, &pid);
	} else if (now && only_tables_differ(now, next)) {
		for (int i = 0; i < VG_SLOTS; i++)
			*(volatile u64 *)&now->slots[i] = *(u64 *)&next->slots[i];
		now->exec = next->exec;
		*(volatile u32 *)&now->count = next->count;
	} else if (bpf_map_update_elem(&vg_subjects, &pid, next, BPF_ANY)) {
		vg_lose(VG_LOST_SUBJECT_TABLE_FULL);
	}
}

static __always_inline struct vg_cgroup_policies *cgroup_of(struct task_struct *t)
{
	struct vg_cgroup_ref ref;

	vg_fill_cgroup(&ref, t);
	return bpf_map_lookup_elem(&vg_cgroups, &ref);
}

static __always_inline struct vg_scratch *scratch(u32 which)
{
	struct vg_scratch *s = bpf_map_lookup_elem(&vg_scratch, &which);

	if (!s)
		vg_lose(VG_LOST_SCRATCH_MISSING);
	return s;
}

/* Enters a process as it is: where it is not known to be a copy of its parent. */
static __always_inline void enter_anew(struct task_struct *t, u32 which)
{
	u32 pid = t->tgid, parent = t->real_parent->tgid;
	struct vg_subject *before = vg_subject_of(pid), *starter = vg_subject_of(parent);
	struct vg_cgroup_policies *cgroup = cgroup_of(t);
	struct vg_policies *p = policies();
	struct vg_scratch *s;

	if (t->flags & PF_KTHREAD)
		return;
	if (!before) {
		barrier(); /* or the compiler ors the pointers, which the verifier refuses */
		if (!cgroup) {
			barrier();
			if (!p || !p->selectors)
				return;
		}
	}
	s = scratch(which);
	if (!s)
		return;
	climb_exe(&s->binary, t);
	enter(s, t, cgroup, before ?: starter);
	if (before && before->count == s->next.count && before->exec == s->next.exec) {
		bool same = true;

		for (int i = 0; i < VG_SLOTS; i++)
			same = same && *(u64 *)&before->slots[i] == *(u64 *)&s->next.slots[i];
		if (same)
			return;
	}
	if (!before && !s->next.count)
		return;
	put(pid, &s->next);
	if (p)
		__sync_fetch_and_add(&p->changed, 1);
}

#endif
