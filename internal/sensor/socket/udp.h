/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * UDP. It has no states, so the process is noted where it names an address (bind, connect, sendto) and packets
 * are counted one by one, in the socket's storage. connect and bind are reported at their return (calls.h);
 * here: the first unconnected datagram to each address, as a connect, and the close.
 *
 * A socket that was bound to a port of its choice is a listener. What it sends to somebody who sent to it
 * lately is an answer, and not reported as a connect.
 */
#ifndef VIGIE_SOCKET_UDP_H
#define VIGIE_SOCKET_UDP_H

#include "nat.h"
#include "packets.h"
#include "record.h"
#include "talk.h"

struct vg_peer {
	u64 cookie;
	u8 addr[16];
	u16 port;
	u16 pad[3];
};

/* Addresses that a socket has sent to without connecting. One that is evicted is reported once more. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct vg_peer);
	__type(value, u32);
} vg_peers SEC(".maps");

static __always_inline struct vg_sock *own_udp(struct bpf_sock *sk, u64 cookie)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!s) {
		vg_lose(VG_LOST_SOCKET_STORAGE);
		return 0;
	}
	vg_fill_image(&s->owner, t);
	s->tid = t->pid;
	if (!s->cookie) {
		s->cookie = cookie;
		s->since = bpf_ktime_get_boot_ns();
		s->sk = (u64)sk;
	}
	return s;
}

/* The socket as one that can be read by probe: through the map, where the verifier forgets what it was. */
static __always_inline struct sock *kernel_sock(struct vg_sock *s)
{
	return (struct sock *)*(volatile u64 *)&s->sk;
}

/* Never 0, which stands for an empty place. */
static __always_inline u32 peer_hash(const u32 *addr, u16 port)
{
	u32 h = 0x811c9dc5 ^ port;

	for (int i = 0; i < 4; i++)
		h = (h ^ addr[i]) * 0x01000193;
	return (h ^ h >> 15) | 1u << 31;
}

static __always_inline int on_bind(struct bpf_sock_addr *ctx)
{
	struct vg_sock *s;

	if (ctx->protocol != IPPROTO_UDP || !ctx->sk)
		return 1;
	s = own_udp(ctx->sk, bpf_get_socket_cookie(ctx));
	if (!s)
		return 1;
	if ((u16)ctx->user_port)
		s->flags |= VG_SK_LISTENER;
	else
		s->flags &= ~VG_SK_LISTENER;
	return 1;
}

SEC("cgroup/bind4")
int vg_bind4(struct bpf_sock_addr *ctx)
{
	return on_bind(ctx);
}

SEC("cgroup/bind6")
int vg_bind6(struct bpf_sock_addr *ctx)
{
	return on_bind(ctx);
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx)
{
	struct vg_sock *s;

	if (ctx->protocol != IPPROTO_UDP || !ctx->sk)
		return 1;
	s = own_udp(ctx->sk, bpf_get_socket_cookie(ctx));
	if (s)
		s->flags |= VG_SK_OUTBOUND;
	return 1;
}

SEC("cgroup/connect4")
int vg_connect4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx);
}

SEC("cgroup/connect6")
int vg_connect6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx);
}

static __always_inline void emit_peer(struct vg_sock *s, struct vg_peer *p)
{
	struct sock *sk = kernel_sock(s);
	struct vg_conn c;

	vg_fill_header(&c.h, VG_CONNECT, bpf_get_current_task_btf());
	fill_ends(&c, sk);
	fill_conn(&c, sk, VG_PROTO_UDP, VG_DIR_OUTBOUND, p->cookie);
	__builtin_memcpy(c.remote, p->addr, 16);
	c.remote_port = p->port;
	vg_emit_telemetry(&c, sizeof(c));
}

/* Whether the datagram goes where the socket is connected to: an IPv6 socket that is connected to an IPv4 address
 * names it with each datagram, inside the kernel. */
