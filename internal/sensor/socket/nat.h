/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which address stands behind the one that was asked for. Two ways lead to another one: a BPF program at connect(2) gives the
 * socket another address than its caller named (calls.h notes it), and netfilter translates packets. Connection tracking knows
 * the latter by the time the first packet leaves: in the socket's own network namespace, as it passes the socket's cgroup, and
 * in this host's, through which packets of pods and containers go, as it passes netfilter (translate.bpf.c).
 *
 * Not seen: what is translated by tc or XDP programs or on another host; netfilter where its types are neither in the kernel's
 * BTF nor in a loaded module's.
 */
#ifndef VIGIE_SOCKET_NAT_H
#define VIGIE_SOCKET_NAT_H

#include "record.h"

/* Set before load: whether flows are followed. Where not, nothing of them runs. */
const volatile bool vg_flows = true;

#define IPS_SRC_NAT 0x10 /* include/uapi/linux/netfilter/nf_conntrack_common.h */
#define IPS_DST_NAT 0x20
#define IP_CT_NEW      2
#define IP_CT_IS_REPLY 3
#define NFCT_INFO      7ul /* the low bits of _nfct */

/* The ends of a conversation. As a key: as the socket that began it has them. As a value: as they are on the packets that
 * arrive. */
struct vg_path {
	u8 source[16], destination[16];
	u16 source_port, destination_port; /* network byte order */
	u32 protocol;
};

VG_EXPORT(struct, vg_path);

/* The agent reads an entry when the conversation has come about; what is evicted is shown as it was asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct vg_path);
	__type(value, struct vg_path);
} vg_paths SEC(".maps");

/* How many were noted: while there are none, the agent does not ask. */
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
		u8 protonum;
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

static __always_inline void nat_address(u8 *to, const union nf_inet_addr *from, u16 l3num)
{
	u32 addr[4] = {};

	bpf_probe_read_kernel(addr, sizeof(addr), from);
	if (l3num == AF_INET)
		vg_map_ipv4(to, addr[0]);
	else
		__builtin_memcpy(to, addr, 16);
}

/* A direction's two ends; backwards, as the other one's packets have them. */
static __always_inline void read_tuple(struct vg_path *p, const struct nf_conntrack_tuple *t, bool backwards)
{
	u16 l3num = BPF_CORE_READ(t, src.l3num);
	u16 source = BPF_CORE_READ(t, src.u.all), destination = BPF_CORE_READ(t, dst.u.all);

	p->protocol = BPF_CORE_READ(t, dst.protonum);
	p->source_port = backwards ? destination : source;
	p->destination_port = backwards ? source : destination;
	nat_address(backwards ? p->destination : p->source, __builtin_preserve_access_index(&t->src.u3), l3num);
	nat_address(backwards ? p->source : p->destination, __builtin_preserve_access_index(&t->dst.u3), l3num);
}

/* The conversation of a packet, as the socket that began it has it, where its addresses are translated. */
static __always_inline bool translated(struct nf_conn *ct, struct vg_path *asked)
{
	if (!ct || !(BPF_CORE_READ(ct, status) & (IPS_SRC_NAT | IPS_DST_NAT)))
		return false;
	read_tuple(asked, __builtin_preserve_access_index(&ct->tuplehash[0].tuple), false);
	return true;
}

/* Notes where a conversation goes. What answers has the addresses at its other end. */
static __always_inline void keep_path(struct nf_conn *ct, const struct vg_path *asked)
{
	struct vg_path path = {}, *have;

	read_tuple(&path, __builtin_preserve_access_index(&ct->tuplehash[1].tuple), true);
	have = bpf_map_lookup_elem(&vg_paths, asked);
	if (have && !__builtin_memcmp(have, &path, sizeof(path)))
		return; /* datagrams are first ones until there is an answer */
	if (!bpf_map_update_elem(&vg_paths, asked, &path, BPF_ANY))
		__sync_fetch_and_add(&vg_nats_seen, 1);
}

/* Connection tracking's word of a packet that leaves a socket: whose it is, and what it is to it. */
static __always_inline struct nf_conn *tracked(struct __sk_buff *skb, u32 *info)
{
	unsigned long nfct = 0;

	if (!bpf_core_field_exists(struct sk_buff, _nfct) || !bpf_core_type_exists(struct nf_conn))
		return 0;
	/* Under the context of a program on packets lies the packet itself. */
	bpf_probe_read_kernel(&nfct, sizeof(nfct), (void *)skb + bpf_core_field_offset(struct sk_buff, _nfct));
	*info = nfct & NFCT_INFO;
	return (struct nf_conn *)(nfct & ~NFCT_INFO);
}

/* The first packet of a connection leaves its socket. */
static __always_inline void note_path(struct __sk_buff *skb)
{
	struct vg_path asked = {};
	struct nf_conn *ct;
	u32 info = 0;

	if (!vg_flows)
		return;
	ct = tracked(skb, &info);
	if (translated(ct, &asked))
		keep_path(ct, &asked);
}

#endif
