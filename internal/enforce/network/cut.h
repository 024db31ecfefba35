/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is open when policies change: every socket of every process, by iter/task_file. Who listens or takes datagrams is noted
 * as its process has it now. A connection that the process may not have is marked, so that nothing passes through it from this
 * moment on (is_cut), and told to the agent, which has it ended (destroy.bpf.c, or sock_diag).
 */
#ifndef VIGIE_NETWORK_CUT_H
#define VIGIE_NETWORK_CUT_H

#include "exits.h"
#include "listen.h"

volatile u32 vg_net_pass; /* number of this pass; the agent raises it */

struct vg_net_cut {
	u32 pid; /* whose network namespace it is in */
	u32 protocol;
	u8 local[16];
	u8 remote[16];
	u16 local_port; /* network byte order */
	u16 remote_port;
	u32 cut; /* 0: a listener that may go on */
};

VG_EXPORT(struct, vg_net_cut);

static __always_inline void other_address(void *addr, struct sock *sk)
{
	if (sk->__sk_common.skc_family == AF_INET) {
		vg_map_ipv4(addr, sk->__sk_common.skc_daddr);
		return;
	}
	for (int i = 0; i < 4; i++)
		((u32 *)addr)[i] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[i];
}

/* Tells the agent in whose namespace it has something to do. */
static __always_inline void tell_cut(struct seq_file *seq, struct task_struct *t, const struct vg_net_query *q,
				     const struct vg_net_ends *other, u32 op)
{
	struct vg_net_cut c = {.pid = t->tgid, .protocol = q->protocol};
	u32 action = vg_action(q->answer.decision), size = sizeof(c);
	struct vg_image owner;

	if (action != VG_ACT_ALLOW) {
		vg_fill_image(&owner, t);
		tell(q, other, &owner, SAYS(op, VG_HOOK_CUT) | SAYS_DENIED);
	}
	if (q->direction == VG_NET_LISTEN) {
		__builtin_memcpy(c.local, q->addr, 16);
		c.local_port = q->port;
	} else {
		__builtin_memcpy(c.local, other->addr, 16);
		__builtin_memcpy(c.remote, q->addr, 16);
		c.local_port = q->direction == VG_NET_EGRESS ? other->port : q->port;
		c.remote_port = q->direction == VG_NET_EGRESS ? q->port : other->port;
	}
	c.cut = action > VG_ACT_AUDIT;
	if (!bpf_seq_write(seq, &size, sizeof(size)))
		bpf_seq_write(seq, &c, sizeof(c));
}

static __always_inline void mark(struct vg_net_sock *n)
{
	n->pass = vg_net_pass;
	n->flags |= VG_NET_CUT;
	vg_net_cuts = 1;
}

/* A listener, or a socket for datagrams of everybody. */
static __always_inline void held_open(struct seq_file *seq, struct task_struct *t, struct sock *sk, const struct vg_subject *s)
{
	struct vg_net_query q = {.direction = VG_NET_LISTEN, .protocol = vg_net_protocol(sk->sk_protocol)};
	struct vg_net_sock *n = own_sock(sk, t->tgid, s);
	struct vg_net_ends none = {};

	if (!n)
		return;
	n->pass = vg_net_pass;
	n->flags &= ~VG_NET_CUT;
	if (sk->sk_protocol != IPPROTO_TCP && !(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK))
		return;
	own_address(q.addr, sk);
	q.port = bpf_htons(sk->__sk_common.skc_num);
	if (carries(VG_OP_BIND))
		vg_judge_net(s, &q);
	/* A listener is told of in any case: its queue is to be looked at (vg_net_flow). */
	if (vg_action(q.answer.decision) == VG_ACT_ALLOW && sk->__sk_common.skc_state != TCP_LISTEN)
		return;
	if (vg_action(q.answer.decision) > VG_ACT_AUDIT)
		mark(n);
	tell_cut(seq, t, &q, &none, VG_OP_LISTEN);
}

static __always_inline bool inbound(struct sock *sk)
{
	struct vg_sock *v = bpf_sk_storage_get(&vg_socks, sk, 0, 0);

	if (v && v->flags & (VG_SK_INBOUND | VG_SK_OUTBOUND))
		return v->flags & VG_SK_INBOUND;
	return sk->sk_max_ack_backlog; /* of the listener that it came from */
}

