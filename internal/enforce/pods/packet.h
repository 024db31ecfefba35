/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet, and what is kept of conversations without a socket. */
#ifndef VIGIE_PODS_PACKET_H
#define VIGIE_PODS_PACKET_H

#include "tables.h"

struct vg_np_packet {
	u8 from[16], to[16];
	u16 source, dest;
	u8 protocol;
	u8 flags; /* of TCP; of SCTP the type of the first chunk */
	u16 pad;
	u32 transport;
};

static __always_inline bool is_local(const u8 *addr)
{
	const u32 *w = (const u32 *)addr;

	if (w[0] | w[1])
		return false;
	if (w[2] == bpf_htonl(0xffff))
		return (w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !w[2] && w[3] == bpf_htonl(1);
}

static __always_inline bool same(const u8 *x, const u8 *y)
{
	const u64 *a = (const u64 *)x, *b = (const u64 *)y;

	return a[0] == b[0] && a[1] == b[1];
}

/* A pod and itself. */
static __always_inline bool itself(const struct vg_np_packet *p)
{
	return is_local(p->to) || same(p->from, p->to);
}

/* What was let pass, by the addresses that are on the packets. Full: the least recently used is forgotten, and the next
 * packet of its conversation is judged as the first of one. */
struct vg_np_talk_key {
	u8 local[16]; /* of the pod */
	u8 remote[16]; /* 0: see vg_np_translation */
	u16 local_port, remote_port;
	u8 protocol;
	u8 pad[3];
};

#define VG_NP_DEFERRED 0x1 /* to a service: the packet is judged when it has been translated */

struct vg_np_talk {
	u32 generation;
	u8 direction;
	u8 flags;
	u16 port;     /* of a translation: where to */
	u8 addr[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct vg_np_talk_key);
	__type(value, struct vg_np_talk);
} vg_np_talks SEC(".maps");

/* The key under which it stands where a conversation to a service has been translated to, and that it may be. */
static __always_inline void vg_np_translation(struct vg_np_talk_key *k, const u8 *local, u16 port, u8 protocol)
{
	__builtin_memset(k, 0, sizeof(*k));
	__builtin_memcpy(k->local, local, 16);
	k->local_port = port;
	k->protocol = protocol;
}

/* The key under which stands who began it, while it is on its way: vg_np_talk.addr is a vg_image. */
static __always_inline void vg_np_beginner(struct vg_np_talk_key *k, const u8 *local, u16 port, u8 protocol)
{
	vg_np_translation(k, local, port, protocol);
	k->pad[0] = 1;
}

/* What happened beside verdicts. The agent reads it. */
enum vg_np_count {
	VG_NP_COUNT_HELD,	  /* packets of pods that are not known yet */
	VG_NP_COUNT_UNTRANSLATED, /* answers of services whose translation nobody saw */
	VG_NP_COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VG_NP_COUNTS);
	__type(key, u32);
	__type(value, u64);
} vg_np_counts SEC(".maps");

VG_EXPORT(enum, vg_np_count);

static __always_inline void count(u32 what)
{
	u64 *n = bpf_map_lookup_elem(&vg_np_counts, &what);

	if (n)
		(*n)++;
}

#endif
