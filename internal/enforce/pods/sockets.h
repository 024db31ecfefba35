/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets at the sockets of pods. A TCP connection is judged once, by its first packet, and what was decided is in the
 * socket: all others read it there. Conversations by datagrams have an entry in vg_np_talks. What goes to a service is let
 * pass and judged by vg_np_forward, when it has been translated; without that no answer comes in.
 */
#ifndef VIGIE_PODS_SOCKETS_H
#define VIGIE_PODS_SOCKETS_H

#include "skb.h"
#include "verdict.h"

#define VG_NP_SK_OUT	  0x01 /* the pod began it */
#define VG_NP_SK_IN	  0x02
#define VG_NP_SK_LISTENER 0x04 /* a child has a copy: it came in */
#define VG_NP_SK_WAITS	  0x08 /* for its translation */
#define VG_NP_SK_DENIED	  0x10
#define VG_NP_SK_NONE	  0x20 /* of no pod under policies */

struct vg_np_sock {
	u32 generation; /* under which it was decided; of a listener 0 */
	u32 flags;	/* VG_NP_SK_* */
	u8 peer[16];	/* where a service's address was translated to */
	u16 port;	/* 0: it was not */
	u16 pad[3];
};

/* No memory for one (net.core.optmem_max): VG_LOST_SOCKET_STORAGE, and each packet is judged as the first. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct vg_np_sock);
} vg_np_socks SEC(".maps");

VG_EXPORT(struct, vg_np_sock);

/* Who holds a socket, as far as the socket sensor knows. */
static __always_inline struct vg_sock *owner_of(struct bpf_sock *sk, struct vg_np_context *c)
{
	struct vg_sock *known = bpf_sk_storage_get(&vg_socks, sk, 0, 0);

	if (known)
		c->owner = known->owner;
	return known;
}

/* Who began a connection from before these programs: the socket sensor saw, or it has the backlog of its listener. */
static __always_inline u32 began(struct __sk_buff *skb, const struct vg_sock *known)
{
	struct sock *sk = 0;
	u32 backlog = 0;

	if (known && known->flags & (VG_SK_INBOUND | VG_SK_OUTBOUND))
		return known->flags & VG_SK_INBOUND ? VG_NP_SK_IN : VG_NP_SK_OUT;
	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)skb + bpf_core_field_offset(struct sk_buff, sk));
	bpf_probe_read_kernel(&backlog, sizeof(backlog), (void *)sk + bpf_core_field_offset(struct sock, sk_max_ack_backlog));
	return backlog ? VG_NP_SK_IN : VG_NP_SK_OUT;
}

static __always_inline void ends(struct vg_np_query *q, struct vg_np_context *c, const struct vg_np_packet *p, u32 in)
{
	__builtin_memcpy(q->addr, in ? p->from : p->to, 16);
	__builtin_memcpy(c->local, in ? p->to : p->from, 16);
	c->local_port = in ? p->dest : p->source;
	c->remote_port = in ? p->source : p->dest;
	c->hook = in ? VG_NP_HOOK_INGRESS : VG_NP_HOOK_EGRESS;
}

/* A packet to a service is on its way: who sees it translated has to know whose it is. */
static __noinline int introduce(const struct vg_np_context *c, u8 protocol)
{
	struct vg_np_talk who = {};
	struct vg_np_talk_key k;
	u64 *known, cgroup;

	if (!c)
		return 0;
	cgroup = c->cgroup;
	known = bpf_map_lookup_elem(&vg_np_local, c->local);
	if (!known || *known != cgroup)
		bpf_map_update_elem(&vg_np_local, c->local, &cgroup, BPF_ANY);
	vg_np_beginner(&k, c->local, c->local_port, protocol);
	__builtin_memcpy(who.addr, &c->owner, sizeof(c->owner));
	bpf_map_update_elem(&vg_np_talks, &k, &who, BPF_ANY);
	return 0;
}