/* A raw socket: its packets that leave are dropped. */
static __always_inline void held_raw(struct seq_file *seq, struct task_struct *t, struct sock *sk, const struct vg_subject *s)
{
	struct vg_net_query q = {.direction = VG_NET_LISTEN, .protocol = VG_PROTO_OTHER, .answer = vg_judge_socket(s)};
	struct vg_net_ends none = {.detail = (u32)sk->__sk_common.skc_family << 16 | SOCK_RAW};
	struct vg_net_sock *n;

	if (!carries(VG_OP_SOCKET) || vg_action(q.answer.decision) == VG_ACT_ALLOW)
		return;
	if (vg_action(q.answer.decision) != VG_ACT_AUDIT) {
		n = own_sock(sk, t->tgid, s);
		if (n)
			mark(n);
	}
	tell_cut(seq, t, &q, &none, VG_OP_SOCKET);
}

/*
 * Whether a connection is forbidden only because no rule is known to allow it, while there are rules by name, and it is from
 * before the agent: what its process had asked for is not known. Such a one goes on.
 */
static __always_inline bool may_have_a_name(const struct vg_net_query *q, struct sock *sk)
{
	struct vg_sock *v = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	struct vg_table *t;

	if (q->direction != VG_NET_EGRESS || !v || !(v->flags & VG_SK_PRE))
		return false;
	t = vg_table_of(q->answer.table);
	return t && t->flags & VG_TABLE_NAMES && t->defaults[VG_NET_EGRESS] == q->answer.decision;
}

/*
 * Whether an SCTP association may have come in. The kernel does not tell which of them did, so that one is ended when it may
 * neither have come in nor gone out.
 */
static __always_inline bool may_have_come_in(const struct vg_net_query *q, struct sock *sk, const struct vg_subject *s)
{
	struct vg_net_query in = {.direction = VG_NET_INGRESS, .protocol = IPPROTO_SCTP, .port = bpf_htons(sk->__sk_common.skc_num)};

	if (sk->sk_protocol != IPPROTO_SCTP)
		return false;
	__builtin_memcpy(in.addr, q->addr, 16);
	return !carries(VG_OP_ACCEPT) || vg_judge_net(s, &in) <= VG_ACT_AUDIT;
}

/* A connection. */
static __always_inline void held_connection(struct seq_file *seq, struct task_struct *t, struct sock *sk, const struct vg_subject *s)
{
	struct vg_net_query q = {.protocol = vg_net_protocol(sk->sk_protocol)};
	u16 num = bpf_htons(sk->__sk_common.skc_num);
	struct vg_net_ends local = {.port = num};
	struct vg_net_sock *n;

	other_address(q.addr, sk);
	if (sk->sk_protocol == IPPROTO_TCP && inbound(sk)) {
		q.direction = VG_NET_INGRESS;
		q.port = num;
		local.port = sk->__sk_common.skc_dport;
		if (!carries(VG_OP_ACCEPT))
			return;
	} else {
		q.direction = VG_NET_EGRESS;
		q.port = sk->__sk_common.skc_dport;
		if (!carries(VG_OP_CONNECT))
			return;
	}
	own_address(local.addr, sk);
	if (vg_judge_net(s, &q) > VG_ACT_AUDIT && (may_have_a_name(&q, sk) || may_have_come_in(&q, sk, s)))
		return;
	if (vg_action(q.answer.decision) <= VG_ACT_AUDIT) {
		n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
		if (n)
			n->flags &= ~VG_NET_CUT; /* it may again */
	}
	if (vg_action(q.answer.decision) == VG_ACT_ALLOW)
		return;
	if (vg_action(q.answer.decision) != VG_ACT_AUDIT) {
		n = own_sock(sk, t->tgid, s);
		if (n)
			mark(n);
	}
	tell_cut(seq, t, &q, &local, q.direction == VG_NET_INGRESS ? VG_OP_ACCEPT : VG_OP_CONNECT);
}

/*
 * The TCP sockets of MPTCP ones, by their addresses, of this pass: a program gets at them by iter/tcp alone. remote_port tells
 * whether the address is still the same connection's. Full: VG_LOST_SOCKET_STORAGE.
 */
struct vg_net_flow {
	u32 pid;
	u16 remote_port;
	u16 cut;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct vg_net_flow);
} vg_net_flows SEC(".maps");

