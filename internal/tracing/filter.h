/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What filters need beyond comparing with constants: long lists, substrings, who the current process is. */
#ifndef VIGIE_TRACING_FILTER_H
#define VIGIE_TRACING_FILTER_H

#include "record.h"

static __always_inline void vg_clear_key(struct vg_probe_scratch *s)
{
	u64 *words = (u64 *)s->key.data;

	for (int i = 0; i < VG_KEY_MAX / 8; i++)
		*(volatile u64 *)&words[i] = 0;
}

/* Whether a text is in a hash of texts, none of which is longer than a key. */
VG_LIB u64 vg_in_texts(struct vg_probe_scratch *s, char *text, u64 len, void *map)
{
	if (len > VG_KEY_MAX)
		return 0;
	barrier_var(len);
	if (len > VG_KEY_MAX)
		return 0;
	vg_clear_key(s);
	s->key.bits = len;
	bpf_probe_read_kernel(s->key.data, len, text);
	return bpf_map_lookup_elem(map, &s->key) != 0;
}

/* Whether a text begins with one of an LPM trie's. */
VG_LIB u64 vg_in_prefixes(struct vg_probe_scratch *s, char *text, u64 len, void *map)
{
	if (len > VG_KEY_MAX)
		len = VG_KEY_MAX;
	barrier_var(len);
	if (len > VG_KEY_MAX)
		return 0;
	vg_clear_key(s);
	s->key.bits = len * 8;
	bpf_probe_read_kernel(s->key.data, len, text);
	return bpf_map_lookup_elem(map, &s->key) != 0;
}

/* Whether it ends with one of an LPM trie's, which are written backwards. */
VG_LIB u64 vg_in_suffixes(struct vg_probe_scratch *s, char *text, u64 len, void *map)
{
	u32 n = len > VG_KEY_MAX ? VG_KEY_MAX : len;

	vg_clear_key(s);
	for (u32 i = 0; i < VG_KEY_MAX && i < n; i++) {
		u64 at = (len - 1 - i) & (VG_DATA_MAX - 1);

		barrier_var(at);
		s->key.data[i] = text[at];
	}
	s->key.bits = n * 8;
	return bpf_map_lookup_elem(map, &s->key) != 0;
}

struct vg_search {
	char *text;
	struct vg_pattern *p;
	u64 len;
	u64 found;
};

/* The letters of eight bytes in lower case; others stay. */
static __always_inline u64 vg_lower(u64 w)
{
	const u64 ones = 0x0101010101010101, high = 0x8080808080808080;
	u64 low = w & ~high;
	u64 from_a = low + ones * (0x80 - 'A'), beyond_z = low + ones * (0x80 - 'Z' - 1);
	u64 upper = (from_a & ~beyond_z) & high & ~w;

	return w | (upper >> 2);
}

static long vg_search_step(u32 i, struct vg_search *c)
{
	u64 at = i;

	if (at + c->p->len > c->len)
		return 1;
	barrier_var(at);
	if (at >= VG_DATA_MAX - 64)
		return 1;
	for (int k = 0; k < 8; k++) {
		u64 mask = c->p->mask[k], w;

		if (!mask)
			break;
		w = *(u64 *)(c->text + at + 8 * k);
		if (c->p->fold)
			w = vg_lower(w);
		if ((w & mask) != c->p->word[k])
			return 0;
	}
	c->found = 1;
	return 1;
}

VG_LIB u64 vg_substring(char *text, u64 len, struct vg_pattern *p)
{
	struct vg_search c = {.text = text, .p = p, .len = len};

	bpf_loop(VG_DATA_MAX, vg_search_step, &c, 0);
	return c.found;
}

/* Whether the cgroup that says which workload the current process belongs to is in a set. */
VG_LIB u64 vg_in_cgroups(void *map)
{
	struct vg_cgroup_ref c = {};

	vg_fill_cgroup(&c, bpf_get_current_task_btf());
	return bpf_map_lookup_elem(map, &c) != 0;
}

/* A process's id in its own pid namespace. */
VG_LIB u64 vg_ns_pid_of(struct task_struct *t)
{
	struct pid *p = BPF_CORE_READ(t, group_leader, thread_pid);
	u32 level = BPF_CORE_READ(p, level);
	struct upid *numbers = (void *)p + bpf_core_field_offset(struct pid, numbers);
	int nr = 0;

	bpf_core_read(&nr, sizeof(nr), &numbers[level & 31].nr);
	return (u32)nr;
}

VG_LIB u64 vg_ns_pid(void)
{
	return vg_ns_pid_of(bpf_get_current_task_btf());
}

#define VG_NAMESPACES 10

