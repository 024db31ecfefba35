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
#define VG_PATH_COMPONENTS 128 /* bounded for the verifier of 5.15; deeper paths are cut at the root's side */

/*
 * Appends the components of (mnt, dentry) to tail at *len, and moves *len on. root is where the path begins: the
 * process's own root. tail has room for max + VG_NAME_MAX bytes; what would begin beyond max is cut off.
 *
 * *len must lie in a map: a value loaded from there is unknown to the verifier, so that all iterations look
 * alike to it. Kept in a register, its range grows with each and 5.15 gives up at a million steps.
 */
static __always_inline void vg_path(char *tail, u32 *len, u32 max, struct vfsmount *vfsmnt, struct dentry *dentry,
				    struct vfsmount *root_mnt, struct dentry *root_dentry, u16 *flags)
{
	struct mount *mnt = (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt);
	struct dentry *mnt_root = BPF_CORE_READ(vfsmnt, mnt_root);

	for (int i = 0; i < VG_PATH_COMPONENTS; i++) {
		struct dentry *parent;
		u32 off;
		long n;

		if (dentry == root_dentry && vfsmnt == root_mnt)
			return;
		if (dentry == mnt_root) {
			struct mount *up = BPF_CORE_READ(mnt, mnt_parent);

			if (up == mnt || !up)
				return;
			dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
			mnt = up;
			vfsmnt = (void *)mnt + bpf_core_field_offset(struct mount, mnt);
			mnt_root = BPF_CORE_READ(vfsmnt, mnt_root);
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!dentry || (dentry == parent && i > 0))
			return;
		off = *(volatile u32 *)len;
		if (off >= max)
			break;
		n = bpf_probe_read_kernel_str(tail + off, VG_NAME_MAX, BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			return;
		*(volatile u32 *)len = off + n;
		if (dentry == parent) /* no parent at all: a memfd, a pipe, a socket */
			return;
		dentry = parent;
	}
	*flags |= VG_F_CUT;
}

#endif
