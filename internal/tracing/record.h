/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a hit of a TracingPolicy's hook is in the ring: struct vg_probe, then a tail: the slots that the hook has, the bytes
 * that they refer to, the stacks. And the scratch space in which a program makes it.
 */
#ifndef VIGIE_TRACING_RECORD_H
#define VIGIE_TRACING_RECORD_H

#include "types.h"
#include "path.h"

/* Five arguments and five data, as many as a TracingPolicy's hook has, and the value that is returned. */
#define VG_SLOTS    11
#define VG_TEXT_MAX 4096  /* a path or a string */
#define VG_DATA_MAX 8192  /* a buffer with maxData */
#define VG_TAIL_MAX 12288 /* what would begin beyond it is cut off */
#define VG_FRAMES   64    /* of each stack */

/* What a slot holds. */
enum vg_slot_kind {
	VG_SLOT_NONE,
	VG_SLOT_NUMBER, /* value */
	VG_SLOT_TEXT,   /* len bytes of the tail at off, without a NUL */
	VG_SLOT_BYTES,  /* the same, not text */
	VG_SLOT_SOCK,   /* a struct vg_probe_sock in the tail */
	VG_SLOT_CRED,   /* a struct vg_cred in the tail */
};

/* vg_probe_slot.flags */
#define VG_SLOT_CUT    0x1 /* the beginning of something longer */
#define VG_SLOT_UNREAD 0x2 /* its memory could not be read */

struct vg_probe_slot {
	u64 value; /* a number; of an object: its address */
	u16 off;   /* into the tail, a multiple of 8 */
	u16 len;
	u8 kind;  /* enum vg_slot_kind */
	u8 flags; /* VG_SLOT_* */
	u16 mode; /* of a file: type and permission bits */
	u32 file_flags; /* of a file: O_* */
	u32 pad;
};

/* Addresses are IPv6, an IPv4 one as ::ffff:a.b.c.d; ports in the host's byte order. */
struct vg_probe_sock {
	u8 saddr[16];
	u8 daddr[16];
	u64 cookie;
	u32 mark;
	u16 sport;
	u16 dport;
	u16 family;
	u16 protocol;
	u16 type;
	u16 state; /* TCP_* */
};

struct vg_probe {
	struct vg_header h;
	u32 hook; /* the number that the agent gave to it */
	u32 site; /* which of a hook's places: a system call's number, a symbol's index */
	u32 actions; /* bits, by the number of the action in the agent's list */
	u32 tail; /* bytes that follow, stacks included */
	u16 kernel_stack; /* bytes at the end of the tail, before those of the user stack */
	u16 user_stack;
	u8 selector;
	u8 monitored; /* an action was left out because the policy only monitors */
	u8 slots;     /* how many the tail begins with */
	u8 pad;
};

/* A text as it is looked up in a set: an LPM trie's key, or the key of a hash, whose bytes are all significant. */
#define VG_KEY_MAX 256
struct vg_text_key {
	u32 bits;
	char data[VG_KEY_MAX];
};

/* What SubString looks for: up to 64 bytes, as words with masks. An empty mask ends it. */
struct vg_pattern {
	u64 len;
	u64 fold; /* without case: the words are in lower case */
	u64 word[8];
	u64 mask[8];
};

struct vg_probe_scratch {
	u64 busy; /* taken by a program that runs */
	struct vg_image image; /* of the last vg_exe */
	u32 path_pos; /* the text is path[path_pos] to path[VG_TEXT_MAX] */
	u32 path_cut;
	struct vg_text_key key;
	char path[VG_TEXT_MAX + VG_NAME_MAX + 8];
	struct vg_probe r;
	char tail[VG_TAIL_MAX + VG_DATA_MAX + 16] __attribute__((aligned(8)));
};

#define vg_slots(s) ((struct vg_probe_slot *)(s)->tail)

/*
 * Scratch space for all programs of all policies: four a CPU, because a program that was interrupted or preempted
 * holds one. Full: VG_LOST_PROBE_EVENT is counted and the hook does nothing.
 */
#define VG_SCRATCHES 4
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VG_SCRATCHES);
	__type(key, u32);
	__type(value, struct vg_probe_scratch);
} vg_probe_scratches SEC(".maps");

/* Which of the followed sets a process belongs to: a bit a set, kept with the group leader. As large as there
 * are such processes. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, u64);
} vg_follow SEC(".maps");

/* Whose a socket is, for TrackSock: 64 bytes each. Full: the least recently used is forgotten, and what happens on it
 * is its task's at that time. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct vg_image);
} vg_tracked SEC(".maps");

/*
 * A function that the agent's generated programs call. Hidden and not static, so that the compiler leaves the
 * signature alone; the agent tells the verifier that it is static, so that it is verified where it is called.
 */
#define VG_LIB __attribute__((noinline, visibility("hidden")))

#endif
