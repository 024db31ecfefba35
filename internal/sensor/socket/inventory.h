/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What was open before the agent, by iter/task_file in two passes: listeners, then connections, whose direction
 * is inbound when their local port is listened on. Each socket gets an owner, so that its close names a process.
 *
 * A record that does not fit the reader's buffer makes the kernel show the same file again: so the socket is
 * marked only once the record is written. A socket that several processes hold belongs to the first.
 */
#ifndef VIGIE_SOCKET_INVENTORY_H
#define VIGIE_SOCKET_INVENTORY_H

#include "tcp.h"
#include "unix.h"

struct vg_listen_port {
	u32 netns;
	u16 port; /* host byte order */
	u8 protocol;
	u8 pad;
};

/* Filled by the first pass, read by the second. When it is full, connections to the remaining listeners are
 * shown as outbound. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct vg_listen_port);
	__type(value, u32);
} vg_listen_ports SEC(".maps");

static __always_inline long write_record(struct seq_file *seq, void *rec, u32 len)
{
	u32 size = len; /* a copy, for what has its address taken is unknown to the verifier afterwards */

	return bpf_seq_write(seq, &size, sizeof(size)) ?: bpf_seq_write(seq, rec, len);
}

static __always_inline void own_pre(struct sock *sk, struct task_struct *t, u32 flags, u64 cookie)
{
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!s) {
		vg_lose(VG_LOST_SOCKET_STORAGE);
		return;
	}
	if (s->flags)
		return; /* it was seen living in the meantime */
	vg_fill_image(&s->owner, t);
	s->tid = t->pid;
	s->cookie = cookie;
	s->since = bpf_ktime_get_boot_ns();
	s->sk = (u64)sk;
	s->flags = flags | VG_SK_PRE;
}

static __always_inline void port_key(struct vg_listen_port *p, struct sock *sk, u8 protocol)
{
	p->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	p->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	p->protocol = protocol;
	p->pad = 0;
}

static __always_inline void list_unix(struct seq_file *seq, struct task_struct *t, struct sock *sk, u64 cookie)
{
	struct vg_unix_scratch *s;
	u32 len;

	if (!unix_stream(sk) || sk->__sk_common.skc_state != TCP_LISTEN)
		return;
	s = unix_begin(1, t, sk, VG_LISTEN, 0, BPF_CORE_READ(sk, sk_max_ack_backlog));
	if (!s)
		return;
	s->u.c.h.flags |= VG_F_PRE_EXISTING;
	bound_name(s, sk, t);
	len = *(volatile u32 *)&s->len;
	if (len > sizeof(s->tail))
		return; /* cannot be: for the verifier */
	s->u.path_len = len;
	if (!write_record(seq, &s->u, sizeof(s->u) + len))
		own_pre(sk, t, VG_SK_LISTENER, cookie);
}

static __always_inline long list_inet(struct seq_file *seq, struct task_struct *t, struct sock *sk, struct sock *flow,
				      u16 type, u8 protocol, u8 direction, u64 cookie)
{
	struct vg_conn c;

	vg_fill_header(&c.h, type, t);
	c.h.flags |= VG_F_PRE_EXISTING;
	fill_ends(&c, flow);
	fill_conn(&c, sk, protocol, direction, cookie);
	if (type == VG_LISTEN && protocol == VG_PROTO_TCP)
		c.backlog = BPF_CORE_READ(flow, sk_max_ack_backlog);
	return write_record(seq, &c, sizeof(c));
}

static __always_inline u8 protocol_of(struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family, protocol = sk->sk_protocol;

	if (family == AF_UNIX)
		return VG_PROTO_UNIX;
	if (family != AF_INET && family != AF_INET6)
		return VG_PROTO_NONE;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
		return VG_PROTO_TCP;
	return protocol == IPPROTO_UDP ? VG_PROTO_UDP : VG_PROTO_NONE;
}

/* The socket of the file, if it is one that the inventory lists and has not been seen yet. */
static __always_inline struct sock *unseen(struct file *file, u8 *protocol)
{
	struct sock *sk = sock_of(file);
	struct vg_sock *s;

	if (!sk)
		return 0;
	*protocol = protocol_of(sk);
	s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	return *protocol == VG_PROTO_NONE || (s && s->flags) ? 0 : sk;
}

