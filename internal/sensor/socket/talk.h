/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Conversations without connection: what a UDP socket that is not connected says to each address, and ICMP echoes, by ping
 * and raw sockets and as the kernel itself answers them. One entry of a hash table for each, counted by packet; the agent reads
 * them every second or two, reports them and takes out what has fallen silent. A connected UDP socket has one conversation,
 * which is counted in the socket's own storage: udp.h.
 */
#ifndef VIGIE_SOCKET_TALK_H
#define VIGIE_SOCKET_TALK_H

#include "nat.h"
#include "record.h"

#define IPPROTO_ICMP   1
#define IPPROTO_ICMPV6 58

#define ICMP_ECHOREPLY 0
#define ICMP_ECHO      8
#define ICMPV6_ECHO      128
#define ICMPV6_ECHOREPLY 129

struct vg_talk_key {
	u64 cookie; /* 0: the kernel's own answers to echo requests */
	u8 remote[16];
	u32 netns;
	u16 port; /* remote, network byte order; 0 for ICMP */
	u8 protocol;
	u8 pad;
};

struct vg_talk {
	struct vg_image owner;
	u8 local[16];
	u16 local_port;
	u8 inbound; /* the other end began */
	u8 icmp_type, icmp_code; /* of the first packet */
	u8 closed; /* the socket is */
	u8 pad[2];
	u64 first, last; /* CLOCK_BOOTTIME, ns */
	u64 bytes_out, bytes_in;
	u64 packets_out, packets_in;
};

VG_EXPORT(struct, vg_talk_key);
VG_EXPORT(struct, vg_talk);

/*
 * As many conversations as fit; memory is taken as used, about 180 bytes each. When it is full vg_talks_lost counts the
 * packets that are in no conversation. Not LRU: what the kernel evicted would never be reported.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_talk_key);
	__type(value, struct vg_talk);
} vg_talks SEC(".maps");

volatile u64 vg_talks_lost;

/* What a socket's storage (vg_socks) has no room for; made when it is needed. */
struct vg_flow_sock {
	struct vg_talk_key last; /* the conversation that spoke last */
	u64 told; /* when its counters were last read, CLOCK_BOOTTIME */
	u32 error; /* UDP: errno that ICMP brought */
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_flow_sock);
} vg_flow_socks SEC(".maps");

struct vg_packet {
	u8 source[16], destination[16];
	u16 source_port, destination_port;
	u8 protocol, icmp_type, icmp_code;
	u32 header; /* bytes */
};

/* Reads addresses, and ports or the ICMP type. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct vg_packet *p)
{
	u16 ports[2] = {};
	u8 first = 0;

	if (skb->protocol == bpf_htons(0x0800 /* ETH_P_IP */)) {
		if (bpf_skb_load_bytes(skb, 0, &first, 1) || bpf_skb_load_bytes(skb, 9, &p->protocol, 1))
			return false;
		p->header = (first & 15) * 4;
		vg_map_ipv4(p->source, 0);
		vg_map_ipv4(p->destination, 0);
		if (bpf_skb_load_bytes(skb, 12, p->source + 12, 4) || bpf_skb_load_bytes(skb, 16, p->destination + 12, 4))
			return false;
	} else {
		p->header = 40;
		if (bpf_skb_load_bytes(skb, 6, &p->protocol, 1) || bpf_skb_load_bytes(skb, 8, p->source, 16) ||
		    bpf_skb_load_bytes(skb, 24, p->destination, 16))
			return false;
	}
	if (bpf_skb_load_bytes(skb, p->header, ports, 4))
		return false;
	if (p->protocol == IPPROTO_UDP) {
		p->source_port = ports[0];
		p->destination_port = ports[1];
		return true;
	}
	p->icmp_type = ports[0];
	p->icmp_code = ports[0] >> 8;
	return p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6;
}

static __always_inline void begin_talk(const struct vg_talk_key *k, const struct vg_sock *s, const struct vg_packet *p, bool in)
{
	struct vg_talk t = {};

	t.owner = s->owner;
	__builtin_memcpy(t.local, in ? p->destination : p->source, 16);
	t.local_port = in ? p->destination_port : p->source_port;
	t.inbound = in;
	t.icmp_type = p->icmp_type;
	t.icmp_code = p->icmp_code;
	if (p->protocol != IPPROTO_UDP && !k->cookie) { /* the request is not seen, its answer says what it was */
		t.inbound = 1;
		t.icmp_type = p->protocol == IPPROTO_ICMP ? ICMP_ECHO : ICMPV6_ECHO;
	}
	t.first = bpf_ktime_get_boot_ns();
	/* Another processor may have been first. Then this is its conversation. */
	if (bpf_map_update_elem(&vg_talks, k, &t, BPF_NOEXIST) == -7 /* E2BIG */)
		__sync_fetch_and_add(&vg_talks_lost, 1);
}