/* Where a conversation to a service was translated to; NULL: nobody has let it pass. */
static __always_inline struct vg_np_talk *translation(const struct vg_np_context *c, u8 protocol)
{
	struct vg_np_talk_key k;

	vg_np_translation(&k, c->local, c->local_port, protocol);
	return bpf_map_lookup_elem(&vg_np_talks, &k);
}

#define VG_NP_BACKENDS 64 /* that are looked at */

/* Where nobody sees what a service is translated to, all that stands behind it has to be allowed. */
static __noinline int may_all(const struct vg_np_pod *pod, struct vg_np_query *q, const struct vg_np_context *c, const struct vg_np_service *s)
{
	struct vg_np_backend_key k = {};
	u32 generation = vg_np_generation(), count;

	if (!pod || !q || !c || !s)
		return 0;
	k.number = s->number;
	count = s->backends;
	for (u32 i = 0; i < VG_NP_BACKENDS; i++) {
		struct vg_np_backend *b;

		if (i >= count)
			break;
		k.index = i;
		b = bpf_map_lookup_elem(&vg_np_backends, &k);
		if (!b)
			continue;
		__builtin_memcpy(q->addr, b->addr, 16);
		q->port = b->port;
		if (!may(pod, q, c, generation))
			return 0;
	}
	return 1;
}

static __always_inline int settle(struct vg_np_sock *n, u32 generation, u32 flags, int passes)
{
	if (n) {
		n->flags = flags | (passes ? 0 : VG_NP_SK_DENIED);
		n->generation = generation;
	}
	return passes;
}

/* A TCP packet whose socket does not say what was decided under this generation. */
static __noinline int tcp_packet(struct __sk_buff *skb, u32 in)
{
	u32 generation = vg_np_generation(), flags = 0;
	struct vg_np_query q = {.protocol = IPPROTO_TCP};
	struct vg_np_context c = {};
	struct bpf_sock *sk = skb->sk;
	struct vg_np_packet p = {};
	struct vg_np_service *service;
	struct vg_np_talk *talk;
	struct vg_np_pod *pod;
	struct vg_np_sock *n;
	struct vg_sock *known;
	bool held;
	u32 state;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	state = sk->state;
	pod = pod_of(skb, &c.cgroup, &held);
	if (held) {
		count(VG_NP_COUNT_HELD);
		return 0;
	}
	n = bpf_sk_storage_get(&vg_np_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!n)
		vg_lose(VG_LOST_SOCKET_STORAGE);
	if (!pod || pod->kind != VG_NP_POD)
		return settle(n, generation, VG_NP_SK_NONE, 1);
	known = owner_of(sk, &c);
	if (n)
		flags = n->flags;
	if (state == TCP_SYN_SENT)
		flags = VG_NP_SK_OUT | (flags & VG_NP_SK_WAITS);
	else if (flags & VG_NP_SK_LISTENER)
		flags = VG_NP_SK_IN;
	else if (!(flags & (VG_NP_SK_OUT | VG_NP_SK_IN)))
		flags = began(skb, known);
	flags &= ~(VG_NP_SK_DENIED | VG_NP_SK_NONE);
	q.direction = flags & VG_NP_SK_IN ? VG_NP_INGRESS : VG_NP_EGRESS;
	if (!vg_np_speaks(pod, generation, q.direction))
		return settle(n, generation, flags & ~VG_NP_SK_WAITS, 1);
	if (!read_packet(skb, &p))
		return 0;
	if (itself(&p))
		return settle(n, generation, VG_NP_SK_NONE, 1);
	ends(&q, &c, &p, in);
	if (flags & VG_NP_SK_IN) {
		q.port = c.local_port;
		return settle(n, generation, flags, may(pod, &q, &c, generation));
	}
	q.port = c.remote_port;
	if (in && flags & VG_NP_SK_WAITS) {
		u8 bits = 0;

		talk = translation(&c, IPPROTO_TCP);
		if (!talk) {
			bpf_skb_load_bytes(skb, p.transport + 13, &bits, 1);
			if (bits & VG_TCP_RST)
				return 1;
			count(VG_NP_COUNT_UNTRANSLATED);
			return 0;
		}
		flags &= ~VG_NP_SK_WAITS;
		if (n) {
			__builtin_memcpy(n->peer, talk->addr, 16);
			n->port = talk->port;
		}
		__builtin_memcpy(q.addr, talk->addr, 16);
		q.port = talk->port;
		if (same(q.addr, c.local))
			return settle(n, generation, flags, 1); /* a service that led to the pod itself */
	} else if (n && n->port && state != TCP_SYN_SENT) {
		__builtin_memcpy(q.addr, n->peer, 16);
		q.port = n->port;
		if (same(q.addr, c.local))
			return settle(n, generation, flags, 1);
	} else {
		vg_np_who(&q, generation);
		service = vg_np_service_of(&q);
		if (service && !vg_np_translated())
			return settle(n, generation, flags, may_all(pod, &q, &c, service));
		if (service) {
			if (state != TCP_SYN_SENT)
				return settle(n, generation, flags, 1); /* from before: where it went, nobody knows */
			if (n) {
				n->flags = flags | VG_NP_SK_WAITS;
				n->generation = 0;
				n->port = 0;
			}
			introduce(&c, q.protocol);
			return 1;
		}
		return settle(n, generation, flags, vg_np_may(pod, &q, &c, generation));
	}
	return settle(n, generation, flags, may(pod, &q, &c, generation));
}