SEC("iter/task_file")
int vg_inventory_listeners(struct bpf_iter__task_file *ctx)
{
	struct vg_listen_port port;
	u8 protocol = VG_PROTO_NONE;
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *t = ctx->task;
	struct sock *sk;
	u32 one = 1;
	u64 cookie;

	if (!t)
		return 0;
	sk = unseen(ctx->file, &protocol);
	if (!sk)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	if (protocol == VG_PROTO_UNIX) {
		list_unix(seq, t, sk, cookie);
		return 0;
	}
	if (protocol == VG_PROTO_TCP && sk->__sk_common.skc_state != TCP_LISTEN)
		return 0;
	if (protocol == VG_PROTO_UDP && (!(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK) ||
					 sk->__sk_common.skc_state == TCP_ESTABLISHED))
		return 0;
	if (list_inet(seq, t, sk, subflow(sk), VG_LISTEN, protocol, VG_DIR_LISTENER, cookie))
		return 0;
	port_key(&port, sk, protocol);
	bpf_map_update_elem(&vg_listen_ports, &port, &one, BPF_ANY);
	own_pre(sk, t, VG_SK_LISTENER, cookie);
	return 0;
}

/* An MPTCP connection, whose subflow cannot be reached from here to put an owner into it. */
static __always_inline void list_mptcp(struct seq_file *seq, struct task_struct *t, struct sock *sk, u8 direction)
{
	struct sock *flow = subflow(sk);
	u64 cookie = raw_cookie(flow), key = cookie ?: (u64)flow;
	struct vg_accepted a = {};

	if (bpf_map_lookup_elem(&vg_accepted, &key) ||
	    list_inet(seq, t, sk, flow, direction == VG_DIR_INBOUND ? VG_ACCEPT : VG_CONNECT,
		      VG_PROTO_TCP, direction, cookie))
		return;
	vg_fill_image(&a.owner, t);
	a.tid = t->pid;
	a.direction = direction;
	a.since = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&vg_accepted, &key, &a, BPF_NOEXIST))
		vg_lose(VG_LOST_ACCEPT_TABLE_FULL);
}

/* Whether it was seen when it was accepted: by its cookie as it was then. */
static __always_inline bool accepted_live(struct sock *sk)
{
	u64 cookie = raw_cookie(sk), address = (u64)sk;

	return (cookie && bpf_map_lookup_elem(&vg_accepted, &cookie)) || bpf_map_lookup_elem(&vg_accepted, &address);
}

SEC("iter/task_file")
int vg_inventory_connections(struct bpf_iter__task_file *ctx)
{
	struct vg_listen_port port;
	u8 protocol = VG_PROTO_NONE, state, direction;
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *t = ctx->task;
	struct sock *sk;
	u64 cookie;

	if (!t)
		return 0;
	sk = unseen(ctx->file, &protocol);
	if (!sk || protocol == VG_PROTO_UNIX)
		return 0;
	state = sk->__sk_common.skc_state;
	if (state == TCP_CLOSE || state == TCP_LISTEN)
		return 0;
	if (protocol == VG_PROTO_TCP && accepted_live(sk))
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	if (state == TCP_SYN_SENT) {
		own_pre(sk, t, VG_SK_OUTBOUND, cookie); /* reported when it is decided */
		return 0;
	}
	port_key(&port, sk, protocol);
	direction = bpf_map_lookup_elem(&vg_listen_ports, &port) ? VG_DIR_INBOUND : VG_DIR_OUTBOUND;
	if (sk->sk_protocol == IPPROTO_MPTCP) {
		list_mptcp(seq, t, sk, direction);
		return 0;
	}
	if (list_inet(seq, t, sk, sk, direction == VG_DIR_INBOUND ? VG_ACCEPT : VG_CONNECT, protocol,
		      direction, cookie))
		return 0;
	own_pre(sk, t, VG_SK_CONNECTED | (direction == VG_DIR_INBOUND ? VG_SK_INBOUND : VG_SK_OUTBOUND), cookie);
	return 0;
}

#endif
