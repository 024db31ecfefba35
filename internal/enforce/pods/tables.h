/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the tables of pods say (internal/policy/netpol/table.go is the contract), as look-ups.
 *
 *   vg_np_pods      cgroup                           → the tables of the pod
 *   vg_np_addrs     address                          → class of who has it
 *   vg_np_tables    table                            → what it speaks of
 *   vg_np_classes   (table, direction, class)        → profile
 *   vg_np_blocks    (table, direction, address)      → profile
 *   vg_np_names     (table, address)                 → profiles of the names by which the pod asked for it
 *   vg_np_ports     (table, profile, protocol, port) → answer
 *   vg_np_services  (address, port, protocol)        → it will be translated
 *
 * One number, the generation in vg_np_state, says what is in force: its lowest bit chooses among two of whatever a change of policies
 * changes, so that everything changes at one moment. What was decided under another generation is decided anew.
 *
 * Addresses are IPv6; IPv4 is ::ffff:a.b.c.d. Ports are in network byte order.
 */
#ifndef VIGIE_PODS_TABLES_H
#define VIGIE_PODS_TABLES_H

#include "abi.h"
#include "sock.h"
#include "types.h"

struct vg_np_force {
	u32 generation;
	u32 translated; /* forward.bpf.c sees packets after translation */
	u32 netns;	/* inode number of the node's own network namespace */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_np_force);
} vg_np_state SEC(".maps");

VG_EXPORT(struct, vg_np_force);

static __always_inline u32 vg_np_generation(void)
{
	u32 zero = 0;
	struct vg_np_force *s = bpf_map_lookup_elem(&vg_np_state, &zero);

	return s ? *(volatile u32 *)&s->generation : 0;
}

static __always_inline u32 vg_np_host_netns(void)
{
	u32 zero = 0;
	struct vg_np_force *s = bpf_map_lookup_elem(&vg_np_state, &zero);

	return s ? s->netns : 0;
}

static __always_inline bool vg_np_translated(void)
{
	u32 zero = 0;
	struct vg_np_force *s = bpf_map_lookup_elem(&vg_np_state, &zero);

	return s && s->translated;
}

enum vg_np_kind {
	VG_NP_PARENT = 1, /* pods' cgroups lie below */
	VG_NP_POD,
	VG_NP_FREE, /* a pod under no policy, by what it is: in its node's network */
	VG_NP_HELD, /* a pod of which it is not known yet what it is: nothing passes */
};

struct vg_np_pod {
	u32 kind;
	u32 tables[2]; /* by generation; 0: none */
	u32 audits[2]; /* of what policies that only watch would deny */
};

/* As many as a node has pods, and the cgroups above. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct vg_np_pod);
} vg_np_pods SEC(".maps");

#define VG_NP_HOST   0x1 /* of this node itself: what comes from there may come in */
#define VG_NP_INSIDE 0x2 /* a pod or a node */

struct vg_np_addr {
	u32 classes[2]; /* by generation */
	u32 flags;
};

/* Pods and nodes of the whole cluster. Full: Apply says so, and what has no place is nobody to policies. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u8[16]);
	__type(value, struct vg_np_addr);
} vg_np_addrs SEC(".maps");

/* Addresses of this node's pods, by the agent or by a pod's own packet. Full: the least recently used goes, and comes with
 * its pod's next packet. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u8[16]);
	__type(value, u64); /* cgroup */
} vg_np_local SEC(".maps");

/* vg_np_table.flags, shifted by direction */
#define VG_NP_SPEAKS  0x01
#define VG_NP_BLOCKS  0x04
#define VG_NP_OUTSIDE 0x10
#define VG_NP_NAMES   0x40 /* of egress */

struct vg_np_table {
	u32 flags;
	u32 isolated[2]; /* by direction: the rule that denies what no rule allows; 0: none */
	u32 base[2];	 /* profile */
};

