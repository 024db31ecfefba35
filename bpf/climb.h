/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Paths to be judged: as text, from the root of the mount namespace, not from the process's root, so that chroot changes
 * nothing. Built from the leaf, backwards, into the end of a buffer. What is longer than the buffer is cut at the root's
 * side and begins without a '/', which no rule matches.
 *
 * As in path.h no lock is held: who renames a directory during the walk can have a mixed path judged.
 */
#ifndef VIGIE_CLIMB_H
#define VIGIE_CLIMB_H

#include "abi.h"
#include "policy.h"

#define VG_CLIMB_NAMES 128 /* components; more are cut */
#define VG_CLIMB_NAME  255 /* NAME_MAX */

struct vg_climb {
	struct vg_text *text;
	struct mount *mnt;
	struct vfsmount *vfsmnt;
	struct dentry *mnt_root;
	struct dentry *dentry;
};

static __always_inline void vg_climb_mount(struct vg_climb *w, struct mount *mnt)
{
	struct vfsmount *vfsmnt = (void *)mnt + bpf_core_field_offset(struct mount, mnt);

	w->mnt = mnt;
	w->vfsmnt = vfsmnt;
	w->mnt_root = BPF_CORE_READ(vfsmnt, mnt_root);
}

static long vg_climb_step(u32 i, struct vg_climb *w)
{
	struct dentry *dentry = w->dentry, *parent;
	struct mount *mnt = w->mnt, *up;
	const unsigned char *name;
	struct vg_text *text = w->text;
	u64 pos = *(volatile u32 *)&text->pos; /* in a map: unknown to the verifier, so that all steps look alike */
	u32 len;

	parent = BPF_CORE_READ(dentry, d_parent);
	if (dentry == w->mnt_root && dentry == parent && i == 0) {
		/* The root of a mount, or what has no parent at all: a memfd, a pipe. */
		up = BPF_CORE_READ(mnt, mnt_parent);
		if (up == mnt)
			goto name;
	}
	if (dentry == w->mnt_root) {
		up = BPF_CORE_READ(mnt, mnt_parent);
		if (up == mnt || !up)
			return 1;
		w->dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		vg_climb_mount(w, up);
		return 0;
	}
	if (dentry == parent && i > 0)
		return 1;
name:
	len = BPF_CORE_READ(dentry, d_name.len);
	name = BPF_CORE_READ(dentry, d_name.name);
	if (len > VG_CLIMB_NAME)
		len = VG_CLIMB_NAME;
	if (len == 1 && dentry == parent) {
		char c = 0;

		bpf_probe_read_kernel(&c, 1, name);
		if (c == '/')
			return 1;
	}
	if (pos > VG_TEXT_MAX || pos < len + 1)
		return 1;
	pos -= len;
	barrier_var(pos);
	if (pos > VG_TEXT_MAX - 1)
		return 1;
	barrier_var(len);
	len &= VG_CLIMB_NAME;
	bpf_probe_read_kernel(text->bytes + pos, len, name);
	pos--;
	barrier_var(pos);
	if (pos > VG_TEXT_MAX - 1)
		return 1;
	text->bytes[pos] = '/';
	text->pos = pos;
	if (dentry == parent)
		return 1;
	w->dentry = parent;
	return 0;
}

/* Where the verdict about a text is made: in front of it. */
static __always_inline struct vg_verdict *vg_verdict_of(struct vg_text *text)
{
	return (struct vg_verdict *)text->head;
}

/* Tells the verdict about a text, and the text with it, as one record of the ring. The text moves to the front of its buffer
 * for that, and is no text any more. */
static __always_inline void vg_tell_path(struct vg_text *text)
{
	u32 pos = text->pos, len = VG_TEXT_MAX - pos;

	barrier_var(len);
	if (len > VG_TEXT_MAX)
		return;
	vg_verdict_of(text)->path_len = len;
	/* Upwards, as the helper copies: what it overwrites it has read. The source may be any kernel address, so the
	 * verifier asks for no bound of pos. */
	bpf_probe_read_kernel(text->bytes, len, text->bytes + pos);
	vg_emit_security(text->head, sizeof(struct vg_verdict) + len);
}

/* Writes the path of (vfsmnt, dentry) into text; the root itself is "/". Addresses, not pointers, because a global
 * function, which is verified once and not for each use, takes no pointer of the kernel's. */
__weak __noinline int vg_climb_from(struct vg_text *text, u64 vfsmnt, u64 dentry)
{
	struct vg_climb w = {};

	if (!text)
		return 0;
	w.text = text;
	w.dentry = (struct dentry *)dentry;
	text->pos = VG_TEXT_MAX;
	vg_climb_mount(&w, (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt));
	bpf_loop(VG_CLIMB_NAMES, vg_climb_step, &w, 0);
	if (text->pos == VG_TEXT_MAX) {
		text->pos = VG_TEXT_MAX - 1;
		text->bytes[VG_TEXT_MAX - 1] = '/';
	}
	return 0;
}

/* The address in a pointer, as the plain number that a global function takes. */
static __always_inline u64 vg_address(const void *pointer)
{
	const void *volatile kept = pointer;
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), (const void *)&kept);
	return address;
}

static __always_inline void vg_climb(struct vg_text *text, struct vfsmount *vfsmnt, struct dentry *dentry)
{
	vg_climb_from(text, (u64)vfsmnt, (u64)dentry);
}

#endif
