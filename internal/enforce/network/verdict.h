/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What this back-end carries; its verdicts, and the signal that some bring. */
#ifndef VIGIE_NETWORK_VERDICT_H
#define VIGIE_NETWORK_VERDICT_H

#include "network.h"

/* Set by the agent. */
volatile u32 vg_net_ops;  /* operations that this back-end carries: 1 << enum vg_op */
volatile u32 vg_net_cuts; /* a socket has been cut: packets look */

static __always_inline bool carries(u32 op)
{
	return vg_net_ops >> op & 1;
}

/* Few objects for each rule: a scan or a flood is told by its first verdicts and counts, and cannot fill the ring. */
#define VG_NET_OBJECTS 256

static __always_inline u64 object_of(const struct vg_net_query *q, u32 op)
{
	const u32 *w = (const u32 *)q->addr;
	u32 h = q->port ^ (u32)q->protocol << 16 ^ op << 24;

	for (int i = 0; i < 4; i++)
		h = (h ^ w[i]) * 0x9e3779b1;
	h = (h ^ h >> 16) * 0x85ebca6b;
	h = (h ^ h >> 13) * 0xc2b2ae35;
	return (h ^ h >> 16) % VG_NET_OBJECTS;
}

/* What a verdict says of the other side of the conversation. */
struct vg_net_ends {
	u8 addr[16];
	u16 port;
	u16 pad;
	u32 detail;
};

/* op_hook of tell: who was not killed although the policy says so, and who was although it does not. */
#define SAYS(op, hook) ((op) | (hook) << 8)
#define SAYS_DENIED    (1 << 16)
#define SAYS_KILLED    (1 << 17)

/*
 * Tells what was decided about q. who: null for the current process. Noinline, because a verdict is
 * large and there are several places that tell one.
 */
static __noinline int tell(const struct vg_net_query *q, const struct vg_net_ends *other, const struct vg_image *who, u32 op_hook)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_answer a = q->answer;
	struct vg_verdict v;
	u64 held;

	__builtin_memset(&v, 0, sizeof(v));
	vg_fill_header(&v.h, VG_VERDICT, t);
	if (who) {
		v.h.start = who->start;
		v.h.pid = who->pid;
		v.h.exec = who->exec;
		v.h.tid = who->pid;
	}
	/* Of what comes in, who sends it is not the process's choice: by own port only. */
	if (!vg_hit(&a, v.h.pid, q->direction == VG_NET_INGRESS ? q->port : object_of(q, op_hook & 0xff), v.h.time, &held))
		return 0;
	v.h.count = 1 + held;
	v.table = a.table;
	v.rule = vg_rule(a.decision);
	v.action = vg_action(a.decision);
	v.op = op_hook & 0xff;
	v.hook = op_hook >> 8 & 0xff;
	v.protocol = q->protocol;
	v.name_class = q->answer_name;
	v.detail = other->detail;
	if (op_hook & SAYS_DENIED && v.action == VG_ACT_KILL)
		v.action = VG_ACT_DENY;
	if (op_hook & SAYS_KILLED && v.action == VG_ACT_DENY)
		v.action = VG_ACT_KILL;
	if (q->direction == VG_NET_EGRESS) {
		__builtin_memcpy(v.remote, q->addr, 16);
		v.remote_port = q->port;
		__builtin_memcpy(v.local, other->addr, 16);
		v.local_port = other->port;
	} else if (q->direction == VG_NET_INGRESS) {
		__builtin_memcpy(v.remote, q->addr, 16);
		v.remote_port = other->port;
		__builtin_memcpy(v.local, other->addr, 16);
		v.local_port = q->port;
	} else {
		__builtin_memcpy(v.local, q->addr, 16);
		v.local_port = q->port;
	}
	vg_emit_security(&v, sizeof(v));
	return 0;
}

/* Processes that are to be killed when a system call of theirs returns: cgroup hooks cannot send a signal. Full: the call
 * is refused all the same. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} vg_net_kills SEC(".maps");

volatile u32 vg_net_pending; /* about how many there are: while it is 0, no system call looks */

static __always_inline void kill_at_return(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	u64 start = t->group_leader->start_boottime;
	u32 pid = t->tgid;

	if (!bpf_map_lookup_elem(&vg_net_kills, &pid))
		__sync_fetch_and_add(&vg_net_pending, 1);
	bpf_map_update_elem(&vg_net_kills, &pid, &start, BPF_ANY);
}

#endif