/* The inode number of one of a process's namespaces, in the order of the agent's list. */
static __always_inline u64 vg_namespace_of(struct task_struct *t, u64 which)
{
	struct nsproxy *p = BPF_CORE_READ(t, nsproxy);
	struct pid *pid = BPF_CORE_READ(t, thread_pid);
	struct upid *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);
	u32 level = BPF_CORE_READ(pid, level);
	struct pid_namespace *pidns = 0;

	switch (which) {
	case 0:
		return BPF_CORE_READ(p, uts_ns, ns.inum);
	case 1:
		return BPF_CORE_READ(p, ipc_ns, ns.inum);
	case 2:
		return BPF_CORE_READ(p, mnt_ns, ns.inum);
	case 3:
		bpf_core_read(&pidns, sizeof(pidns), &numbers[level & 31].ns);
		return BPF_CORE_READ(pidns, ns.inum);
	case 4:
		return BPF_CORE_READ(p, pid_ns_for_children, ns.inum);
	case 5:
		return BPF_CORE_READ(p, net_ns, ns.inum);
	case 6:
		return BPF_CORE_READ(p, time_ns, ns.inum);
	case 7:
		return BPF_CORE_READ((struct nsproxy___children *)p, time_ns_for_children, ns.inum);
	case 8:
		return BPF_CORE_READ(p, cgroup_ns, ns.inum);
	case 9:
		return BPF_CORE_READ(t, real_cred, user_ns, ns.inum);
	}
	return 0;
}

VG_LIB u64 vg_namespace(u64 which)
{
	return vg_namespace_of(bpf_get_current_task_btf(), which);
}

#define VG_CAP_SETS 3

/* One of the capability sets that a process has; the order is that of vg_cap_set. */
static __always_inline u64 vg_caps_of(struct task_struct *t, u64 which)
{
	const struct cred *c = BPF_CORE_READ(t, real_cred);
	u64 caps = 0;

	if (which == 0)
		bpf_probe_read_kernel(&caps, 8, &c->cap_effective);
	else if (which == 1)
		bpf_probe_read_kernel(&caps, 8, &c->cap_inheritable);
	else
		bpf_probe_read_kernel(&caps, 8, &c->cap_permitted);
	return caps;
}

VG_LIB u64 vg_own_caps(u64 which)
{
	return vg_caps_of(bpf_get_current_task_btf(), which);
}

/* What a process had when it was executed; of one that ran before the policy: when that came. */
struct vg_baseline {
	u64 ns[VG_NAMESPACES];
	u64 caps[VG_CAP_SETS];
};

/* With the group leader, while a policy asks for changes. As large as there are processes. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_baseline);
} vg_baselines SEC(".maps");

static __always_inline void vg_fill_baseline(struct vg_baseline *b, struct task_struct *t)
{
#pragma unroll
	for (int i = 0; i < VG_NAMESPACES; i++)
		b->ns[i] = vg_namespace_of(t, i);
#pragma unroll
	for (int i = 0; i < VG_CAP_SETS; i++)
		b->caps[i] = vg_caps_of(t, i);
}

static __always_inline struct vg_baseline *vg_own_baseline(void)
{
	struct task_struct *t = bpf_get_current_task_btf()->group_leader;

	return t ? bpf_task_storage_get(&vg_baselines, t, 0, 0) : 0;
}

/* Which namespaces of the current process are others than at its exec, a bit each. */
VG_LIB u64 vg_changed_namespaces(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_baseline *b = vg_own_baseline();
	u64 bits = 0;

	if (!b)
		return 0;
#pragma unroll
	for (int i = 0; i < VG_NAMESPACES; i++)
		if (b->ns[i] != vg_namespace_of(t, i))
			bits |= 1 << i;
	return bits;
}

/* Which capabilities of one of its sets. */
VG_LIB u64 vg_changed_caps(u64 which)
{
	struct vg_baseline *b = vg_own_baseline();

	if (!b || which >= VG_CAP_SETS)
		return 0;
	return b->caps[which] ^ vg_caps_of(bpf_get_current_task_btf(), which);
}

/* The followed sets of the current process, or of its parent. */
VG_LIB u64 vg_followed(u64 parent)
{
	struct task_struct *t = bpf_get_current_task_btf();
	u64 *bits;

	if (parent) {
		t = t->real_parent;
		if (!t)
			return 0;
	}
	t = t->group_leader;
	if (!t)
		return 0;
	bits = bpf_task_storage_get(&vg_follow, t, 0, 0);
	return bits ? *bits : 0;
}

/* Puts t, a group leader, into followed sets. */
VG_LIB u64 vg_follow_add(struct task_struct *t, u64 sets)
{
	u64 *bits;

	if (!sets)
		return 0;
	bits = bpf_task_storage_get(&vg_follow, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!bits) {
		vg_lose(VG_LOST_PROBE_EVENT);
		return 0;
	}
	*bits |= sets;
	return 0;
}

/* Gives t, a group leader, the sets that it is in now; of those that it was in before, keep says which may stay. */
VG_LIB u64 vg_follow_renew(struct task_struct *t, u64 keep, u64 sets)
{
	u64 *bits;

	if (t->pid != t->tgid)
		return 0;
	bits = bpf_task_storage_get(&vg_follow, t, 0, 0);
	if (bits)
		*bits &= keep;
	return vg_follow_add(t, sets);
}

#endif
