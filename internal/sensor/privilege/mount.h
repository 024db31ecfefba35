/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Mounts: what was asked for, with the directories that relative paths begin at. */
#ifndef VIGIE_PRIVILEGE_MOUNT_H
#define VIGIE_PRIVILEGE_MOUNT_H

#include "types.h"
#include "path.h"
#include "regs.h"

#define VG_AT_FDCWD -100 /* fcntl.h */
#define VG_ALWAYS   ~0u  /* add_base: whatever the path */

/* Where in the tail each part may begin at the latest. */
#define VG_TARGET_START VG_PATH_MAX
#define VG_FSTYPE_START (VG_TARGET_START + VG_PATH_MAX)
#define VG_SOURCE_BASE_END (VG_FSTYPE_START + VG_NAME_MAX + VG_PATH_MAX)
#define VG_TARGET_BASE_END (VG_SOURCE_BASE_END + VG_NAME_MAX + VG_PATH_MAX)
#define VG_MOUNT_TAIL_BYTES (VG_TARGET_BASE_END + VG_NAME_MAX)

struct vg_mount_scratch {
	u32 len; /* bytes used of tail */
	u32 pad;
	struct vg_mount m;
	char tail[VG_MOUNT_TAIL_BYTES];
};

/* One record in the making for each CPU: these programs run in process context and do not nest. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_mount_scratch);
} vg_mount_scratch SEC(".maps");

static __always_inline struct vg_mount_scratch *mount_begin(u64 *ctx, struct pt_regs *r)
{
	u32 zero = 0;
	struct vg_mount_scratch *s = bpf_map_lookup_elem(&vg_mount_scratch, &zero);

	if (!s) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	vg_fill_header(&s->m.h, VG_MOUNT, bpf_get_current_task_btf());
	s->len = 0;
	s->m.flags = 0;
	s->m.nr = vg_sys_nr(r);
	s->m.error = error_of(ctx[1]);
	s->m.source_len = s->m.target_len = s->m.fstype_len = 0;
	s->m.source_base_len = s->m.target_base_len = 0;
	s->m.pad[0] = s->m.pad[1] = s->m.pad[2] = 0;
	return s;
}

/* Appends a string of the caller's, which begins at start at the latest. */
static __always_inline u16 add_user(struct vg_mount_scratch *s, u32 start, u32 size, const char *str)
{
	u32 off = *(volatile u32 *)&s->len;
	long n;

	if (off > start)
		return 0;
	n = bpf_probe_read_user_str(s->tail + off, size, str);
	if (n <= 0 || n > size)
		return 0;
	*(volatile u32 *)&s->len = off + n;
	return n;
}

static __always_inline u16 add_kernel(struct vg_mount_scratch *s, u32 start, const char *str)
{
	u32 off = *(volatile u32 *)&s->len;
	long n;

	if (off > start)
		return 0;
	n = bpf_probe_read_kernel_str(s->tail + off, VG_NAME_MAX, str);
	if (n <= 0 || n > VG_NAME_MAX)
		return 0;
	*(volatile u32 *)&s->len = off + n;
	return n;
}

/* Appends the directory that dfd stands for, unless the path, which begins at off, is absolute. */
static __always_inline u16 add_base(struct vg_mount_scratch *s, u32 max, s32 dfd, u32 off)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct fs_struct *fs = t->fs;
	u32 before = *(volatile u32 *)&s->len;
	struct vfsmount *mnt;
	struct dentry *dentry;

	if (off <= VG_TARGET_START && s->tail[off] == '/')
		return 0;
	if (dfd == VG_AT_FDCWD) {
		mnt = fs->pwd.mnt;
		dentry = fs->pwd.dentry;
	} else {
		struct file *f = file_of(t, dfd);

		if (!f)
			return 0;
		mnt = BPF_CORE_READ(f, f_path.mnt);
		dentry = BPF_CORE_READ(f, f_path.dentry);
	}
	vg_path(s->tail, &s->len, max, mnt, dentry, fs->root.mnt, fs->root.dentry, &s->m.h.flags);
	return *(volatile u32 *)&s->len - before;
}

