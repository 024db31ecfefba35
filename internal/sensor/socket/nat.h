/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which address stands behind the one that was asked for. Two ways lead to another one: a BPF program at connect(2) gives the
 * socket another address than its caller named (calls.h notes it), and netfilter translates packets, which connection
 * tracking knows by the time the first one leaves.
 *
 * Not seen: what is translated behind this host's own stack, by tc or XDP programs or on another host; netfilter where its
 * types are not in the kernel's own BTF (nf_conntrack as a module) or before Linux 6.2 (bpf_cast_to_kern_ctx).
 */
#ifndef VIGIE_SOCKET_NAT_H
#define VIGIE_SOCKET_NAT_H

#include "record.h"

/* Set before load: whether flows are followed. Where not, nothing of them runs. */
const volatile bool vg_flows = true;

#define IPS_SRC_NAT 0x10 /* include/uapi/linux/netfilter/nf_conntrack_common.h */
#define IPS_DST_NAT 0x20
#define NFCT_PTRMASK (~7ul)

#define VG_NAT_ASKED   1 /* the address that connect(2) was given */
#define VG_NAT_TRACKED 2 /* both addresses of the packets that leave */

struct vg_nat {
	u8 source[16], destination[16];
	u16 source_port, destination_port; /* network byte order */
	u32 kind;
};

VG_EXPORT(struct, vg_nat);

/* By cookie. The agent reads an entry when the connection has come about; what is evicted is shown as it was asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct vg_nat);
} vg_nats SEC(".maps");

/* How many were translated: while there are none, the agent does not ask. */
volatile u64 vg_nats_seen;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	unsigned long _nfct;
};

union nf_inet_addr {
	u32 all[4];
};

union nf_conntrack_man_proto {
	u16 all;
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
	u16 l3num;
};

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			u16 all;
		} u;
	} dst;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
};

#pragma clang attribute pop

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

static __always_inline void nat_address(u8 *to, const union nf_inet_addr *from, u16 l3num)
{
	u32 addr[4] = {};

	bpf_probe_read_kernel(addr, sizeof(addr), from);
	if (l3num == AF_INET)
		vg_map_ipv4(to, addr[0]);
	else
		__builtin_memcpy(to, addr, 16);
}

static __always_inline void keep_nat(u64 cookie, const struct vg_nat *n)
{
	if (!bpf_map_update_elem(&vg_nats, &cookie, n, BPF_ANY))
		__sync_fetch_and_add(&vg_nats_seen, 1);
}

/* The first packet of a connection leaves: the reply's addresses are those that its other end sees, the other way round. */
static __always_inline void note_nat(struct __sk_buff *skb)
{
	struct nf_conntrack_tuple *reply;
	unsigned long status = 0;
	struct vg_nat n = {};
	struct sk_buff *kernel;
	struct nf_conn *ct;
	u16 l3num;

	if (!vg_flows || !bpf_cast_to_kern_ctx || !bpf_core_type_exists(struct nf_conn))
		return;
	kernel = bpf_cast_to_kern_ctx(skb);
	ct = (void *)(BPF_CORE_READ(kernel, _nfct) & NFCT_PTRMASK);
	if (!ct)
		return;
	status = BPF_CORE_READ(ct, status);
	if (!(status & (IPS_SRC_NAT | IPS_DST_NAT)))
		return;
	reply = __builtin_preserve_access_index(&ct->tuplehash[1].tuple);
	l3num = BPF_CORE_READ(reply, src.l3num);
	n.destination_port = BPF_CORE_READ(reply, src.u.all);
	n.source_port = BPF_CORE_READ(reply, dst.u.all);
	nat_address(n.destination, __builtin_preserve_access_index(&reply->src.u3), l3num);
	nat_address(n.source, __builtin_preserve_access_index(&reply->dst.u3), l3num);
	n.kind = VG_NAT_TRACKED;
	keep_nat(bpf_get_socket_cookie(skb), &n);
}

#endif
