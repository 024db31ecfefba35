/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Paths by the object, not by what the caller said: a walk from the dentry to the root of the current
 * process, over mount points. The result is the components, leaf first, each ended by NUL; the agent turns
 * them round (internal/kernel.Path). Leaf first, because then a walk that is cut keeps what tells most.
 *
 * No lock is held: a rename during the walk can mix old and new names, as d_path callers that
 * lose the race retry; the flag VG_F_CUT and the inode number stay true.
 */
#ifndef VIGIE_PATH_H
#define VIGIE_PATH_H

#include "abi.h"

#define VG_PATH_MAX        4096
#define VG_NAME_MAX        256
#ifndef VG_PATH_COMPONENTS /* each costs the verifier about a thousand steps: a program that needs fewer says so first */
#define VG_PATH_COMPONENTS 128 /* bounded for the verifier of 5.15; deeper paths are cut at the root's side */
#endif

/* A walk in progress. */
struct vg_walk {
	char *tail;
	u32 *len;
	u64 max;
	struct mount *mnt;
	struct vfsmount *vfsmnt;
	struct dentry *mnt_root;
	struct dentry *dentry;
	struct vfsmount *root_mnt;
	struct dentry *root_dentry;
	u64 cut; /* did not reach the root */
};

/* One step towards the root; 1 when the walk is over. A bpf_loop callback. */
static long vg_walk_step(u32 i, struct vg_walk *w)
{
	/* Out of the struct first: an access chain that begins in it would be relocated as if it were the kernel's. */
	struct dentry *dentry = w->dentry, *parent;
	struct mount *mnt = w->mnt, *up;
	struct vfsmount *vfsmnt;
	u32 off;
	long n;

	if (dentry == w->root_dentry && w->vfsmnt == w->root_mnt)
		goto done;
	if (dentry == w->mnt_root) {
		up = BPF_CORE_READ(mnt, mnt_parent);
		if (up == mnt || !up)
			goto done;
		vfsmnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
		w->dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		w->mnt = up;
		w->vfsmnt = vfsmnt;
		w->mnt_root = BPF_CORE_READ(vfsmnt, mnt_root);
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (!dentry || (dentry == parent && i > 0))
		goto done;
	off = *(volatile u32 *)w->len;
	if (off >= w->max)
		return 1;
	n = bpf_probe_read_kernel_str(w->tail + off, VG_NAME_MAX, BPF_CORE_READ(dentry, d_name.name));
	if (n <= 0)
		goto done;
	*(volatile u32 *)w->len = off + n;
	if (dentry == parent) /* no parent at all: a memfd, a pipe, a socket */
		goto done;
	w->dentry = parent;
	return 0;
done:
	w->cut = 0;
	return 1;
}

/*
 * Appends the components of (mnt, dentry) to tail at *len, and moves *len on. root is where the path begins: the
 * process's own root. tail has room for max + VG_NAME_MAX bytes, max being a constant; what would begin beyond it
 * is cut off.
 *
 * *len must lie in a map: a value loaded from there is unknown to the verifier, so that all iterations look
 * alike to it. Kept in a register, its range grows with each and 5.15 gives up at a million steps. bpf_loop
 * (5.17) is verified once; the plain loop before it costs half a second of verification for each use.
 */
static __always_inline void vg_path(char *tail, u32 *len, u32 max, struct vfsmount *vfsmnt, struct dentry *dentry,
				    struct vfsmount *root_mnt, struct dentry *root_dentry, u16 *flags)
{
	struct vg_walk w = {
		.tail = tail,
		.len = len,
		.max = max,
		.mnt = (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt),
		.vfsmnt = vfsmnt,
		.mnt_root = BPF_CORE_READ(vfsmnt, mnt_root),
		.dentry = dentry,
		.root_mnt = root_mnt,
		.root_dentry = root_dentry,
		.cut = 1,
	};

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop)) {
		bpf_loop(VG_PATH_COMPONENTS, vg_walk_step, &w, 0);
	} else {
		for (int i = 0; i < VG_PATH_COMPONENTS; i++)
			if (vg_walk_step(i, &w))
				break;
	}
	if (w.cut)
		*flags |= VG_F_CUT;
}

#endif