/* Two for each pod, at most, and those that are going. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, struct vg_np_table);
} vg_np_tables SEC(".maps");

struct vg_np_class_key {
	u32 table;
	u32 class;
	u32 direction;
};

/* Only where a class differs from what holds for all. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_np_class_key);
	__type(value, u32);
} vg_np_classes SEC(".maps");

struct vg_np_block_key {
	u32 bits;
	u32 table;
	u32 direction; /* | 2: what is outside alone */
	u8 addr[16];
};

#define VG_NP_BLOCK_BITS 64 /* before the address */

/* As many CIDRs as all tables have. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_np_block_key);
	__type(value, u32);
} vg_np_blocks SEC(".maps");

struct vg_np_port_key {
	u32 bits;
	u32 table;
	u32 profile;
	u8 protocol;
	u8 pad;
	u16 port;
};

#define VG_NP_PORT_BITS 80 /* before the port */

/* As many ranges of ports as all profiles have. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_np_port_key);
	__type(value, u64);
} vg_np_ports SEC(".maps");

#define VG_NP_PLACES 8

struct vg_np_name_key {
	u32 table;
	u8 addr[16];
};

struct vg_np_places {
	u32 profiles[VG_NP_PLACES]; /* 0 after the last */
};

/* The agent writes what pods asked for, and takes out what has expired. Full: the least recently used goes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct vg_np_name_key);
	__type(value, struct vg_np_places);
} vg_np_names SEC(".maps");

struct vg_np_service_key {
	u8 addr[16]; /* 0: any of this node's own, for node ports */
	u16 port;
	u8 protocol;
	u8 pad;
};

struct vg_np_service {
	u32 number; /* of its backends */
	u32 backends;
};

/* Where an address is one that kube-proxy, or who stands for it, translates. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_np_service_key);
	__type(value, struct vg_np_service);
} vg_np_services SEC(".maps");

struct vg_np_backend_key {
	u32 number;
	u32 index;
};

struct vg_np_backend {
	u8 addr[16];
	u16 port;
	u16 pad;
};

/* What stands behind services, filled only where vg_np_forward cannot be. Full: Apply says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_np_backend_key);
	__type(value, struct vg_np_backend);
} vg_np_backends SEC(".maps");

VG_EXPORT(enum, vg_np_kind);
VG_EXPORT(struct, vg_np_pod);
VG_EXPORT(struct, vg_np_addr);
VG_EXPORT(struct, vg_np_table);
VG_EXPORT(struct, vg_np_class_key);
VG_EXPORT(struct, vg_np_block_key);
VG_EXPORT(struct, vg_np_port_key);
VG_EXPORT(struct, vg_np_name_key);
VG_EXPORT(struct, vg_np_places);
VG_EXPORT(struct, vg_np_service_key);
VG_EXPORT(struct, vg_np_service);
VG_EXPORT(struct, vg_np_backend_key);
VG_EXPORT(struct, vg_np_backend);

enum vg_np_direction {
	VG_NP_EGRESS,
	VG_NP_INGRESS,
};

/* What a pod is asked about, and the answer. */
struct vg_np_query {
	u8 addr[16]; /* of the other end */
	u16 port;    /* of the conversation's destination */
	u8 protocol;
	u8 direction;
	u32 table;
	u32 class;
	u32 flags; /* of vg_np_addr */
	u32 rule;  /* that decided */
};

/* netpol.Answer: 21 bits a tier, each rule << 2 | action */
#define VG_NP_TIER    21
#define VG_NP_TIERS   3
#define VG_NP_MIDDLE  1 /* tier Namespace */
#define VG_NP_DENY    2
#define VG_NP_PASS    3

static __always_inline u32 vg_np_tier(u64 answer, u32 tier)
{
	return answer >> (tier * VG_NP_TIER) & ((1 << VG_NP_TIER) - 1);
}

static __always_inline u64 vg_np_merge(u64 a, u64 b)
{
	u64 out = 0;

	for (u32 t = 0; t < VG_NP_TIERS; t++) {
		u64 x = vg_np_tier(a, t), y = vg_np_tier(b, t);

		if (y && (!x || y < x))
			x = y;
		out |= x << (t * VG_NP_TIER);
	}
	return out;
}

