/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sockets, packets and addresses into slots: all become a struct vg_probe_sock. */
#ifndef VIGIE_TRACING_NET_H
#define VIGIE_TRACING_NET_H

#include "read.h"

static __always_inline struct vg_probe_sock *vg_sock_room(struct vg_probe_scratch *s, struct vg_probe_slot *slot)
{
	struct vg_probe_sock *k = (void *)vg_room(s, slot, VG_SLOT_SOCK);

	if (k) {
		__builtin_memset(k, 0, sizeof(*k));
		vg_used(s, slot, sizeof(*k));
	}
	return k;
}

static __always_inline void vg_mapped(u8 *dst, u32 v4)
{
	dst[10] = dst[11] = 0xff;
	__builtin_memcpy(dst + 12, &v4, 4);
}

static __always_inline void vg_fill_sock(struct vg_probe_sock *k, struct sock *sk)
{
	k->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	k->type = BPF_CORE_READ(sk, sk_type);
	k->protocol = BPF_CORE_READ(sk, sk_protocol);
	k->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	k->mark = BPF_CORE_READ(sk, sk_mark);
	k->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (k->family != AF_INET && k->family != AF_INET6)
		return;
	k->sport = BPF_CORE_READ(sk, __sk_common.skc_num);
	k->dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (k->family == AF_INET) {
		vg_mapped(k->saddr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		vg_mapped(k->daddr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		bpf_probe_read_kernel(k->saddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(k->daddr, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

/* struct sock * */
VG_LIB u64 vg_arg_sock(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct vg_probe_sock *k = vg_sock_room(s, slot);
	struct vg_image *owner;

	if (!k)
		return 0;
	slot->value = ptr;
	vg_fill_sock(k, (struct sock *)ptr);
	owner = bpf_map_lookup_elem(&vg_tracked, &slot->value);
	if (owner) {
		s->r.h.start = owner->start;
		s->r.h.pid = owner->pid;
		s->r.h.exec = owner->exec;
	}
	return 0;
}

VG_LIB u64 vg_arg_socket(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_sock(s, slot, (u64)BPF_CORE_READ((struct socket *)ptr, sk));
}

struct vg_ipv4 {
	u8 ihl, tos;
	u16 len, id, frag;
	u8 ttl, protocol;
	u16 check;
	u32 saddr, daddr;
};

struct vg_ipv6 {
	u32 flow;
	u16 len;
	u8 next, hops;
	u8 saddr[16], daddr[16];
};

/* struct sk_buff *: what its network header says; extension headers of IPv6 are not followed. */
VG_LIB u64 vg_arg_skb(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct vg_probe_sock *k = vg_sock_room(s, slot);
	struct sk_buff *skb = (struct sk_buff *)ptr;
	unsigned char *net = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	struct vg_ipv4 v4 = {};
	u32 transport;
	u16 ports[2] = {};

	if (!k)
		return 0;
	slot->value = ptr;
	k->mark = BPF_CORE_READ(skb, mark);
	bpf_probe_read_kernel(&v4, sizeof(v4), net);
	if (v4.ihl >> 4 == 4) {
		k->family = AF_INET;
		k->protocol = v4.protocol;
		vg_mapped(k->saddr, v4.saddr);
		vg_mapped(k->daddr, v4.daddr);
		transport = (v4.ihl & 0xf) * 4;
	} else if (v4.ihl >> 4 == 6) {
		struct vg_ipv6 v6 = {};

		bpf_probe_read_kernel(&v6, sizeof(v6), net);
		k->family = AF_INET6;
		k->protocol = v6.next;
		__builtin_memcpy(k->saddr, v6.saddr, 16);
		__builtin_memcpy(k->daddr, v6.daddr, 16);
		transport = sizeof(v6);
	} else {
		return 0;
	}
	if (k->protocol == 6 || k->protocol == 17) {
		bpf_probe_read_kernel(ports, sizeof(ports), net + transport);
		k->sport = bpf_ntohs(ports[0]);
		k->dport = bpf_ntohs(ports[1]);
	}
	return 0;
}

struct vg_sockaddr {
	u16 family;
	u16 port;
	u32 v4;
	u8 v6[16];
};

/* struct sockaddr *, the kernel's or the caller's: its address and port are the source, as there is only one. */
VG_LIB u64 vg_arg_sockaddr(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct vg_probe_sock *k = vg_sock_room(s, slot);
	struct vg_sockaddr a = {};

	if (!k)
		return 0;
	slot->value = ptr;
	if (vg_read_any(&a, 8, ptr)) {
		slot->flags |= VG_SLOT_UNREAD;
		return 0;
	}
	k->family = a.family;
	if (a.family == AF_INET) {
		k->sport = bpf_ntohs(a.port);
		vg_mapped(k->saddr, a.v4);
	} else if (a.family == AF_INET6) {
		k->sport = bpf_ntohs(a.port);
		vg_read_any(k->saddr, 16, ptr + 8);
	}
	return 0;
}

/* struct sockaddr_un *: its path, an abstract name after an @; value is the family. */
VG_LIB u64 vg_arg_sockaddr_un(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	u16 family = 0;
	char first = 1, *dst;
	long n;

	vg_read_any(&family, sizeof(family), ptr);
	vg_read_any(&first, sizeof(first), ptr + 2);
	if (family != AF_UNIX) {
		slot->kind = VG_SLOT_NUMBER;
	} else if (first) {
		vg_arg_text(s, slot, ptr + 2);
	} else {
		dst = vg_room(s, slot, VG_SLOT_TEXT);
		if (!dst)
			return 0;
		dst[0] = '@';
		if ((s64)ptr < 0)
			n = bpf_probe_read_kernel_str(dst + 1, 107, (void *)ptr + 3);
		else
			n = bpf_probe_read_user_str(dst + 1, 107, (void *)ptr + 3);
		vg_used(s, slot, n > 0 ? n : 1);
	}
	slot->value = family;
	return 0;
}

/* TrackSock: what happens on the socket from now on is the current process's. */
VG_LIB u64 vg_track(struct vg_probe_scratch *s, u64 sk)
{
	bpf_map_update_elem(&vg_tracked, &sk, &s->r.h.start, BPF_ANY);
	return 0;
}

VG_LIB u64 vg_untrack(u64 sk)
{
	bpf_map_delete_elem(&vg_tracked, &sk);
	return 0;
}

#endif