static __always_inline void count_talk(struct vg_talk *t, u32 bytes, u32 packets, bool in)
{
	t->last = bpf_ktime_get_boot_ns();
	if (in) {
		__sync_fetch_and_add(&t->bytes_in, bytes);
		__sync_fetch_and_add(&t->packets_in, packets);
	} else {
		__sync_fetch_and_add(&t->bytes_out, bytes);
		__sync_fetch_and_add(&t->packets_out, packets);
	}
}

/* A packet that leaves is translated already, and what comes in is no more: the conversation is the one that its socket has. */
static __always_inline void as_socket_has(struct __sk_buff *skb, struct vg_packet *p)
{
	struct vg_path asked = {};
	u32 info = 0;
	struct nf_conn *ct = tracked(skb, &info);

	if (!translated(ct, &asked))
		return;
	if (info == IP_CT_NEW)
		keep_path(ct, &asked);
	else if (info >= IP_CT_IS_REPLY)
		read_tuple(&asked, __builtin_preserve_access_index(&ct->tuplehash[1].tuple), false);
	__builtin_memcpy(p->source, asked.source, 16);
	__builtin_memcpy(p->destination, asked.destination, 16);
	p->source_port = asked.source_port;
	p->destination_port = asked.destination_port;
}

/* Counts a packet of a conversation that has no connection. s is the storage of skb's socket. */
static __always_inline void on_talk(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_sock *s, bool in)
{
	u32 packets = skb->gso_segs ?: 1, bytes;
	struct vg_talk_key k = {};
	struct vg_packet p = {};
	struct vg_flow_sock *f;
	struct sock *kernel;
	struct vg_talk *t;

	if (!read_packet(skb, &p))
		return;
	if (!in && p.protocol == IPPROTO_UDP)
		as_socket_has(skb, &p);
	__builtin_memcpy(k.remote, in ? p.source : p.destination, 16);
	k.port = in ? p.source_port : p.destination_port;
	k.protocol = p.protocol;
	kernel = (struct sock *)*(volatile u64 *)&s->sk;
	k.netns = BPF_CORE_READ(kernel, __sk_common.skc_net.net, ns.inum);
	if (p.protocol == IPPROTO_UDP || s->owner.pid)
		k.cookie = s->cookie;
	bytes = skb->len > p.header + 8 ? skb->len - p.header - 8 : 0;
	t = bpf_map_lookup_elem(&vg_talks, &k);
	if (!t) {
		/* Raw sockets get everybody's packets: only what they asked for is theirs. */
		if (in && p.protocol != IPPROTO_UDP)
			return;
		if (!k.cookie && !(p.protocol == IPPROTO_ICMP ? p.icmp_type == ICMP_ECHOREPLY : p.icmp_type == ICMPV6_ECHOREPLY))
			return;
		begin_talk(&k, s, &p, in);
		t = bpf_map_lookup_elem(&vg_talks, &k);
		if (!t)
			return;
	}
	count_talk(t, bytes, packets, in);
	if (!k.cookie) {
		count_talk(t, bytes, packets, true); /* the request that this answers, which has the same bytes */
		return;
	}
	f = bpf_sk_storage_get(&vg_flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (f)
		f->last = k;
}

/* The socket is closed: the conversation that spoke last can be reported as ended at once, others when they fall silent or
 * the agent has seen the socket's close. */
static __always_inline void end_talk(struct bpf_sock *sk)
{
	struct vg_flow_sock *f = bpf_sk_storage_get(&vg_flow_socks, sk, 0, 0);
	struct vg_talk_key k;
	struct vg_talk *t;

	if (!f || !f->last.protocol)
		return;
	k = f->last;
	t = bpf_map_lookup_elem(&vg_talks, &k);
	if (t)
		t->closed = 1;
}

static __always_inline bool speaks_icmp(struct bpf_sock *sk)
{
	return sk->protocol == IPPROTO_ICMP || sk->protocol == IPPROTO_ICMPV6 || sk->type == SOCK_RAW;
}

#endif