static __always_inline u64 vg_np_port(const struct vg_np_query *q, u32 profile)
{
	struct vg_np_port_key k = {.bits = VG_NP_PORT_BITS + 16, .table = q->table, .profile = profile, .protocol = q->protocol, .port = q->port};
	u64 *a;

	if (!profile)
		return 0;
	a = bpf_map_lookup_elem(&vg_np_ports, &k);
	return a ? *a : 0;
}

static __always_inline u64 vg_np_block(const struct vg_np_query *q, u32 direction)
{
	struct vg_np_block_key k = {.bits = VG_NP_BLOCK_BITS + 128, .table = q->table, .direction = direction};
	u32 *profile;

	__builtin_memcpy(k.addr, q->addr, 16);
	profile = bpf_map_lookup_elem(&vg_np_blocks, &k);
	return profile ? vg_np_port(q, *profile) : 0;
}

static __always_inline u64 vg_np_by_name(const struct vg_np_query *q)
{
	struct vg_np_name_key k = {.table = q->table};
	struct vg_np_places *n;
	u64 a = 0;

	__builtin_memcpy(k.addr, q->addr, 16);
	n = bpf_map_lookup_elem(&vg_np_names, &k);
	if (!n)
		return 0;
	for (int i = 0; i < VG_NP_PLACES; i++) {
		if (!n->profiles[i])
			break;
		a = vg_np_merge(a, vg_np_port(q, n->profiles[i]));
	}
	return a;
}

/* Whether q->table denies, and by which rule. Global, so that it is verified once. */
__weak __noinline int vg_np_denies(struct vg_np_query *q)
{
	struct vg_np_class_key k = {};
	struct vg_np_table *t;
	u32 d, key, isolated;
	u32 *profile;
	u64 a;

	if (!q)
		return 0;
	q->rule = 0;
	key = q->table;
	t = bpf_map_lookup_elem(&vg_np_tables, &key);
	if (!t) {
		vg_lose(VG_LOST_POLICY_TABLE_GONE);
		return 0;
	}
	d = q->direction & 1;
	if (!(t->flags & VG_NP_SPEAKS << d))
		return 0;
	k.table = q->table;
	k.class = q->class;
	k.direction = d;
	profile = bpf_map_lookup_elem(&vg_np_classes, &k);
	a = vg_np_port(q, profile ? *profile : t->base[d]);
	if (t->flags & VG_NP_BLOCKS << d)
		a = vg_np_merge(a, vg_np_block(q, d));
	if (t->flags & VG_NP_OUTSIDE << d && !(q->flags & VG_NP_INSIDE))
		a = vg_np_merge(a, vg_np_block(q, d | 2));
	if (d == VG_NP_EGRESS && t->flags & VG_NP_NAMES)
		a = vg_np_merge(a, vg_np_by_name(q));
	isolated = t->isolated[d];
	for (u32 tier = 0; tier < VG_NP_TIERS; tier++) {
		u32 x = vg_np_tier(a, tier);

		if (x && (x & 3) != VG_NP_PASS) {
			q->rule = x >> 2;
			return (x & 3) == VG_NP_DENY;
		}
		if (tier == VG_NP_MIDDLE && isolated) {
			q->rule = isolated;
			return 1;
		}
	}
	return 0;
}

/* Whose address it is: into q. Not in a global function: before 6.2 what it is given may not be a key. */
static __always_inline void vg_np_who(struct vg_np_query *q, u32 generation)
{
	struct vg_np_addr *a = bpf_map_lookup_elem(&vg_np_addrs, q->addr);

	q->class = a ? a->classes[generation & 1] : 0;
	q->flags = a ? a->flags : 0;
}

static __always_inline struct vg_np_service *vg_np_service_of(const struct vg_np_query *q)
{
	struct vg_np_service_key k = {.port = q->port, .protocol = q->protocol};
	struct vg_np_service *s;

	__builtin_memcpy(k.addr, q->addr, 16);
	s = bpf_map_lookup_elem(&vg_np_services, &k);
	if (s || !(q->flags & VG_NP_HOST))
		return s;
	__builtin_memset(k.addr, 0, 16);
	return bpf_map_lookup_elem(&vg_np_services, &k);
}

#endif