static __always_inline bool connected_to(struct vg_sock *s, const struct vg_peer *p)
{
	const u64 *a, *b = (const void *)p->addr;
	struct sock *sk = kernel_sock(s);
	struct vg_conn c;

	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED)
		return false;
	fill_ends(&c, sk);
	a = (const void *)c.remote;
	return a[0] == b[0] && a[1] == b[1] && c.remote_port == p->port;
}

static __always_inline bool same_peer(const struct vg_sock *s, const struct vg_peer *p)
{
	const u64 *a = (const void *)s->peer, *b = (const void *)p->addr;

	return a[0] == b[0] && a[1] == b[1] && s->peer_port == p->port;
}

static __always_inline int on_send(struct bpf_sock_addr *ctx, struct vg_peer *p)
{
	struct bpf_sock *sk = ctx->sk;
	struct vg_sock *s;
	u32 hash, one = 1;

	if (!sk)
		return 1;
	p->port = ctx->user_port;
	s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	if (s && same_peer(s, p))
		return 1;
	p->cookie = bpf_get_socket_cookie(ctx);
	if (!s || !(s->flags & (VG_SK_LISTENER | VG_SK_OUTBOUND))) {
		s = own_udp(sk, p->cookie);
		if (!s)
			return 1;
	}
	hash = peer_hash((u32 *)p->addr, p->port);
	if (s->flags & VG_SK_LISTENER && s->recent[hash & (VG_SOCK_RECENT - 1)] == hash)
		return 1;
	if (connected_to(s, p))
		return 1;
	if (s->peer_port)
		s->flags |= VG_SK_PEERS;
	__builtin_memcpy(s->peer, p->addr, 16);
	s->peer_port = p->port;
	s->flags |= VG_SK_OUTBOUND;
	if (bpf_map_lookup_elem(&vg_peers, p))
		return 1;
	bpf_map_update_elem(&vg_peers, p, &one, BPF_ANY);
	emit_peer(s, p);
	return 1;
}

SEC("cgroup/sendmsg4")
int vg_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct vg_peer p = {};

	vg_map_ipv4(p.addr, ctx->user_ip4);
	return on_send(ctx, &p);
}

SEC("cgroup/sendmsg6")
int vg_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct vg_peer p = {};
	u32 *w = (u32 *)p.addr;

	w[0] = ctx->user_ip6[0];
	w[1] = ctx->user_ip6[1];
	w[2] = ctx->user_ip6[2];
	w[3] = ctx->user_ip6[3];
	return on_send(ctx, &p);
}

/* Notes who sent this packet to a listener. A packet that cannot be read only makes the answer look like a
 * conversation of its own. */
static __always_inline void note_sender(struct __sk_buff *skb, struct vg_sock *s, u32 header, bool v4)
{
	u32 addr[4], hash;
	u16 port = 0;

	if (v4) {
		vg_map_ipv4(addr, 0);
		if (bpf_skb_load_bytes(skb, 12, &addr[3], 4))
			return;
	} else if (bpf_skb_load_bytes(skb, 8, addr, 16)) {
		return;
	}
	if (bpf_skb_load_bytes(skb, header, &port, 2))
		return;
	hash = peer_hash(addr, port);
	s->recent[hash & (VG_SOCK_RECENT - 1)] = hash;
}

/* An ICMP packet of a ping or raw socket, or of the kernel, whose sockets nobody has made an owner of. */
static __always_inline void on_icmp(struct __sk_buff *skb, struct bpf_sock *sk, bool in)
{
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, in ? 0 : BPF_SK_STORAGE_GET_F_CREATE);

	if (!s)
		return;
	if (!s->sk)
		s->sk = (u64)sk;
	on_talk(skb, sk, s, in);
}

