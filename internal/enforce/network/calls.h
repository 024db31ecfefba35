/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a process asks for: connect, send, bind, socket. Before it happens, in the process's own context. */
#ifndef VIGIE_NETWORK_CALLS_H
#define VIGIE_NETWORK_CALLS_H

#include "owner.h"
#include "talk.h"
#include "verdict.h"

static __always_inline void local_end(struct vg_net_ends *e, struct bpf_sock *sk)
{
	__builtin_memset(e, 0, sizeof(*e));
	if (!sk || !sk->src_port)
		return;
	local_addr(e->addr, sk);
	e->port = bpf_htons(sk->src_port);
}

/* What a hook returns about an answer, which it tells: 1 lets the call go on, 0 is EPERM. */
static __always_inline int answer(const struct vg_net_query *q, struct bpf_sock *sk, u32 op_hook)
{
	u32 action = vg_action(q->answer.decision);
	struct vg_net_ends local;

	if (action == VG_ACT_ALLOW)
		return 1;
	local_end(&local, sk);
	tell(q, &local, 0, op_hook);
	if (action == VG_ACT_AUDIT)
		return 1;
	if (action == VG_ACT_KILL)
		kill_at_return();
	return 0;
}

/* The socket remembers its process: answers and questions of others are judged by it. */
static __always_inline struct vg_net_sock *own_current(struct bpf_sock *sk, const struct vg_subject *s, u32 flags)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_net_sock *n;

	if (!sk)
		return 0;
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!n) {
		vg_lose(VG_LOST_SOCKET_STORAGE);
		return 0;
	}
	own(n, t->tgid, s);
	n->flags |= flags;
	n->sk = (u64)sk;
	return n;
}

static __always_inline bool datagrams(u32 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

/* A socket that was cut begins anew. */
static __always_inline void uncut(struct bpf_sock *sk)
{
	struct vg_net_sock *n;

	if (!vg_net_cuts || !sk)
		return;
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
	if (n)
		n->flags &= ~VG_NET_CUT;
}

static __always_inline int connects(struct bpf_sock_addr *ctx, const struct vg_subject *s, struct vg_net_query *q)
{
	u32 protocol = ctx->protocol;
	struct bpf_sock *sk = ctx->sk;

	if (!carries(VG_OP_CONNECT))
		return 1;
	q->port = ctx->user_port;
	q->direction = VG_NET_EGRESS;
	q->protocol = vg_net_protocol(protocol);
	if (datagrams(protocol))
		own_current(sk, s, 0);
	if (vg_judge_net(s, q) <= VG_ACT_AUDIT)
		uncut(sk);
	return answer(q, sk, SAYS(VG_OP_CONNECT, VG_HOOK_CONNECT));
}

/* 0.0.0.0 is this host, as the kernel sees it. */
static __always_inline u32 or_loopback4(u32 addr)
{
	return addr ?: bpf_htonl(0x7f000001);
}

/* :: is this host too: ::1, or 127.0.0.1 for a socket that has an IPv4 address. */
static __always_inline void remote6(struct vg_net_query *q, struct bpf_sock_addr *ctx)
{
	u32 *w = (u32 *)q->addr;
	struct bpf_sock *sk = ctx->sk;

	w[0] = ctx->user_ip6[0];
	w[1] = ctx->user_ip6[1];
	w[2] = ctx->user_ip6[2];
	w[3] = ctx->user_ip6[3];
	if (w[0] | w[1] | w[3])
		return;
	if (w[2] == bpf_htonl(0xffff) || (!w[2] && sk && sk->family == AF_INET6 && sk->src_ip6[2] == bpf_htonl(0xffff)))
		vg_map_ipv4(w, bpf_htonl(0x7f000001));
	else if (!w[2])
		w[3] = bpf_htonl(1);
}

SEC("cgroup/connect4")
int vg_net_connect4(struct bpf_sock_addr *ctx)
{
	const struct vg_subject *s = current_subject();
	struct vg_net_query q = {};

	if (!s)
		return 1;
	vg_map_ipv4(q.addr, or_loopback4(ctx->user_ip4));
	return connects(ctx, s, &q);
}

SEC("cgroup/connect6")
int vg_net_connect6(struct bpf_sock_addr *ctx)
{
	const struct vg_subject *s = current_subject();
	struct vg_net_query q = {};

	if (!s)
		return 1;
	remote6(&q, ctx);
	return connects(ctx, s, &q);
}

static __always_inline int sends(struct bpf_sock_addr *ctx, const struct vg_subject *s, struct vg_net_query *q)
{
	struct vg_net_talk_key k = {};
	struct bpf_sock *sk = ctx->sk;
	u32 direction = VG_NET_EGRESS;
	struct vg_net_talk *talk;
	u64 stamp = stamp_of(s);

	if (!carries(VG_OP_SEND) || !sk)
		return 1;
	q->port = ctx->user_port;
	q->protocol = vg_net_protocol(ctx->protocol);
	k.cookie = bpf_get_socket_cookie(ctx);
	__builtin_memcpy(k.addr, q->addr, 16);
	k.port = q->port;
	talk = bpf_map_lookup_elem(&vg_net_talks, &k);
	if (talk) {
		if (talk->stamp == stamp)
			return 1;
		direction = talk->direction;
	}
	own_current(sk, s, 0);
	q->direction = VG_NET_EGRESS;
	if (direction == VG_NET_INGRESS) { /* who wrote first is asked about, also under new tables */
		q->direction = VG_NET_INGRESS;
		q->port = bpf_htons(sk->src_port);
	}
	if (vg_judge_net(s, q) <= VG_ACT_AUDIT)
		remember(&k, stamp, direction);
	return answer(q, sk, SAYS(VG_OP_SEND, VG_HOOK_SENDMSG));
}

SEC("cgroup/sendmsg4")
int vg_net_sendmsg4(struct bpf_sock_addr *ctx)
{
	const struct vg_subject *s = current_subject();
	struct vg_net_query q = {};

	if (!s)
		return 1;
	vg_map_ipv4(q.addr, or_loopback4(ctx->user_ip4));
	return sends(ctx, s, &q);
}

SEC("cgroup/sendmsg6")
int vg_net_sendmsg6(struct bpf_sock_addr *ctx)
{
	const struct vg_subject *s = current_subject();
	struct vg_net_query q = {};

	if (!s)
		return 1;
	remote6(&q, ctx);
	return sends(ctx, s, &q);
}

/* A port that was asked for; of one that the kernel chooses see listens. */
static __always_inline int binds(struct bpf_sock_addr *ctx, const struct vg_subject *s, struct vg_net_query *q)
{
	struct bpf_sock *sk = ctx->sk;

	if (!carries(VG_OP_BIND))
		return 1;
	q->port = ctx->user_port;
	q->direction = VG_NET_LISTEN;
	q->protocol = vg_net_protocol(ctx->protocol);
	if (!q->port)
		return 1;
	vg_judge_net(s, q);
	return answer(q, sk, SAYS(VG_OP_BIND, VG_HOOK_BIND));
}

SEC("cgroup/bind4")
int vg_net_bind4(struct bpf_sock_addr *ctx)
{
	const struct vg_subject *s = current_subject();
	struct vg_net_query q = {};

	if (!s)
		return 1;
	vg_map_ipv4(q.addr, ctx->user_ip4);
	if (datagrams(ctx->protocol))
		own_current(ctx->sk, s, 0);
	return binds(ctx, s, &q);
}

SEC("cgroup/bind6")
int vg_net_bind6(struct bpf_sock_addr *ctx)
{
	const struct vg_subject *s = current_subject();
	struct vg_net_query q = {};
	u32 *w = (u32 *)q.addr;
	struct vg_net_sock *n;
	struct sock *sk;

	if (!s)
		return 1;
	w[0] = ctx->user_ip6[0];
	w[1] = ctx->user_ip6[1];
	w[2] = ctx->user_ip6[2];
	w[3] = ctx->user_ip6[3];
	n = own_current(ctx->sk, s, 0);
	if (!binds(ctx, s, &q))
		return 0;
	if (!n || w[0] | w[1] | w[2] | w[3])
		return 1;
	/* :: is 0.0.0.0 too, unless the socket does without IPv4. Read through the map: there the verifier forgets that it is
	 * a socket, of which it shows less. */
	sk = (struct sock *)*(volatile u64 *)&n->sk;
	if (BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_ipv6only))
		return 1;
	vg_map_ipv4(q.addr, 0);
	return binds(ctx, s, &q);
}