/* The SYN to a listener. What follows it belongs to a conversation that was allowed. */
static __noinline int to_listener(struct __sk_buff *skb)
{
	struct vg_np_query q = {.protocol = IPPROTO_TCP, .direction = VG_NP_INGRESS};
	u32 generation = vg_np_generation();
	struct vg_np_context c = {};
	struct bpf_sock *sk = skb->sk;
	struct vg_np_packet p = {};
	struct vg_np_pod *pod;
	struct vg_np_sock *n;
	u8 flags = 0;
	bool held;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	pod = pod_of(skb, &c.cgroup, &held);
	if (held) {
		count(VG_NP_COUNT_HELD);
		return 0;
	}
	if (!pod || pod->kind != VG_NP_POD)
		return 1;
	n = bpf_sk_storage_get(&vg_np_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (n) {
		n->flags = VG_NP_SK_LISTENER;
		n->generation = 0;
	}
	if (!vg_np_speaks(pod, generation, VG_NP_INGRESS))
		return 1;
	if (!read_packet(skb, &p) || bpf_skb_load_bytes(skb, p.transport + 13, &flags, 1))
		return 0;
	if ((flags & (VG_TCP_SYN | VG_TCP_ACK)) != VG_TCP_SYN || itself(&p))
		return 1;
	owner_of(sk, &c);
	ends(&q, &c, &p, 1);
	q.port = c.local_port;
	return may(pod, &q, &c, generation);
}

/* The ends of a packet without a connection: 1 passes without being judged, 0 cannot be read, 2 is to be judged. A function of its
 * own for the sake of the stack: all frames together have 512 bytes. */
static __noinline int read_ends(struct __sk_buff *skb, u32 in, struct vg_np_query *q, struct vg_np_context *c)
{
	struct vg_np_packet p = {};

	if (!q || !c || !read_packet(skb, &p))
		return 0;
	if (itself(&p))
		return 1;
	q->protocol = p.protocol == IPPROTO_UDPLITE ? IPPROTO_UDP : p.protocol;
	switch (q->protocol) {
	case IPPROTO_TCP: /* of a raw socket */
		if (in)
			return 1; /* a copy of what is judged where it is meant for */
		break;
	case IPPROTO_SCTP:
		if (!bpf_skb_load_bytes(skb, p.transport + 12, &p.flags, 1) && p.flags != VG_SCTP_INIT)
			return 1;
		break;
	case IPPROTO_UDP:
		break;
	default:
		return 1;
	}
	ends(q, c, &p, in);
	return 2;
}

/* A datagram, and any packet of a raw socket; of SCTP the one that begins an association. */
static __noinline int datagram(struct __sk_buff *skb, u32 in)
{
	u32 generation = vg_np_generation();
	struct vg_np_talk fresh = {.generation = generation, .direction = in ? VG_NP_INGRESS : VG_NP_EGRESS}, *talk;
	struct vg_np_talk_key k = {};
	struct vg_np_context c = {};
	struct vg_np_service *service = 0;
	struct bpf_sock *sk = skb->sk;
	u32 egress;
	int got;
	struct vg_np_query q = {};
	struct vg_np_pod *pod;
	struct vg_np_sock *n;
	bool held;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	pod = pod_of(skb, &c.cgroup, &held);
	if (held) {
		count(VG_NP_COUNT_HELD);
		return 0;
	}
	if (!pod || pod->kind != VG_NP_POD) {
		n = bpf_sk_storage_get(&vg_np_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		return settle(n, generation, VG_NP_SK_NONE, 1);
	}
	egress = vg_np_speaks(pod, generation, VG_NP_EGRESS);
	if (!egress && !vg_np_speaks(pod, generation, VG_NP_INGRESS))
		return 1;
	got = read_ends(skb, in, &q, &c);
	if (got != 2)
		return got;
	owner_of(sk, &c);
	__builtin_memcpy(k.local, c.local, 16);
	__builtin_memcpy(k.remote, q.addr, 16);
	k.local_port = c.local_port;
	k.remote_port = c.remote_port;
	k.protocol = q.protocol;
	talk = bpf_map_lookup_elem(&vg_np_talks, &k);
	if (talk) {
		if (talk->flags & VG_NP_DEFERRED && in) {
			if (!translation(&c, q.protocol)) {
				count(VG_NP_COUNT_UNTRANSLATED);
				return 0;
			}
			return 1;
		}
		if (talk->generation == generation)
			return 1;
		fresh.direction = talk->direction; /* who wrote first is asked about, also under other policies */
	}
	q.direction = fresh.direction;
	q.port = fresh.direction == VG_NP_EGRESS ? c.remote_port : c.local_port;
	if (q.direction == VG_NP_EGRESS && egress) {
		vg_np_who(&q, generation);
		service = vg_np_service_of(&q);
		if (service && vg_np_translated()) {
			introduce(&c, q.protocol);
			fresh.flags = VG_NP_DEFERRED;
			bpf_map_update_elem(&vg_np_talks, &k, &fresh, BPF_ANY);
			return 1;
		}
	}
	if (service ? !may_all(pod, &q, &c, service) : !may(pod, &q, &c, generation))
		return 0;
	bpf_map_update_elem(&vg_np_talks, &k, &fresh, BPF_ANY);
	return 1;
}

/* A TCP packet that is no SYN, as far as one look tells: behind an IPv4 header without options. */
static __always_inline bool goes_on(struct __sk_buff *skb)
{
	u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;

	return skb->protocol == bpf_htons(VG_ETH_P_IP) && data + 34 <= end && data[0] == 0x45 && data[9] == IPPROTO_TCP &&
	       (data[33] & (VG_TCP_SYN | VG_TCP_ACK)) != VG_TCP_SYN;
}

static __always_inline int packet(struct __sk_buff *skb, u32 in)
{
	struct bpf_sock *sk = skb->sk;
	struct vg_np_sock *n;

	if (!sk)
		return 1;
	/* Most packets are of what was decided already. What is kept of a listener, and of a socket that waits, is of no generation. */
	n = bpf_sk_storage_get(&vg_np_socks, sk, 0, 0);
	if (n && n->generation == vg_np_generation())
		return !(n->flags & VG_NP_SK_DENIED);
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	if (sk->type == SOCK_RAW)
		return datagram(skb, in);
	switch (sk->protocol) {
	case IPPROTO_TCP:
		if (sk->state == TCP_LISTEN) {
			/* Who was allowed to begin goes on: the listener is a known pod's. */
			if (!in || (n && n->flags == VG_NP_SK_LISTENER && goes_on(skb)))
				return 1;
			return to_listener(skb);
		}
		return tcp_packet(skb, in);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
		return datagram(skb, in);
	}
	return 1;
}

#endif
