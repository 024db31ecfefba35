/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Conversations by datagrams: who began one is asked about, once; then both directions are allowed. */
#ifndef VIGIE_NETWORK_TALK_H
#define VIGIE_NETWORK_TALK_H

#include "network.h"

/* Tells entries apart, so that what was decided under one is decided anew under another. */
static __always_inline u64 stamp_of(const struct vg_subject *s)
{
	u64 h = s->count;

	for (int i = 0; i < VG_SLOTS; i++)
		h = (h ^ *(u64 *)&s->slots[i]) * 0x9e3779b97f4a7c15ull;
	return h | 1;
}

/* Conversations without a connection that were allowed: who began them, and under which entry. */
struct vg_net_talk_key {
	u64 cookie;
	u8 addr[16];
	u16 port;
	u16 pad[3];
};

struct vg_net_talk {
	u64 stamp;
	u32 direction;
	u32 pad;
};

/* Full: the least recently used is forgotten, and its next datagram is judged as a first one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct vg_net_talk_key);
	__type(value, struct vg_net_talk);
} vg_net_talks SEC(".maps");

static __always_inline void remember(const struct vg_net_talk_key *k, u64 stamp, u32 direction)
{
	struct vg_net_talk talk = {.stamp = stamp, .direction = direction};

	bpf_map_update_elem(&vg_net_talks, k, &talk, BPF_ANY);
}

#endif