static __always_inline int mount_end(struct vg_mount_scratch *s)
{
	u32 len = *(volatile u32 *)&s->len;

	if (len > VG_MOUNT_TAIL_BYTES)
		return 0; /* cannot be: for the verifier */
	vg_emit_security(&s->m, sizeof(s->m) + len);
	return 0;
}

/* mount(source, target, fstype, flags, data) */
SEC("tp_btf/sys_exit")
int vg_exit_mount(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct vg_mount_scratch *s = mount_begin(ctx, r);

	if (!s)
		return 0;
	s->m.flags = vg_sys_arg3(r);
	s->m.source_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg0(r));
	s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
	s->m.fstype_len = add_user(s, VG_FSTYPE_START, VG_NAME_MAX, (const char *)vg_sys_arg2(r));
	/* The agent uses it for the source too, where that is a path. */
	s->m.target_base_len = add_base(s, VG_TARGET_BASE_END, VG_AT_FDCWD, VG_ALWAYS);
	return mount_end(s);
}

/* umount2(target, flags) */
SEC("tp_btf/sys_exit")
int vg_exit_umount(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct vg_mount_scratch *s = mount_begin(ctx, r);

	if (!s)
		return 0;
	s->m.flags = vg_sys_arg1(r);
	s->m.target_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg0(r));
	s->m.target_base_len = add_base(s, VG_TARGET_BASE_END, VG_AT_FDCWD, 0);
	return mount_end(s);
}

/* pivot_root(new_root, put_old): source is what becomes the root, target where the old one goes. The
 * directory of relative paths is that after the call. */
SEC("tp_btf/sys_exit")
int vg_exit_pivot_root(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct vg_mount_scratch *s = mount_begin(ctx, r);

	if (!s)
		return 0;
	s->m.source_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg0(r));
	s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
	s->m.target_base_len = add_base(s, VG_TARGET_BASE_END, VG_AT_FDCWD, VG_ALWAYS);
	return mount_end(s);
}

/* mount_setattr(dfd, path, flags, attr, size) */
SEC("tp_btf/sys_exit")
int vg_exit_mount_setattr(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct vg_mount_scratch *s = mount_begin(ctx, r);
	s32 dfd;

	if (!s)
		return 0;
	dfd = vg_sys_arg0(r);
	s->m.flags = vg_sys_arg2(r);
	s->m.target_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
	s->m.target_base_len = add_base(s, VG_TARGET_BASE_END, dfd, 0);
	return mount_end(s);
}

/* move_mount(from_dfd, from, to_dfd, to, flags): the end of fsopen and fsmount, of open_tree, or a move. */
SEC("tp_btf/sys_exit")
int vg_exit_move_mount(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct vg_mount_scratch *s = mount_begin(ctx, r);
	s32 from, to;
	u32 target;

	if (!s)
		return 0;
	from = vg_sys_arg0(r);
	to = vg_sys_arg2(r);
	s->m.flags = vg_sys_arg4(r);
	s->m.source_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
	if (s->m.source_len <= 1 && from != VG_AT_FDCWD) {
		/* A mount that had no place yet: what it is a mount of. */
		struct file *f = file_of(bpf_get_current_task_btf(), from);
		struct vfsmount *vfsmnt = BPF_CORE_READ(f, f_path.mnt);
		struct mount___privilege *mnt = (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt);
		struct super_block___privilege *sb = (void *)BPF_CORE_READ(vfsmnt, mnt_sb);

		s->len = 0;
		s->m.source_len = add_kernel(s, 0, BPF_CORE_READ(mnt, mnt_devname));
		target = s->len;
		s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg3(r));
		s->m.fstype_len = add_kernel(s, VG_FSTYPE_START, BPF_CORE_READ(sb, s_type, name));
	} else {
		target = s->len;
		s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg3(r));
		s->m.source_base_len = add_base(s, VG_SOURCE_BASE_END, from, 0);
	}
	s->m.target_base_len = add_base(s, VG_TARGET_BASE_END, to, target);
	return mount_end(s);
}

#endif
