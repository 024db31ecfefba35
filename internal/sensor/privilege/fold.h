/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Folding: of things that an image does over and over the first is reported at once, the others are counted
 * here and reported by the agent as a count (fold.go). The sums add up: vg_folded counts what went in, and
 * what does not come out again because its entry was evicted is a loss that the agent counts. While no agent reads,
 * everything is reported at once.
 */
#ifndef VIGIE_PRIVILEGE_FOLD_H
#define VIGIE_PRIVILEGE_FOLD_H

#include "task.h"

struct vg_fold_key {
	struct vg_image image;
	u32 type; /* enum vg_type of the record */
	u32 what;   /* capability or system call */
	u32 object; /* granted or target */
	s32 error;
};

struct vg_fold_count {
	u64 count; /* beyond the first */
	u64 born;  /* ns since boot: tells an entry from an earlier one with the same key */
};

/*
 * 16,384: some five keys for each of 3,000 images that are busy at once; about 2 MiB. When full, the
 * least recently used entry goes, and with it what it counted since the agent's last look.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct vg_fold_key);
	__type(value, struct vg_fold_count);
} vg_fold SEC(".maps");

/* How many were folded; never full. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} vg_folded SEC(".maps");

static __always_inline bool fold_count(struct vg_fold_key *k)
{
	struct vg_fold_count *v = bpf_map_lookup_elem(&vg_fold, k);
	u32 zero = 0;
	u64 *n;

	if (!v)
		return false;
	/* The entry first: the agent reads the sum first, so what is on its way here is never taken for lost. */
	__sync_fetch_and_add(&v->count, 1);
	n = bpf_map_lookup_elem(&vg_folded, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
	return true;
}

/* True when this is to be reported now: it is the first of its kind. */
static __always_inline bool fold_first(struct vg_fold_key *k)
{
	struct vg_fold_count fresh = {};

	if (vg_alone())
		return true;
	if (fold_count(k))
		return false;
	fresh.born = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&vg_fold, k, &fresh, BPF_NOEXIST) == 0)
		return true;
	return !fold_count(k); /* another CPU was first */
}

#endif
