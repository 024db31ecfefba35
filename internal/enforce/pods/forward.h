/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets of this node's pods on their way through the node's own network, behind the translation of their destination and
 * before that of their source. Here stands where a service's address leads to; and here pass packets that no socket hook
 * sees, those of packet sockets among them.
 *
 * First packets alone: a SYN, the first datagram, an SCTP INIT. What answers belongs to a conversation that was allowed.
 */
#ifndef VIGIE_PODS_FORWARD_H
#define VIGIE_PODS_FORWARD_H

#include "verdict.h"

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;

#define VG_PF_INET 2

#define VG_V6_STEPS 6 /* extension headers; a packet with more is none that a pod sends */

/* The transport header of an IPv6 packet; 0: there is none that can be found. */
static __always_inline u32 find_transport(struct bpf_dynptr *d, u8 *protocol)
{
	u32 off = 40;
	u8 h[2];

	for (int i = 0; i < VG_V6_STEPS; i++) {
		switch (*protocol) {
		case 0:	 /* hop-by-hop */
		case 43: /* routing */
		case 60: /* destination */
			if (bpf_dynptr_read(h, sizeof(h), d, off, 0))
				return 0;
			*protocol = h[0];
			off += (h[1] + 1) * 8;
			break;
		default:
			return off;
		}
	}
	return 0;
}

/* It answers something, as the kernel's tracking of connections knows. */
static __always_inline bool answers(struct sk_buff *skb)
{
	unsigned long info;

	if (!bpf_core_field_exists(skb->_nfct))
		return false;
	info = skb->_nfct & VG_CT_INFO;
	return (skb->_nfct & ~(unsigned long)VG_CT_INFO) && info >= IP_CT_IS_REPLY && info != VG_CT_INFO;
}

/* Most packets: TCP behind an IPv4 header without options, and no SYN. Of a fragment that is not the first the flags are none, but it is
 * no first packet either. */
static __always_inline bool goes_on(struct sk_buff *skb)
{
	u8 head[34]; /* up to the flags */

	if (skb->len - skb->data_len < sizeof(head) || bpf_probe_read_kernel(head, sizeof(head), skb->data))
		return false;
	if (head[0] != 0x45 || head[9] != IPPROTO_TCP)
		return false;
	return (head[33] & (VG_TCP_SYN | VG_TCP_ACK)) != VG_TCP_SYN || bpf_ntohs(*(u16 *)(head + 6)) & 0x1fff;
}

/* 0: its beginning cannot be read. 2: it is no first packet of anything. */
static __noinline int read_forwarded(struct bpf_nf_ctx *ctx, struct vg_np_packet *p)
{
	struct sk_buff *skb = ctx->skb;
	struct bpf_dynptr d;
	u32 ports;
	u8 head[20];

	if (!p || bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &d))
		return 0;
	if (ctx->state->pf == VG_PF_INET) {
		if (bpf_dynptr_read(head, sizeof(head), &d, 0, 0))
			return 0;
		if (bpf_ntohs(*(u16 *)(head + 6)) & 0x1fff)
			return 2; /* a fragment, but the first */
		p->protocol = head[9];
		p->transport = (head[0] & 15) * 4;
		vg_map_ipv4(p->from, *(u32 *)(head + 12));
		vg_map_ipv4(p->to, *(u32 *)(head + 16));
	} else {
		if (bpf_dynptr_read(&p->protocol, 1, &d, 6, 0) || bpf_dynptr_read(p->from, 32, &d, 8, 0))
			return 0;
		if (p->protocol == 44) /* fragment */
			return 2;
		p->transport = find_transport(&d, &p->protocol);
		if (!p->transport)
			return 0;
	}
	switch (p->protocol) {
	case IPPROTO_TCP:
		if (bpf_dynptr_read(&p->flags, 1, &d, p->transport + 13, 0))
			return 0;
		if ((p->flags & (VG_TCP_SYN | VG_TCP_ACK)) != VG_TCP_SYN)
			return 2;
		break;
	case IPPROTO_SCTP:
		if (bpf_dynptr_read(&p->flags, 1, &d, p->transport + 12, 0))
			return 0;
		if (p->flags != VG_SCTP_INIT)
			return 2;
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		p->protocol = IPPROTO_UDP;
		break;
	default:
		return 2;
	}
	if (bpf_dynptr_read(&ports, sizeof(ports), &d, p->transport, 0))
		return 0;
	p->source = ports;
	p->dest = ports >> 16;
	return 1;
}

