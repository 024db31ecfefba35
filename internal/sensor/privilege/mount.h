/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Mounts: what was asked for, with the directories that relative paths begin at. */
#ifndef VIGIE_PRIVILEGE_MOUNT_H
#define VIGIE_PRIVILEGE_MOUNT_H

#define VG_PATH_COMPONENTS 48 /* of a current directory */

#include "types.h"
#include "path.h"
#include "regs.h"

#define VG_AT_FDCWD -100 /* fcntl.h */
#define VG_ALWAYS   ~0u  /* add_base: whatever the path */

/* Where in the tail each part may begin at the latest. */
#define VG_TARGET_START VG_PATH_MAX
#define VG_FSTYPE_START (VG_TARGET_START + VG_PATH_MAX)
#define VG_BASE_END (VG_FSTYPE_START + VG_NAME_MAX + VG_PATH_MAX)
#define VG_MOUNT_TAIL_BYTES (VG_BASE_END + VG_NAME_MAX)

/* The system calls' numbers, include/uapi/asm-generic/unistd.h and arch/x86/entry/syscalls/syscall_64.tbl. */
#if defined(__TARGET_ARCH_x86)
#define VG_NR_MOUNT      165
#define VG_NR_UMOUNT2    166
#define VG_NR_PIVOT_ROOT 155
#elif defined(__TARGET_ARCH_arm64)
#define VG_NR_MOUNT      40
#define VG_NR_UMOUNT2    39
#define VG_NR_PIVOT_ROOT 41
#endif
#define VG_NR_MOVE_MOUNT    429
#define VG_NR_MOUNT_SETATTR 442

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
	s->m.base_len = 0;
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

/* A mount that had no place yet, by its fd: what it is a mount of, and which file system that is. */
static __always_inline void add_new_mount(struct vg_mount_scratch *s, s32 fd)
{
	struct file *f = file_of(bpf_get_current_task_btf(), fd);
	struct vfsmount *vfsmnt = BPF_CORE_READ(f, f_path.mnt);
	struct mount___privilege *mnt = (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt);
	struct super_block___privilege *sb = (void *)BPF_CORE_READ(vfsmnt, mnt_sb);

	s->len = 0;
	s->m.source_len = add_kernel(s, 0, BPF_CORE_READ(mnt, mnt_devname));
	s->m.fstype_len = add_kernel(s, VG_NAME_MAX, BPF_CORE_READ(sb, s_type, name));
}

/* One program for all calls, because each walk of a path costs the verifier as much as all the rest. */
SEC("tp_btf/sys_exit")
int vg_exit_mount(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct vg_mount_scratch *s = mount_begin(ctx, r);
	s32 dfd = VG_AT_FDCWD; /* where a relative target begins */
	u32 target = 0;        /* where the target's text begins */

	if (!s)
		return 0;
	switch (vg_sys_nr(r)) {
	case VG_NR_MOUNT: /* source, target, fstype, flags, data */
		s->m.flags = vg_sys_arg3(r);
		s->m.source_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg0(r));
		s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
		s->m.fstype_len = add_user(s, VG_FSTYPE_START, VG_NAME_MAX, (const char *)vg_sys_arg2(r));
		target = VG_ALWAYS; /* the source may need it */
		break;
	case VG_NR_PIVOT_ROOT: /* new_root, put_old; relative ones are told by the directory after the call */
		s->m.source_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg0(r));
		s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
		target = VG_ALWAYS;
		break;
	case VG_NR_UMOUNT2: /* target, flags */
		s->m.flags = vg_sys_arg1(r);
		s->m.target_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg0(r));
		break;
	case VG_NR_MOUNT_SETATTR: /* dfd, path, flags, attr, size */
		dfd = vg_sys_arg0(r);
		s->m.flags = vg_sys_arg2(r);
		s->m.target_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
		break;
	case VG_NR_MOVE_MOUNT: /* from_dfd, from, to_dfd, to, flags: the end of fsopen, of open_tree, or a move */
		dfd = vg_sys_arg2(r);
		s->m.flags = vg_sys_arg4(r);
		s->m.source_len = add_user(s, 0, VG_PATH_MAX, (const char *)vg_sys_arg1(r));
		if (s->m.source_len <= 1)
			add_new_mount(s, vg_sys_arg0(r));
		target = s->len;
		s->m.target_len = add_user(s, VG_TARGET_START, VG_PATH_MAX, (const char *)vg_sys_arg3(r));
		break;
	}
	s->m.base_len = add_base(s, VG_BASE_END, dfd, target);
	if (s->len > VG_MOUNT_TAIL_BYTES)
		return 0; /* cannot be: for the verifier */
	vg_emit_security(&s->m, sizeof(s->m) + s->len);
	return 0;
}

#endif
