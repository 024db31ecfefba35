/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs on each packet of each local socket. Each that is attached costs its call, for each packet: so one is, and goes on with
 * the others by jumps (internal/kernel/packets.go). Who judges comes before those who look; what was denied they see as well.
 */
#ifndef VIGIE_PACKETS_H
#define VIGIE_PACKETS_H

#include "kernel.h"

#define VG_PACKETS_FIRST  0 /* who looks */
#define VG_PACKETS_SECOND 1

/* Empty where nobody comes after, and from the moment that the agent is gone. An array for each direction: the kernel wants programs
 * of one attach type in each. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u32);
} vg_packets_egress SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u32);
} vg_packets_ingress SEC(".maps");

/* What is decided about a packet goes with it. The kernel makes it 0 before the first program. */
static __always_inline void vg_deny(struct __sk_buff *skb)
{
	skb->cb[0] = 1;
}

static __always_inline int vg_decided(struct __sk_buff *skb)
{
	return !skb->cb[0];
}

#endif
