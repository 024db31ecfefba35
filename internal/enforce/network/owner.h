/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whose policies a packet is under: those of the process that listens, or that sends datagrams, kept in the socket. Only
 * sockets of processes under policies have an entry here. vg_socks, of the socket sensor, names the owners of the others:
 * their process may have come under a policy later.
 */
#ifndef VIGIE_NETWORK_OWNER_H
#define VIGIE_NETWORK_OWNER_H

#include "network.h"
#include "sock.h"
#include "types.h"

#define VG_NET_CUT     0x1 /* nothing passes any more */
#define VG_NET_PACKETS 0x2 /* of a protocol whose conversations have no hook: judged by packet */

struct vg_net_sock {
	u32 pid;
	u32 flags; /* VG_NET_* */
	u32 pass;  /* number of the pass that last looked at it (cut.h) */
	u32 pad;
	u64 sk; /* the socket's address, to read what hooks do not show; valid while this storage is */
	/* The owner's entry as it was: what counts when the owner is gone and others go on with its socket. */
	struct vg_subject entry;
};

/* No memory for one (net.core.optmem_max): VG_LOST_SOCKET_STORAGE, and what comes in is judged by who vg_socks names. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_net_sock);
} vg_net_socks SEC(".maps");

VG_EXPORT(struct, vg_net_sock);

static __always_inline const struct vg_subject *current_subject(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return vg_subject_of(t->tgid);
}

/* A socket's own address. Each member is read by itself: a pointer to a socket is not to be computed with. */
static __always_inline void local_addr(void *to, struct bpf_sock *sk)
{
	u32 a, *w = to;

	if (sk->family == AF_INET) {
		a = sk->src_ip4;
		barrier_var(a);
		vg_map_ipv4(to, a);
		return;
	}
	w[0] = sk->src_ip6[0];
	w[1] = sk->src_ip6[1];
	w[2] = sk->src_ip6[2];
	a = sk->src_ip6[3];
	barrier_var(a);
	w[3] = a;
}

static __always_inline void own(struct vg_net_sock *n, u32 pid, const struct vg_subject *s)
{
	n->pid = pid;
	n->entry.start = s->start;
	n->entry.exec = s->exec;
	n->entry.count = s->count;
	for (int i = 0; i < VG_SLOTS; i++)
		*(u64 *)&n->entry.slots[i] = *(u64 *)&s->slots[i];
}

/* The entry that counts for a socket; null: it is under no policy. */
static __always_inline const struct vg_subject *subject_of_socket(struct bpf_sock *sk, struct vg_image *owner)
{
	struct vg_net_sock *n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
	const struct vg_subject *s;
	struct vg_sock *v;

	if (n) {
		owner->pid = n->pid;
		s = vg_subject_of(n->pid);
		if (!s || s->start != n->entry.start) {
			if (!n->entry.count)
				return 0;
			s = &n->entry;
		}
	} else {
		v = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
		if (!v || !v->owner.pid)
			return 0;
		owner->pid = v->owner.pid;
		s = vg_subject_of(v->owner.pid);
		if (!s || s->start != v->owner.start)
			return 0;
	}
	owner->start = s->start;
	owner->exec = s->exec;
	return s;
}

#endif
