/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What tables say about conversations, as look-ups. Who includes this can judge; how an answer is carried out is the
 * includer's. The doc comment of policy.Table has the rule by which answers combine.
 *
 *   vg_net_tables     table                         → which directions it speaks of
 *   vg_net_prefixes   (table, direction, address)   → class of the address
 *   vg_net_ports      (table, direction, protocol, class, subject, port) → decision
 *   vg_net_names      (table, address)              → classes of the names by which the workload asked for it
 *   vg_net_peers      (table, address, port)        → classes of the workloads that listen there
 *
 * Addresses are IPv6; IPv4 is ::ffff:a.b.c.d, also where a program wrote it so itself. Ports are in network byte order.
 */
#ifndef VIGIE_NETWORK_H
#define VIGIE_NETWORK_H

#include "policy.h"
#include "sock.h"

#define VG_NET_CLASSES 4 /* names and peers of one address: what does not fit is counted (names) or refused (peers) */

#define VG_NAME_CLASS 0x8000
#define VG_PEER_CLASS 0x4000

#define IPPROTO_ICMP   1
#define IPPROTO_TCP    6
#define IPPROTO_UDP    17
#define IPPROTO_ICMPV6 58
#define IPPROTO_SCTP   132
#define IPPROTO_UDPLITE 136
#define IPPROTO_MPTCP  262
#define VG_PROTO_OTHER 255 /* policy.OtherProtocol */

/* policy.Direction */
enum vg_net_direction {
	VG_NET_EGRESS,
	VG_NET_INGRESS,
	VG_NET_LISTEN,
};

/* Four bits a table, eight tables a word: 1 << direction. A table that says nothing of a direction costs it nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VG_TABLES / 8);
	__type(key, u32);
	__type(value, u32);
} vg_net_tables SEC(".maps");

struct vg_net_prefix_key {
	u32 bits;
	u16 table;
	u8 direction;
	u8 pad;
	u8 addr[16];
};

#define VG_NET_PREFIX_BITS 32 /* before the address */

/* As many CIDRs as all tables have together. Memory is taken as used. Full: the policy is refused, and the ones before it
 * stay in force. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_net_prefix_key);
	__type(value, u32);
} vg_net_prefixes SEC(".maps");

struct vg_net_port_key {
	u32 bits;
	u16 table;
	u8 direction;
	u8 protocol;
	u16 class;
	u16 subject;
	u16 pad;
	u16 port;
};

#define VG_NET_PORT_BITS 80 /* before the port */

/* The same for ranges of ports. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_net_port_key);
	__type(value, u32);
} vg_net_ports SEC(".maps");

struct vg_net_name_key {
	u32 table;
	u8 addr[16];
};

/* class << 32 | end: seconds of CLOCK_BOOTTIME until which it counts. 0 is an empty place. */
struct vg_net_places {
	u64 places[VG_NET_CLASSES];
};

/* Addresses that workloads asked for and rules name. The agent takes out what has expired. Full: VG_LOST_DNS_NAMES_FULL,
 * and what a rule allows by that name is not allowed at that address. Allocated beforehand, 3 MB: where an answer is read, the
 * kernel may have no memory at hand. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct vg_net_name_key);
	__type(value, struct vg_net_places);
} vg_net_names SEC(".maps");

struct vg_net_peer_key {
	u16 table;
	u16 port; /* 0: all of the address */
	u8 addr[16];
};

struct vg_net_classes {
	u16 classes[VG_NET_CLASSES];
};

/* Where workloads listen, by the tables that name them. Full: SetPeers says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_net_peer_key);
	__type(value, struct vg_net_classes);
} vg_net_peers SEC(".maps");

VG_EXPORT(struct, vg_net_prefix_key);
VG_EXPORT(struct, vg_net_port_key);
VG_EXPORT(struct, vg_net_name_key);
VG_EXPORT(struct, vg_net_places);
VG_EXPORT(struct, vg_net_peer_key);
VG_EXPORT(struct, vg_net_classes);

/* A conversation that is asked about, and the answer. */
struct vg_net_query {
	u8 addr[16]; /* of the other end; VG_NET_LISTEN: own */
	u16 port;    /* VG_NET_EGRESS: the other end's; else own */
	u8 direction;
	u8 protocol; /* see vg_net_protocol */
	u16 table;   /* of the slot that is being asked */
	u16 subject;
	u16 decision; /* policy.Decision */
	u16 name;     /* class of the name that decided; 0 when none did */
	struct vg_answer answer; /* of all slots */
	u32 answer_name;
};

/* The protocol as tables know it. */
static __always_inline u8 vg_net_protocol(u32 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_MPTCP:
		return IPPROTO_TCP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return IPPROTO_ICMP;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return protocol;
	}
	return VG_PROTO_OTHER;
}

static __always_inline bool vg_net_speaks(u16 table, u32 direction)
{
	u32 key = table / 8, *bits = bpf_map_lookup_elem(&vg_net_tables, &key);

	return bits && *bits >> (table % 8 * 4 + direction) & 1;
}

