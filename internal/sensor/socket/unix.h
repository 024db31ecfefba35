/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Unix sockets, stream and seqpacket: the path is that of the object which the listener bound, by the kernel's
 * own dentry; only a connect that failed has no object, and shows what its caller asked for. */
#ifndef VIGIE_SOCKET_UNIX_H
#define VIGIE_SOCKET_UNIX_H

#include "record.h"
#include "path.h"

struct vg_unix_scratch {
	u32 len;
	u32 pad;
	struct vg_unix u;
	char tail[VG_PATH_MAX + VG_NAME_MAX];
};

/* One record in the making for each CPU: returns from system calls do not nest. The second place is the
 * inventory's, which can be preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct vg_unix_scratch);
} vg_unix_scratch SEC(".maps");

/* The process at the other end: for a client that which called listen, for a server that which called connect. */
static __always_inline u32 peer_pid(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_peer_pid, numbers[0].nr);
}

#define SUN_PATH_MAX 108

/* Appends the name that the socket was bound to. */
static __always_inline void bound_name(struct vg_unix_scratch *s, struct sock *named, struct task_struct *t)
{
	struct unix_sock *u = (struct unix_sock *)named;
	struct dentry *dentry = BPF_CORE_READ(u, path.dentry);
	struct fs_struct *fs = t->fs;
	struct unix_address *addr;
	u32 len;

	if (dentry) {
		s->u.form = VG_UNIX_COMPONENTS;
		vg_path(s->tail, &s->len, VG_PATH_MAX, BPF_CORE_READ(u, path.mnt), dentry, fs->root.mnt, fs->root.dentry,
			&s->u.c.h.flags);
		return;
	}
	addr = BPF_CORE_READ(u, addr);
	if (!addr)
		return; /* bound to nothing */
	s->u.form = VG_UNIX_ABSTRACT;
	*(volatile u32 *)&s->len = BPF_CORE_READ(addr, len) - 3; /* the family and the leading NUL */
	len = *(volatile u32 *)&s->len;
	if (len > SUN_PATH_MAX ||
	    bpf_probe_read_kernel(s->tail, len, (void *)addr + bpf_core_field_offset(struct unix_address, name) + 3))
		s->len = 0;
}

static __always_inline void asked_name(struct vg_unix_scratch *s, const char *addr, u32 addr_len)
{
	char first = 0;
	u32 len;

	addr += 2; /* the family */
	addr_len -= 2;
	if (addr_len == 0 || bpf_probe_read_user(&first, 1, addr))
		return;
	s->u.form = first ? VG_UNIX_ARGUMENT : VG_UNIX_ABSTRACT;
	if (!first) {
		addr++;
		addr_len--;
	}
	/* By way of the map, so that the verifier of 6.1 sees the bound and the use of one register. */
	*(volatile u32 *)&s->len = addr_len;
	len = *(volatile u32 *)&s->len;
	if (len > SUN_PATH_MAX || bpf_probe_read_user(s->tail, len, addr))
		s->len = 0;
}

static __always_inline struct vg_unix_scratch *unix_begin(u32 place, struct task_struct *t, struct sock *sk, u16 type,
							   s64 ret, u32 number)
{
	struct vg_unix_scratch *s = bpf_map_lookup_elem(&vg_unix_scratch, &place);

	if (!s) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	vg_fill_header(&s->u.c.h, type, t);
	__builtin_memset(s->u.c.local, 0, 36); /* both addresses and ports */
	fill_conn(&s->u.c, sk, VG_PROTO_UNIX,
		  type == VG_LISTEN ? VG_DIR_LISTENER : type == VG_ACCEPT ? VG_DIR_INBOUND : VG_DIR_OUTBOUND, raw_cookie(sk));
	s->u.c.error = -ret;
	s->u.c.backlog = number;
	s->u.form = VG_UNIX_ARGUMENT;
	__builtin_memset(s->u.pad, 0, sizeof(s->u.pad));
	s->len = 0;
	return s;
}

static __always_inline void unix_end(struct vg_unix_scratch *s)
{
	u32 len = *(volatile u32 *)&s->len;

	if (len > sizeof(s->tail))
		return; /* cannot be: for the verifier */
	s->u.path_len = len;
	vg_emit_telemetry(&s->u, sizeof(s->u) + len);
}

static __always_inline bool unix_stream(struct sock *sk)
{
	u16 type = BPF_CORE_READ(sk, sk_type);

	return type == SOCK_STREAM || type == SOCK_SEQPACKET;
}

static __always_inline int unix_event(struct task_struct *t, struct sock *sk, struct sock *named, u16 type, s64 ret,
				      u32 number)
{
	struct vg_unix_scratch *s;

	if (!unix_stream(sk))
		return 0;
	s = unix_begin(0, t, sk, type, ret, number);
	if (!s)
		return 0;
	bound_name(s, named, t);
	unix_end(s);
	return 0;
}

static __always_inline int unix_connected(struct task_struct *t, struct sock *sk, s64 ret, const char *addr, u32 addr_len)
{
	struct vg_unix_scratch *s;
	struct sock *peer;

	if (!unix_stream(sk))
		return 0;
	s = unix_begin(0, t, sk, VG_CONNECT, ret, peer_pid(sk));
	if (!s)
		return 0;
	peer = BPF_CORE_READ((struct unix_sock *)sk, peer);
	if (ret == 0 && peer)
		bound_name(s, peer, t);
	else
		asked_name(s, addr, addr_len);
	unix_end(s);
	return 0;
}

#endif