/* Counts a packet of a UDP socket, and of those that speak ICMP. Everything else passes through the first lines. */
static __always_inline void on_packet(struct __sk_buff *skb, bool in)
{
	struct bpf_sock *sk = skb->sk;
	struct vg_sock *s;
	u32 header, packets, bytes;
	u8 first = 0;
	bool v4;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	if (sk->protocol != IPPROTO_UDP) {
		if (sk->protocol == IPPROTO_TCP) {
			if (!in && sk->state == TCP_SYN_SENT)
				note_path(skb);
			return;
		}
		if (vg_flows && speaks_icmp(sk))
			on_icmp(skb, sk, in);
		return;
	}
	s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	if (!s)
		return;
	if (vg_flows && sk->state != TCP_ESTABLISHED && s->sk)
		on_talk(skb, sk, s, in);
	v4 = skb->protocol == bpf_htons(0x0800 /* ETH_P_IP */);
	header = 40;
	if (v4) {
		bpf_skb_load_bytes(skb, 0, &first, 1);
		header = (first & 15) * 4;
	}
	packets = skb->gso_segs ?: 1;
	bytes = skb->len > header + 8 ? skb->len - header - 8 : 0;
	if (in) {
		__sync_fetch_and_add(&s->bytes_in, bytes);
		__sync_fetch_and_add(&s->packets_in, packets);
		if (s->flags & VG_SK_LISTENER)
			note_sender(skb, s, header, v4);
	} else {
		if (!s->packets_out && sk->state == TCP_ESTABLISHED)
			note_path(skb);
		__sync_fetch_and_add(&s->bytes_out, bytes);
		__sync_fetch_and_add(&s->packets_out, packets);
	}
}

SEC("cgroup_skb/ingress")
int vg_ingress(struct __sk_buff *skb)
{
	on_packet(skb, true);
	bpf_tail_call(skb, &vg_packets_ingress, 0);
	return 1;
}

SEC("cgroup_skb/egress")
int vg_egress(struct __sk_buff *skb)
{
	on_packet(skb, false);
	bpf_tail_call(skb, &vg_packets_egress, 0);
	return 1;
}

/* A socket that can speak ICMP: its process, for there is no call to come that names an address. */
SEC("cgroup/sock_create")
int vg_sock_create(struct bpf_sock *ctx)
{
	if (speaks_icmp(ctx))
		own_udp(ctx, bpf_get_socket_cookie(ctx));
	return 1;
}

static __always_inline u8 udp_direction(u32 flags)
{
	if (flags & VG_SK_LISTENER)
		return VG_DIR_LISTENER;
	return flags & VG_SK_INBOUND ? VG_DIR_INBOUND : VG_DIR_OUTBOUND;
}

SEC("cgroup/sock_release")
int vg_sock_release(struct bpf_sock *ctx)
{
	struct vg_flow_sock *f;
	struct vg_closed r;
	struct vg_sock *s;
	struct sock *sk;

	if (ctx->protocol == IPPROTO_TCP)
		return 1;
	if (ctx->protocol != IPPROTO_UDP) {
		if (speaks_icmp(ctx))
			end_talk(ctx);
		return 1;
	}
	s = bpf_sk_storage_get(&vg_socks, ctx, 0, 0);
	if (!s || !(s->flags & (VG_SK_LISTENER | VG_SK_OUTBOUND | VG_SK_INBOUND)))
		return 1;
	f = bpf_sk_storage_get(&vg_flow_socks, ctx, 0, 0);
	end_talk(ctx);
	sk = kernel_sock(s);
	header_of(&r.c.h, VG_CLOSE, &s->owner, s->tid);
	fill_ends(&r.c, sk);
	fill_conn(&r.c, sk, VG_PROTO_UDP, udp_direction(s->flags), s->cookie);
	r.c.error = f ? f->error : 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED && s->peer_port && !(s->flags & VG_SK_PEERS)) {
		__builtin_memcpy(r.c.remote, s->peer, 16);
		r.c.remote_port = s->peer_port;
	}
	r.c.elapsed = r.c.h.time - s->since;
	r.bytes_out = s->bytes_out;
	r.bytes_in = s->bytes_in;
	r.packets_out = s->packets_out;
	r.packets_in = s->packets_in;
	r.retransmits = 0;
	r.srtt_us = 0;
	vg_emit_telemetry(&r, sizeof(r));
	return 1;
}

#endif