static __always_inline u16 vg_net_class(const struct vg_net_query *q)
{
	struct vg_net_prefix_key k = {.bits = VG_NET_PREFIX_BITS + 128, .table = q->table, .direction = q->direction};
	u32 *class;

	__builtin_memcpy(k.addr, q->addr, 16);
	class = bpf_map_lookup_elem(&vg_net_prefixes, &k);
	return class ? *class : 0;
}

static __always_inline u16 vg_net_port(const struct vg_net_query *q, u16 class)
{
	struct vg_net_port_key k = {.bits = VG_NET_PORT_BITS + 16, .table = q->table, .direction = q->direction,
				    .protocol = q->protocol, .class = class, .subject = q->subject, .port = q->port};
	u32 *d;

	if (q->protocol == IPPROTO_ICMP || q->protocol == VG_PROTO_OTHER)
		k.port = 0;
	d = bpf_map_lookup_elem(&vg_net_ports, &k);
	return d ? *d : 0;
}

/* policy.Stronger */
static __always_inline bool vg_net_beats(u16 now, u16 before)
{
	if (!now || !before)
		return now;
	if (vg_action(now) != vg_action(before))
		return vg_action(now) > vg_action(before);
	return now < before;
}

/* The classes of the names of an address go into the answer. */
static __always_inline void vg_net_by_name(struct vg_net_query *q)
{
	struct vg_net_name_key k = {.table = q->table};
	u64 now = bpf_ktime_get_boot_ns() / 1000000000;
	struct vg_net_places *n;

	__builtin_memcpy(k.addr, q->addr, 16);
	n = bpf_map_lookup_elem(&vg_net_names, &k);
	if (!n)
		return;
	for (int i = 0; i < VG_NET_CLASSES; i++) {
		u64 place = *(volatile u64 *)&n->places[i];
		u16 class = place >> 32, d;

		if (!class || (u32)place < now)
			continue;
		d = vg_net_port(q, class | VG_NAME_CLASS);
		if (vg_net_beats(d, q->decision)) {
			q->decision = d;
			q->name = class;
		}
	}
}

static __always_inline void vg_net_by_peer(struct vg_net_query *q, u16 port)
{
	struct vg_net_peer_key k = {.table = q->table, .port = port};
	struct vg_net_classes *p;

	__builtin_memcpy(k.addr, q->addr, 16);
	p = bpf_map_lookup_elem(&vg_net_peers, &k);
	if (!p)
		return;
	for (int i = 0; i < VG_NET_CLASSES; i++) {
		u16 class = p->classes[i], d;

		if (!class)
			return;
		d = vg_net_port(q, class | VG_PEER_CLASS);
		if (vg_net_beats(d, q->decision)) {
			q->decision = d;
			q->name = 0;
		}
	}
}

/* What q->table says of q->subject: q->decision. Global, so that it is verified once. */
__weak __noinline int vg_net_slot(struct vg_net_query *q)
{
	struct vg_table *t;

	if (!q)
		return 0;
	q->decision = 0;
	q->name = 0;
	if (!vg_net_speaks(q->table, q->direction & 3))
		return 0;
	t = vg_table_of(q->table);
	if (!t)
		return 0;
	q->decision = vg_net_port(q, vg_net_class(q));
	if (q->direction == VG_NET_EGRESS) {
		if (t->flags & VG_TABLE_NAMES)
			vg_net_by_name(q);
		if (t->flags & VG_TABLE_PEERS) {
			vg_net_by_peer(q, q->port);
			vg_net_by_peer(q, 0);
		}
	}
	if (!q->decision) {
		switch (q->direction) {
		case VG_NET_EGRESS:
			q->decision = t->defaults[VG_NET_EGRESS];
			break;
		case VG_NET_INGRESS:
			q->decision = t->defaults[VG_NET_INGRESS];
			break;
		case VG_NET_LISTEN:
			q->decision = t->defaults[VG_NET_LISTEN];
			break;
		}
	}
	return 0;
}

/* What all tables of a process say: q->answer, and its action. */
__weak __noinline int vg_judge_net(const struct vg_subject *s, struct vg_net_query *q)
{
	struct vg_answer a = {};
	u32 name = 0;

	if (!s || !q)
		return 0;
	for (u32 i = 0; i < VG_SLOTS; i++) {
		if (i >= s->count)
			break;
		q->table = s->slots[i].table;
		q->subject = s->slots[i].subject;
		vg_net_slot(q);
		if (vg_action(q->decision) > vg_action(a.decision)) {
			vg_stronger(&a, q->table, q->decision);
			name = q->name;
		}
	}
	q->answer = a;
	q->answer_name = name;
	return vg_action(a.decision);
}

/* What a table says about sockets that evade the rules. */
__weak __noinline int vg_net_sockets(u32 table)
{
	struct vg_table *t = vg_table_of(table);

	return t ? t->sockets : 0;
}

/* The same of all tables of a process. */
static __always_inline struct vg_answer vg_judge_socket(const struct vg_subject *s)
{
	struct vg_answer a = {};

	for (u32 i = 0; i < VG_SLOTS; i++) {
		if (i >= s->count)
			break;
		vg_stronger(&a, s->slots[i].table, vg_net_sockets(s->slots[i].table));
	}
	return a;
}

#endif
