/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What comes in: the first packet of a TCP connection to a listener, datagrams that answer nothing, and answers of name
 * servers. What leaves: conversations of protocols that have no other hook. Both: nothing passes through a socket that was cut.
 */
#ifndef VIGIE_NETWORK_PACKETS_H
#define VIGIE_NETWORK_PACKETS_H

#include "names.h"
#include "owner.h"
#include "talk.h"
#include "transport.h"
#include "verdict.h"

#define VG_DNS_PORT 53
#define VG_SCTP_INIT 1

struct vg_packet {
	u32 transport; /* offset of the transport header */
	u16 source, dest; /* ports */
	u8 from[16], to[16];
};

/* False for a packet that is none of the internet's. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct vg_packet *p)
{
	u32 addr[2], ports;

	if (skb->protocol == bpf_htons(VG_ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 12, addr, sizeof(addr)))
			return false;
		vg_map_ipv4(p->from, addr[0]);
		vg_map_ipv4(p->to, addr[1]);
	} else if (bpf_skb_load_bytes(skb, 8, p->from, 32)) { /* both */
		return false;
	}
	p->transport = transport_of(skb);
	if (p->transport > 0xffff || bpf_skb_load_bytes(skb, p->transport, &ports, sizeof(ports)))
		return false;
	p->source = ports;
	p->dest = ports >> 16;
	return true;
}

/* Judges a conversation that comes in; 0 refuses it. Noinline for the sake of the stack: all frames together have 512 bytes. */
static __noinline int comes_in(const struct vg_subject *s, const struct vg_image *owner, const struct vg_packet *p, u8 protocol)
{
	struct vg_net_query q = {.direction = VG_NET_INGRESS, .protocol = protocol, .port = p->dest};
	struct vg_net_ends other = {.port = p->source};

	__builtin_memcpy(q.addr, p->from, 16);
	__builtin_memcpy(other.addr, p->to, 16);
	if (vg_judge_net(s, &q) == VG_ACT_ALLOW)
		return 1;
	/* Never a signal: who sends could then kill who listens. */
	tell(&q, &other, owner, SAYS(VG_OP_ACCEPT, VG_HOOK_SKB_INGRESS) | SAYS_DENIED);
	return vg_action(q.answer.decision) == VG_ACT_AUDIT;
}

/* The same for a listener whose port was not its process's to listen on: one that the kernel chose, or from before the policy. */
static __always_inline int may_listen(struct bpf_sock *sk, const struct vg_subject *s, const struct vg_image *owner, u8 protocol)
{
	struct vg_net_query q = {.direction = VG_NET_LISTEN, .protocol = protocol, .port = bpf_htons(sk->src_port)};
	struct vg_net_ends none = {};

	local_addr(q.addr, sk);
	if (vg_judge_net(s, &q) <= VG_ACT_AUDIT)
		return 1; /* an audit has been told by listens */
	tell(&q, &none, owner, SAYS(VG_OP_LISTEN, VG_HOOK_SKB_INGRESS) | SAYS_DENIED);
	return 0;
}

/* To a TCP listener. What follows the SYN belongs to a conversation that was allowed. */
static __noinline int to_listener(struct __sk_buff *skb)
{
	const struct vg_subject *s;
	struct bpf_sock *sk = skb->sk;
	struct vg_image owner;
	struct vg_packet p;
	u8 flags;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	s = subject_of_socket(sk, &owner);
	if (!s)
		return 1;
	if (!read_packet(skb, &p) || bpf_skb_load_bytes(skb, p.transport + 13, &flags, 1))
		return 0;
	if ((flags & 0x12) != 0x02) /* SYN without ACK */
		return 1;
	if (carries(VG_OP_LISTEN) && !may_listen(sk, s, &owner, IPPROTO_TCP))
		return 0;
	return carries(VG_OP_ACCEPT) ? comes_in(s, &owner, &p, IPPROTO_TCP) : 1;
}

