/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is decided about a conversation of a pod, and that it is told. */
#ifndef VIGIE_PODS_VERDICT_H
#define VIGIE_PODS_VERDICT_H

#include "packet.h"

/* vg_np_verdict.hook */
enum vg_np_hook {
	VG_NP_HOOK_EGRESS,
	VG_NP_HOOK_INGRESS,
	VG_NP_HOOK_FORWARD,
};

/* A VG_VERDICT whose table is 0, which is none of the policies that judge processes. */
struct vg_np_verdict {
	struct vg_header h;
	u16 zero; /* vg_verdict.table */
	u8 hook;
	u8 denied; /* 0: it was allowed, and policies that only watch would deny it */
	u8 protocol;
	u8 direction;
	u16 local_port;
	u16 remote_port;
	u16 pad[3];
	u8 local[16];
	u8 remote[16];
	u32 table;
	u32 rule;
	u64 cgroup;
};

VG_EXPORT(struct, vg_np_verdict);
VG_EXPORT(enum, vg_np_hook);

struct vg_np_hit_key {
	u32 table;
	u32 rule;
};

/* How often a rule denied, or would have. Full: further rules are not counted; their verdicts are told all the same. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_np_hit_key);
	__type(value, u64);
} vg_np_hits SEC(".maps");

VG_EXPORT(struct, vg_np_hit_key);

struct vg_np_seen_key {
	u32 table;
	u32 rule;
	u64 cgroup;
	u32 object;
	u32 pad;
};

struct vg_np_seen {
	u64 told; /* CLOCK_BOOTTIME, ns */
	u64 held;
};

/* A verdict that repeats within a second is counted, and told with the next. Full: the least recently used goes, and its
 * next verdict is told at once. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct vg_np_seen_key);
	__type(value, struct vg_np_seen);
} vg_np_told SEC(".maps");

#define VG_NP_INTERVAL 1000000000ull
#define VG_NP_OBJECTS  64 /* other ends of a rule that are told apart: a scan cannot fill the ring */

/* Counts a hit; false when the verdict is not to be told now. */
static __always_inline bool hit(const struct vg_np_query *q, u64 cgroup, u64 now, u64 *held)
{
	struct vg_np_hit_key key = {.table = q->table, .rule = q->rule};
	struct vg_np_seen_key k = {.table = q->table, .rule = q->rule, .cgroup = cgroup};
	struct vg_np_seen *seen, fresh = {.told = now};
	u64 one = 1, *n = bpf_map_lookup_elem(&vg_np_hits, &key);
	const u32 *w = (const u32 *)q->addr;

	if (!n) {
		bpf_map_update_elem(&vg_np_hits, &key, &one, BPF_NOEXIST);
	} else {
		__sync_fetch_and_add(n, 1);
	}
	k.object = (((w[0] ^ w[1]) * 0x9e3779b1 ^ w[2] ^ w[3]) * 0x85ebca6b ^ q->port * 0xc2b2ae35) >> 26;
	seen = bpf_map_lookup_elem(&vg_np_told, &k);
	*held = 0;
	if (!seen) {
		bpf_map_update_elem(&vg_np_told, &k, &fresh, BPF_ANY);
		return true;
	}
	if (now - seen->told < VG_NP_INTERVAL) {
		__sync_fetch_and_add(&seen->held, 1);
		return false;
	}
	seen->told = now;
	*held = seen->held;
	seen->held = 0;
	return true;
}

struct vg_np_context {
	u64 cgroup;
	struct vg_image owner; /* pid 0: not known */
	u16 local_port, remote_port;
	u32 hook;
	u8 local[16];
};

static __noinline int tell(const struct vg_np_query *q, const struct vg_np_context *c, u32 denied)
{
	u64 held, now = bpf_ktime_get_boot_ns();
	struct vg_np_verdict *v;

	if (!q || !c || !hit(q, c->cgroup, now, &held))
		return 0;
	if (vg_expired(now)) {
		vg_lose(VG_LOST_NO_AGENT);
		return 0;
	}
	/* In the ring itself: the stack has no room for it. */
	v = bpf_ringbuf_reserve(&vg_security, sizeof(*v), 0);
	if (!v) {
		vg_lose(VG_LOST_SECURITY_RING_FULL);
		return 0;
	}
	__builtin_memset(v, 0, sizeof(*v));
	v->h.type = VG_VERDICT;
	v->h.count = 1 + held;
	v->h.time = now;
	v->h.start = c->owner.start;
	v->h.pid = c->owner.pid;
	v->h.exec = c->owner.exec;
	v->h.tid = c->owner.pid;
	if (!c->owner.pid)
		v->h.flags = VG_F_NO_PROCESS;
	v->hook = c->hook;
	v->denied = denied;
	v->protocol = q->protocol;
	v->direction = q->direction;
	v->local_port = c->local_port;
	v->remote_port = c->remote_port;
	__builtin_memcpy(v->local, c->local, 16);
	__builtin_memcpy(v->remote, q->addr, 16);
	v->table = q->table;
	v->rule = q->rule;
	v->cgroup = c->cgroup;
	bpf_ringbuf_submit(v, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Whether a table of a pod says something of a direction. Global, so that it is verified once. */
__weak __noinline int vg_np_speaks(const struct vg_np_pod *pod, u32 generation, u32 direction)
{
	u32 world = generation & 1, table, audit;
	struct vg_np_table *t;

	if (!pod)
		return 0;
	table = world ? pod->tables[1] : pod->tables[0];
	audit = world ? pod->audits[1] : pod->audits[0];
	t = table ? bpf_map_lookup_elem(&vg_np_tables, &table) : 0;
	if (t && t->flags & VG_NP_SPEAKS << (direction & 1))
		return 1;
	if (table && !t)
		vg_lose(VG_LOST_POLICY_TABLE_GONE);
	t = audit ? bpf_map_lookup_elem(&vg_np_tables, &audit) : 0;
	return t && t->flags & VG_NP_SPEAKS << (direction & 1);
}

/* Decides about a conversation that is in q whole: 1 lets it be. Global, so that it is verified once. */
__weak __noinline int vg_np_may(const struct vg_np_pod *pod, struct vg_np_query *q, const struct vg_np_context *c, u32 generation)
{
	u32 world = generation & 1, table, audit;

	if (!pod || !q || !c)
		return 0;
	table = world ? pod->tables[1] : pod->tables[0];
	audit = world ? pod->audits[1] : pod->audits[0];
	if (q->direction == VG_NP_INGRESS && q->flags & VG_NP_HOST)
		return 1;
	if (table) {
		q->table = table;
		if (vg_np_denies(q)) {
			tell(q, c, 1);
			return 0;
		}
	}
	if (audit) {
		q->table = audit;
		if (vg_np_denies(q))
			tell(q, c, 0);
	}
	return 1;
}

static __always_inline int may(const struct vg_np_pod *pod, struct vg_np_query *q, const struct vg_np_context *c, u32 generation)
{
	vg_np_who(q, generation);
	return vg_np_may(pod, q, c, generation);
}

#endif
