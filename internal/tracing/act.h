/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The beginning and the end of a hit: scratch space, the record, rate limits, stacks, what waits for a return. */
#ifndef VIGIE_TRACING_ACT_H
#define VIGIE_TRACING_ACT_H

#include "record.h"

/* Scratch space of this CPU that nobody has, or 0. vg_give returns it. */
VG_LIB struct vg_probe_scratch *vg_take(void)
{
	for (u32 i = 0; i < VG_SCRATCHES; i++) {
		u32 key = i;
		struct vg_probe_scratch *s = bpf_map_lookup_elem(&vg_probe_scratches, &key);

		if (s && __sync_lock_test_and_set(&s->busy, 1) == 0)
			return s;
	}
	vg_lose(VG_LOST_PROBE_EVENT);
	return 0;
}

/* The head of a record: who, and empty slots. */
VG_LIB u64 vg_begin(struct vg_probe_scratch *s, u64 hook, u64 site, u64 slots)
{
	vg_fill_header(&s->r.h, VG_PROBE, bpf_get_current_task_btf());
	s->r.hook = hook;
	s->r.site = site;
	s->r.actions = 0;
	s->r.tail = slots * sizeof(struct vg_probe_slot);
	s->r.slots = slots;
	s->r.kernel_stack = 0;
	s->r.user_stack = 0;
	s->r.selector = 0;
	s->r.monitored = 0;
	s->r.pad = 0;
	__builtin_memset(s->tail, 0, VG_SLOTS * sizeof(struct vg_probe_slot));
	return 0;
}

/* What a rate limit is kept for: what the hook saw, as a hash, and whose it is. */
struct vg_rate {
	u64 hash;
	u64 scope;
};

/*
 * Whether the same was reported less than window ns ago; if not, from now on it was. "The same" are equal slots, of
 * texts their first 64 bytes.
 */
VG_LIB u64 vg_limited(struct vg_probe_scratch *s, void *map, u64 window, u64 scope)
{
	struct vg_rate key = {.hash = 0xcbf29ce484222325 ^ s->r.selector, .scope = scope};
	u64 now = s->r.h.time, *last;

	for (u32 i = 0; i < VG_SLOTS && i < s->r.slots; i++) {
		struct vg_probe_slot *slot = vg_slots(s) + i;
		u32 off = *(volatile u16 *)&slot->off, len = slot->len;

		/* Of what has bytes, value is an address, another one each time. */
		key.hash = (key.hash ^ (slot->kind == VG_SLOT_NUMBER ? slot->value : slot->kind)) * 0x100000001b3;
		barrier_var(off);
		if (off > VG_TAIL_MAX)
			continue;
		for (u32 k = 0; k < 64 && k < len; k += 8) {
			u64 w = *(u64 *)(s->tail + off + k);

			if (len - k < 8)
				w &= ~0ull >> (64 - 8 * (len - k));
			key.hash = (key.hash ^ w) * 0x100000001b3;
		}
		key.hash = (key.hash ^ len) * 0x100000001b3;
	}
	last = bpf_map_lookup_elem(map, &key);
	if (last && now - *last < window)
		return 1;
	bpf_map_update_elem(map, &key, &now, BPF_ANY);
	return 0;
}

#define VG_STACK_BYTES (VG_FRAMES * 8)

/* The kernel stack, or the user stack, to the end of the tail. */
VG_LIB u64 vg_stack(void *ctx, struct vg_probe_scratch *s, u64 user)
{
	u32 off = *(volatile u32 *)&s->r.tail;
	long n;

	barrier_var(off);
	if (off > VG_TAIL_MAX + VG_DATA_MAX - VG_STACK_BYTES)
		return 0;
	if (user)
		n = bpf_get_stack(ctx, s->tail + off, VG_STACK_BYTES, BPF_F_USER_STACK);
	else
		n = bpf_get_stack(ctx, s->tail + off, VG_STACK_BYTES, 0);
	if (n <= 0 || n > VG_STACK_BYTES)
		return 0;
	if (user)
		s->r.user_stack = n;
	else
		s->r.kernel_stack = n;
	s->r.tail = off + n;
	return 0;
}

/* Reports what is in s. */
VG_LIB u64 vg_emit(struct vg_probe_scratch *s)
{
	u32 tail = *(volatile u32 *)&s->r.tail;

	barrier_var(tail);
	if (tail > VG_TAIL_MAX + VG_DATA_MAX) {
		vg_lose(VG_LOST_PROBE_EVENT);
		return 0;
	}
	vg_emit_security(&s->r, sizeof(s->r) + tail);
	return 0;
}

/* Keeps what is in s for the return of the call that the current task is in. map's values are the size of what this
 * hook can have. */
VG_LIB u64 vg_stash(struct vg_probe_scratch *s, void *map)
{
	struct task_struct *t = bpf_get_current_task_btf();

	bpf_task_storage_delete(map, t);
	if (!bpf_task_storage_get(map, t, &s->r, BPF_LOCAL_STORAGE_GET_F_CREATE))
		vg_lose(VG_LOST_PROBE_EVENT);
	return 0;
}

/* Takes it back, size bytes; 0 when the call's entry kept nothing. */
VG_LIB u64 vg_unstash(struct vg_probe_scratch *s, void *map, u64 size)
{
	struct task_struct *t = bpf_get_current_task_btf();
	void *kept = bpf_task_storage_get(map, t, 0, 0);

	if (!kept)
		return 0;
	bpf_probe_read_kernel(&s->r, size, kept);
	bpf_task_storage_delete(map, t);
	return 1;
}

/*
 * Memory of a process that nothing has touched cannot be had at the entry of its system call: no program may wait for it. The
 * call itself will have it brought in, so what is to be decided waits for the return.
 */
VG_LIB u64 vg_defer(void *map)
{
	if (!bpf_task_storage_get(map, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		vg_lose(VG_LOST_PROBE_EVENT);
	return 0;
}

/* Whether the call that returns was put off at its entry. */
VG_LIB u64 vg_deferred(void *map)
{
	return bpf_task_storage_delete(map, bpf_get_current_task_btf()) == 0;
}

/* A hit that cannot be judged. */
VG_LIB u64 vg_unjudged(void)
{
	vg_lose(VG_LOST_PROBE_EVENT);
	return 0;
}

/* What a policy has done, for its status. */
VG_LIB u64 vg_tally(void *map, u64 which)
{
	u32 key = which;
	u64 *n = bpf_map_lookup_elem(map, &key);

	if (n)
		(*n)++;
	return 0;
}

#endif