static __noinline int datagram_in(struct __sk_buff *skb)
{
	bool asked = true;
	struct vg_net_talk_key k = {};
	const struct vg_subject *s;
	struct bpf_sock *sk = skb->sk;
	struct vg_net_talk *talk;
	struct vg_image owner;
	struct vg_packet p;
	u64 stamp;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	s = subject_of_socket(sk, &owner);
	if (!s)
		return 1;
	if (!read_packet(skb, &p))
		return 0;
	if (sk->state != TCP_ESTABLISHED) { /* of a connected socket the kernel lets in what its other end sends, and no more */
		stamp = stamp_of(s);
		k.cookie = bpf_get_socket_cookie(skb);
		__builtin_memcpy(k.addr, p.from, 16);
		k.port = p.source;
		talk = bpf_map_lookup_elem(&vg_net_talks, &k);
		asked = talk && talk->direction == VG_NET_EGRESS;
		/* What was asked under other tables may be answered: Cut ends what these forbid. */
		if (!asked && (!talk || talk->stamp != stamp)) {
			if (carries(VG_OP_ACCEPT) && !comes_in(s, &owner, &p, vg_net_protocol(sk->protocol)))
				return 0;
			remember(&k, stamp, VG_NET_INGRESS);
		}
	}
	/* By the port that it was connected to where the address was translated on the way. */
	if (asked && (p.source == bpf_htons(VG_DNS_PORT) || sk->dst_port == bpf_htons(VG_DNS_PORT)) && has_names(s))
		read_answer(skb, p.transport + 8, s);
	return 1;
}

static __always_inline bool is_cut(struct bpf_sock *sk)
{
	struct vg_net_sock *n;

	if (!vg_net_cuts)
		return false;
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
	return n && n->flags & VG_NET_CUT;
}

/* A reset without data: how the kernel tells the other end that a connection is over. */
static __noinline int is_reset(struct __sk_buff *skb)
{
	u32 off = transport_of(skb), len = skb->len;
	u8 b[2];

	if (off > 0xffff || bpf_skb_load_bytes(skb, off + 12, b, sizeof(b)))
		return 0;
	return b[1] & 0x04 && len == off + (b[0] >> 4) * 4;
}

/* Packets of protocols whose conversations have no hook: of SCTP the one that begins an association, of ICMP each. */
static __noinline int by_packet(struct __sk_buff *skb, u32 in)
{
	struct vg_net_query q = {};
	struct vg_net_ends other = {};
	const struct vg_subject *s;
	struct bpf_sock *sk = skb->sk;
	struct vg_net_sock *n;
	struct vg_image owner;
	struct vg_packet p;
	u8 chunk = 0;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
	if (!n || !(n->flags & VG_NET_PACKETS))
		return 1;
	q.protocol = vg_net_protocol(sk->protocol);
	if (in && q.protocol == IPPROTO_ICMP)
		return 1; /* answers */
	s = subject_of_socket(sk, &owner);
	if (!s)
		return 1;
	if (!read_packet(skb, &p))
		return 0;
	if (q.protocol == IPPROTO_SCTP && (bpf_skb_load_bytes(skb, p.transport + 12, &chunk, 1) || chunk != VG_SCTP_INIT))
		return 1;
	if (in) {
		/* The cgroup hooks of bind are not asked about SCTP, whatever port was asked for. */
		if (carries(VG_OP_LISTEN) && !may_listen(sk, s, &owner, IPPROTO_SCTP))
			return 0;
		return carries(VG_OP_ACCEPT) ? comes_in(s, &owner, &p, IPPROTO_SCTP) : 1;
	}
	if (!carries(VG_OP_SEND))
		return 1;
	__builtin_memcpy(q.addr, p.to, 16);
	__builtin_memcpy(other.addr, p.from, 16);
	q.port = q.protocol == IPPROTO_ICMP ? 0 : p.dest;
	if (vg_judge_net(s, &q) == VG_ACT_ALLOW)
		return 1;
	tell(&q, &other, &owner, SAYS(VG_OP_SEND, VG_HOOK_SKB_EGRESS) | SAYS_DENIED);
	return vg_action(q.answer.decision) == VG_ACT_AUDIT;
}

SEC("cgroup_skb/ingress")
int vg_net_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	if (is_cut(sk))
		return 0;
	switch (sk->protocol) {
	case IPPROTO_TCP:
		return sk->state == TCP_LISTEN ? to_listener(skb) : 1;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return datagram_in(skb);
	case IPPROTO_SCTP:
		return by_packet(skb, 1);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int vg_net_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	if (is_cut(sk))
		return sk->protocol == IPPROTO_TCP && is_reset(skb);
	switch (sk->protocol) {
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_SCTP:
		return by_packet(skb, 0);
	}
	return 1;
}

#endif
