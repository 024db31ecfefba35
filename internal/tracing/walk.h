/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Paths as text, root first, because filters compare their beginnings. Made from the dentry upwards, so from the
 * end of s->path to its front: s->path[s->path_pos] is the first byte, s->path[VG_TEXT_MAX - 1] the last.
 */
#ifndef VIGIE_TRACING_WALK_H
#define VIGIE_TRACING_WALK_H

#include "record.h"
#include "path.h"

/* A walk in progress, with what path.h keeps of it. */
struct vg_climb {
	struct vg_walk w;
	struct vg_probe_scratch *s;
};

/* Puts the name of d before what is there; false when it does not fit. */
static __always_inline bool vg_prepend(struct vg_probe_scratch *s, struct dentry *d)
{
	u32 pos = *(volatile u32 *)&s->path_pos;
	u32 len = BPF_CORE_READ(d, d_name.len);

	if (len >= VG_NAME_MAX || pos > VG_TEXT_MAX || pos < len + 1)
		return false;
	pos -= len + 1;
	barrier_var(pos);
	if (pos >= VG_TEXT_MAX)
		return false;
	s->path[pos] = '/';
	barrier_var(len);
	len &= VG_NAME_MAX - 1;
	if (bpf_probe_read_kernel(&s->path[pos + 1], len, BPF_CORE_READ(d, d_name.name)))
		return false;
	*(volatile u32 *)&s->path_pos = pos;
	return true;
}

/* One step towards the root, as vg_walk_step of path.h. */
static long vg_climb_step(u32 i, struct vg_climb *c)
{
	struct dentry *dentry = c->w.dentry, *parent;
	struct mount *mnt = c->w.mnt, *up;
	struct vfsmount *vfsmnt;

	if (dentry == c->w.root_dentry && c->w.vfsmnt == c->w.root_mnt)
		goto done;
	if (dentry == c->w.mnt_root) {
		up = BPF_CORE_READ(mnt, mnt_parent);
		if (up == mnt || !up)
			goto done;
		vfsmnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
		c->w.dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		c->w.mnt = up;
		c->w.vfsmnt = vfsmnt;
		c->w.mnt_root = BPF_CORE_READ(vfsmnt, mnt_root);
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (!dentry || (dentry == parent && i > 0))
		goto done;
	if (!vg_prepend(c->s, dentry))
		return 1;
	if (dentry == parent) /* no parent at all: a memfd, a pipe, a socket */
		goto done;
	c->w.dentry = parent;
	return 0;
done:
	c->w.cut = 0;
	return 1;
}

/* The path of (mnt, dentry) below the root of the current process into s->path. Without a mount it begins at the root
 * of the file system. */
static __always_inline void vg_climb_path(struct vg_probe_scratch *s, struct vfsmount *vfsmnt, struct dentry *dentry)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_climb c = {
		.s = s,
		.w = {
			.mnt = vfsmnt ? (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt) : 0,
			.vfsmnt = vfsmnt,
			.mnt_root = BPF_CORE_READ(vfsmnt, mnt_root),
			.dentry = dentry,
			.root_mnt = BPF_CORE_READ(t, fs, root.mnt),
			.root_dentry = BPF_CORE_READ(t, fs, root.dentry),
			.cut = 1,
		},
	};

	s->path_pos = VG_TEXT_MAX;
	if (dentry)
		bpf_loop(VG_PATH_COMPONENTS, vg_climb_step, &c, 0);
	s->path_cut = c.w.cut;
	if (s->path_pos == VG_TEXT_MAX && dentry) { /* the root itself */
		s->path[VG_TEXT_MAX - 1] = '/';
		s->path_pos = VG_TEXT_MAX - 1;
	}
}

/* The program that t runs, into s->path, and its image into s->image. A kernel thread has an empty path. */
VG_LIB u64 vg_exe(struct vg_probe_scratch *s, struct task_struct *t)
{
	struct file *f = BPF_CORE_READ(t, mm, exe_file);

	s->image.start = BPF_CORE_READ(t, group_leader, start_boottime);
	s->image.pid = BPF_CORE_READ(t, tgid);
	s->image.exec = (u32)BPF_CORE_READ(t, self_exec_id);
	vg_climb_path(s, BPF_CORE_READ(f, f_path.mnt), BPF_CORE_READ(f, f_path.dentry));
	return 0;
}

/* The same of the parent of the current process. */
VG_LIB u64 vg_parent_exe(struct vg_probe_scratch *s)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return vg_exe(s, BPF_CORE_READ(t, real_parent));
}

/* What is kept of a test of a program's path: for which image, and which of the hook's tests. */
struct vg_exe_key {
	struct vg_image image;
	u64 test;
};

/* What was found for s->image before: 1 no, 2 yes; 0 nothing. */
VG_LIB u64 vg_cached(struct vg_probe_scratch *s, void *map, u64 test)
{
	struct vg_exe_key key = {.image = s->image, .test = test};
	u64 *v = bpf_map_lookup_elem(map, &key);

	return v ? *v : 0;
}

VG_LIB u64 vg_cache(struct vg_probe_scratch *s, void *map, u64 test, u64 found)
{
	struct vg_exe_key key = {.image = s->image, .test = test};
	u64 v = found ? 2 : 1;

	bpf_map_update_elem(map, &key, &v, BPF_ANY);
	return found;
}

/* The image of the current process (parent: of its parent) into s->image, for vg_cached. */
VG_LIB u64 vg_image_of(struct vg_probe_scratch *s, u64 parent)
{
	struct task_struct *t = bpf_get_current_task_btf();

	if (parent)
		t = BPF_CORE_READ(t, real_parent);
	s->image.start = BPF_CORE_READ(t, group_leader, start_boottime);
	s->image.pid = BPF_CORE_READ(t, tgid);
	s->image.exec = (u32)BPF_CORE_READ(t, self_exec_id);
	return 0;
}

#endif