/* The same for an MPTCP socket: its first subflow is looked at, others are not. */
static __always_inline void held_mptcp(struct seq_file *seq, struct task_struct *t, struct sock *held, const struct vg_subject *s)
{
	struct sock *sk = BPF_CORE_READ((struct mptcp_sock *)held, first);
	struct vg_net_flow f = {.pid = t->tgid};
	u8 state = held->__sk_common.skc_state;
	struct vg_net_query q = {};
	struct vg_net_ends local = {};
	u64 key = (u64)sk;
	u32 op;

	if (!sk)
		return;
	if (state == TCP_LISTEN) {
		q.direction = VG_NET_LISTEN;
		q.protocol = IPPROTO_TCP;
		if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET)
			vg_map_ipv4(q.addr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		else
			bpf_core_read(q.addr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		q.port = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
		op = VG_OP_LISTEN;
	} else {
		if (!ask_about(&q, &local, sk))
			return;
		op = q.direction == VG_NET_INGRESS ? VG_OP_ACCEPT : VG_OP_CONNECT;
	}
	f.cut = carries(op) && vg_judge_net(s, &q) > VG_ACT_AUDIT;
	if (!f.cut && state != TCP_LISTEN)
		return;
	f.remote_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	if (bpf_map_update_elem(&vg_net_flows, &key, &f, BPF_ANY))
		vg_lose(VG_LOST_SOCKET_STORAGE);
	tell_cut(seq, t, &q, &local, op);
}

/* A connection in a listener's queue: no process holds it yet. It has a copy of what vg_socks says of the listener. */
static __always_inline void queued(struct sock_common *skc)
{
	struct vg_net_query q = {.direction = VG_NET_INGRESS, .protocol = IPPROTO_TCP};
	struct vg_net_ends other = {.port = skc->skc_dport};
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(skc);
	const struct vg_subject *s;
	struct vg_net_sock *n;
	struct vg_sock *v;
	struct sock *sk = (struct sock *)tp;

	if (!tp || sk->sk_socket || !carries(VG_OP_ACCEPT))
		return;
	v = bpf_sk_storage_get(&vg_socks, skc, 0, 0);
	if (!v || !(v->flags & VG_SK_INBOUND))
		return;
	s = vg_subject_of(v->owner.pid);
	if (!s)
		return;
	other_address(q.addr, sk);
	own_address(other.addr, sk);
	q.port = bpf_htons(skc->skc_num);
	if (vg_judge_net(s, &q) == VG_ACT_ALLOW)
		return;
	tell(&q, &other, &v->owner, SAYS(VG_OP_ACCEPT, VG_HOOK_CUT) | SAYS_DENIED);
	if (vg_action(q.answer.decision) == VG_ACT_AUDIT)
		return;
	n = bpf_sk_storage_get(&vg_net_socks, skc, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (n)
		mark(n);
}

SEC("iter/tcp")
int vg_net_flow(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	const struct vg_subject *s;
	struct vg_net_flow *f;
	struct vg_net_sock *n;
	u64 key = (u64)sk;

	if (!sk)
		return 0;
	f = bpf_map_lookup_elem(&vg_net_flows, &key);
	if (!f || f->remote_port != sk->skc_dport) {
		if (sk->skc_state != TCP_LISTEN)
			queued(sk);
		return 0;
	}
	s = vg_subject_of(f->pid);
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s || !n)
		return 0;
	own(n, f->pid, s);
	n->pass = vg_net_pass;
	if (f->cut)
		mark(n);
	return 0;
}

SEC("iter/task_file")
int vg_net_held(struct bpf_iter__task_file *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *t = ctx->task;
	struct file *file = ctx->file;
	const struct vg_subject *s;
	struct vg_net_sock *n;
	struct socket *socket;
	struct sock *sk;
	u16 family;
	u8 state;

	if (!t || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	s = vg_subject_of(t->tgid);
	if (!s) {
		/* Its process may have been under a policy, or have been another. */
		n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
		if (n && n->pass != vg_net_pass)
			n->entry.count = 0;
		return 0;
	}
	state = sk->__sk_common.skc_state;
	if (sk->sk_type == SOCK_RAW)
		held_raw(seq, t, sk, s);
	else if (sk->sk_protocol == IPPROTO_MPTCP)
		held_mptcp(seq, t, sk, s);
	else if (state == TCP_LISTEN || (state == TCP_CLOSE && sk->sk_protocol != IPPROTO_TCP))
		held_open(seq, t, sk, s);
	else if (state != TCP_CLOSE)
		held_connection(seq, t, sk, s);
	return 0;
}

#endif