static __always_inline int refuse_socket(const struct vg_subject *s, struct vg_net_query *q, u32 family, u32 type, u32 protocol,
					 u32 op_hook)
{
	struct vg_net_ends none = {.detail = family << 16 | (type & 0xffff)};

	q->answer = vg_judge_socket(s);
	q->direction = VG_NET_LISTEN;
	q->protocol = protocol;
	if (vg_action(q->answer.decision) == VG_ACT_ALLOW)
		return 1;
	q->addr[0] = family; /* tells verdicts apart */
	tell(q, &none, 0, op_hook);
	return vg_action(q->answer.decision) == VG_ACT_AUDIT;
}

/* Sockets of the internet's families: raw ones, and those of protocols that have no rules. */
SEC("cgroup/sock_create")
int vg_net_sock_create(struct bpf_sock *ctx)
{
	const struct vg_subject *s = current_subject();
	u32 type = ctx->type, protocol = ctx->protocol;
	struct vg_net_query q = {};

	if (!s)
		return 1;
	if (type != SOCK_RAW) {
		switch (protocol) {
		case IPPROTO_TCP:
		case IPPROTO_MPTCP:
		case IPPROTO_UDP:
		case IPPROTO_UDPLITE:
			return 1;
		case IPPROTO_ICMP:
		case IPPROTO_ICMPV6:
		case IPPROTO_SCTP:
			own_current(ctx, s, VG_NET_PACKETS);
			return 1;
		}
	}
	if (!carries(VG_OP_SOCKET) || refuse_socket(s, &q, ctx->family, type, protocol, SAYS(VG_OP_SOCKET, VG_HOOK_SOCK_CREATE)))
		return 1;
	if (vg_action(q.answer.decision) == VG_ACT_KILL)
		kill_at_return();
	return 0;
}

#endif
