/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Programs that look at each packet of each local socket, and let it pass. One is attached, and goes on with the other by a jump:
 * each more that is attached costs its call, for each packet (internal/kernel/packets.go). */
#ifndef VIGIE_PACKETS_H
#define VIGIE_PACKETS_H

#include "kernel.h"

/* The second sensor's program; empty without. An array for each direction: the kernel wants programs of one attach type in each. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} vg_packets_egress SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} vg_packets_ingress SEC(".maps");

#endif