/* A packet that may be a first one. */
static __noinline int first(struct bpf_nf_ctx *ctx)
{
	u32 generation = vg_np_generation();
	struct vg_np_talk fresh = {.generation = generation, .direction = VG_NP_EGRESS}, *talk;
	struct vg_np_query q = {.direction = VG_NP_EGRESS};
	struct vg_np_talk_key k = {}, begun;
	struct vg_np_context c = {.hook = VG_NP_HOOK_FORWARD};
	struct vg_np_packet p = {};
	struct vg_np_pod *pod;
	u64 *cgroup;
	int got;

	got = read_forwarded(ctx, &p);
	if (got == 2)
		return NF_ACCEPT;
	cgroup = bpf_map_lookup_elem(&vg_np_local, p.from);
	if (!cgroup)
		return NF_ACCEPT;
	c.cgroup = *cgroup;
	pod = bpf_map_lookup_elem(&vg_np_pods, &c.cgroup);
	if (!pod || pod->kind != VG_NP_POD || !vg_np_speaks(pod, generation, VG_NP_EGRESS))
		return NF_ACCEPT;
	if (!got)
		return NF_DROP;
	__builtin_memcpy(k.local, p.from, 16);
	__builtin_memcpy(k.remote, p.to, 16);
	k.local_port = p.source;
	k.remote_port = p.dest;
	k.protocol = p.protocol;
	if (p.protocol != IPPROTO_TCP) {
		talk = bpf_map_lookup_elem(&vg_np_talks, &k);
		if (talk && talk->generation == generation && !(talk->flags & VG_NP_DEFERRED))
			return NF_ACCEPT;
		if (talk && talk->direction == VG_NP_INGRESS)
			return NF_ACCEPT;
	}
	__builtin_memcpy(q.addr, p.to, 16);
	__builtin_memcpy(c.local, p.from, 16);
	c.local_port = p.source;
	c.remote_port = p.dest;
	q.port = p.dest;
	q.protocol = p.protocol;
	vg_np_who(&q, generation);
	if (!(q.flags & VG_NP_HOST) && vg_np_service_of(&q))
		return NF_ACCEPT; /* not translated yet: IPVS does it behind this hook, and it comes by again */
	vg_np_beginner(&begun, p.from, p.source, p.protocol);
	talk = bpf_map_lookup_elem(&vg_np_talks, &begun);
	if (talk)
		__builtin_memcpy(&c.owner, talk->addr, sizeof(c.owner));
	if (!itself(&p) && !vg_np_may(pod, &q, &c, generation))
		return NF_DROP;
	if (p.protocol != IPPROTO_TCP)
		bpf_map_update_elem(&vg_np_talks, &k, &fresh, BPF_ANY);
	else if (!talk)
		return NF_ACCEPT; /* not to a service: no socket waits for where it went */
	vg_np_translation(&k, p.from, p.source, p.protocol);
	__builtin_memcpy(fresh.addr, p.to, 16);
	fresh.port = p.dest;
	bpf_map_update_elem(&vg_np_talks, &k, &fresh, BPF_ANY);
	return NF_ACCEPT;
}

/* Nearly all packets end here. */
static __always_inline int forwarded(struct bpf_nf_ctx *ctx)
{
	if (answers(ctx->skb) || (ctx->state->pf == VG_PF_INET && goes_on(ctx->skb)))
		return NF_ACCEPT;
	return first(ctx);
}

#endif
