/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How a record is made: of an object, or of what a system call's arguments say. */
#ifndef VIGIE_SENSOR_FILE_RECORD_H
#define VIGIE_SENSOR_FILE_RECORD_H

#include "file.h"

/* The file behind a descriptor of t, or 0. */
static __always_inline struct file *fd_file(struct task_struct *t, u32 fd)
{
	struct fdtable *fdt = t->files->fdt;
	struct file *file = 0;

	if (fd < fdt->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file), fdt->fd + fd);
	return file;
}

static __always_inline void fill_inode(struct vg_file *f, struct inode *inode)
{
	f->inode = BPF_CORE_READ(inode, i_ino);
	f->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	f->file_mode = BPF_CORE_READ(inode, i_mode);
	if (BPF_CORE_READ(inode, i_nlink) == 0)
		f->kind |= VG_FILE_DELETED;
}

/*
 * Appends the path of (mnt, dentry) to the tail and returns its length. A global function: the verifier goes through
 * the loop once for each program, and not once for each way that leads here.
 */
__noinline int vg_file_walk(struct vg_file_record *r)
{
	u32 before;
	u16 cut = 0;

	if (!r)
		return 0;
	before = r->len;
	vg_path(r->tail, &r->len, VG_WALK_MAX, r->mnt, r->dentry, r->root_mnt, r->root_dentry, &cut);
	r->cut = cut;
	return r->len - before;
}

static __always_inline u16 walk(struct vg_file_record *r, struct task_struct *t, struct vfsmount *mnt,
				struct dentry *dentry, u8 cut_bit)
{
	u16 len;

	r->mnt = mnt;
	r->dentry = dentry;
	r->root_mnt = t->fs->root.mnt;
	r->root_dentry = t->fs->root.dentry;
	len = vg_file_walk(r);
	if (r->cut)
		r->f.kind |= cut_bit;
	return len;
}

static __always_inline void save_args(struct vg_file_scratch *s, struct pt_regs *r, s64 ret)
{
	s->args[0] = vg_sys_arg0(r);
	s->args[1] = vg_sys_arg1(r);
	s->args[2] = vg_sys_arg2(r);
	s->args[3] = vg_sys_arg3(r);
	s->args[4] = vg_sys_arg4(r);
	s->args[5] = vg_sys_arg5(r);
	s->args[VG_ARG_CWD] = (u64)AT_FDCWD;
	s->args[VG_ARG_RET] = ret;
	s->args[VG_ARG_NONE] = 0;
}

#define arg(s, i) ((s)->args[(i) & (VG_ARGS - 1)])

/* Fills what the call's arguments say. */
static __always_inline void fill_args(struct vg_file_scratch *s, const volatile struct vg_call *c)
{
	struct vg_file *f = &s->r.f;

	if (c->how == VG_HOW_STRUCT) {
		u64 how[2] = {}; /* struct open_how: flags, mode, … */

		bpf_probe_read_user(how, sizeof(how), (void *)arg(s, c->flags));
		f->flags = how[0];
		f->mode = how[1];
	} else {
		f->flags = arg(s, c->flags) | c->fixed;
		f->mode = arg(s, c->mode) & 0177777;
	}
	if (c->uid != VG_ARG_NONE) {
		f->uid = arg(s, c->uid);
		f->gid = arg(s, c->gid);
	}
	if (c->type)
		f->file_mode = c->type;
}

/* Begins a record: everything but the object, what the call's arguments say, and the tail. */
static __always_inline struct vg_file_scratch *begin(struct task_struct *t, u8 op, s64 ret)
{
	u32 zero = 0;
	struct vg_file_scratch *s = bpf_map_lookup_elem(&vg_file_scratch, &zero);
	struct vg_file *f;

	if (!s) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	f = &s->r.f;
	s->r.len = 0;
	vg_fill_header(&f->h, VG_FILE, t);
	f->inode = 0;
	f->dev = 0;
	f->name = 0;
	f->flags = 0;
	f->mode = 0;
	f->uid = f->gid = ~0u;
	f->error = ret < 0 ? -ret : 0;
	f->file_mode = 0;
	f->op = op;
	f->kind = 0;
	f->path_len = f->arg_len = f->new_path_len = f->new_arg_len = 0;
	return s;
}

static __always_inline struct vg_file_scratch *begin_call(struct task_struct *t, const volatile struct vg_call *c,
							  struct pt_regs *regs, s64 ret)
{
	struct vg_file_scratch *s = begin(t, c->op, ret);

	if (s) {
		save_args(s, regs, ret);
		fill_args(s, c);
	}
	return s;
}

static __always_inline long emit(struct vg_file_scratch *s)
{
	u32 len = *(volatile u32 *)&s->r.len;

	if (len > VG_TAIL_BYTES)
		return -1; /* cannot be: for the verifier */
	return vg_emit_telemetry(&s->r.f, sizeof(s->r.f) + len);
}

/* Appends the path of the directory that an argument is relative to, if it is. */
static __always_inline u16 base(struct vg_file_scratch *s, struct task_struct *t, s32 dirfd, const char *path,
				u8 cut_bit, bool new)
{
	struct vfsmount *mnt = 0;
	struct dentry *dentry = 0;
	struct file *dir = 0;
	char c = 0;

	if (bpf_probe_read_user(&c, 1, path) || c == '/')
		return 0;
	if (dirfd == AT_FDCWD) {
		mnt = t->fs->pwd.mnt;
		dentry = t->fs->pwd.dentry;
	} else {
		dir = fd_file(t, dirfd);
		if (!dir) {
			s->r.f.kind |= VG_FILE_NO_DIR;
			return 0;
		}
		mnt = BPF_CORE_READ(dir, f_path.mnt);
		dentry = BPF_CORE_READ(dir, f_path.dentry);
		if (!c && !new) { /* AT_EMPTY_PATH: the descriptor is the object */
			fill_inode(&s->r.f, BPF_CORE_READ(dir, f_inode));
			s->r.f.kind |= VG_FILE_OBJECT;
		}
	}
	return walk(&s->r, t, mnt, dentry, cut_bit);
}

static __always_inline u16 argument(struct vg_file_scratch *s, const char *path, u32 max)
{
	u32 off = *(volatile u32 *)&s->r.len;
	long n;

	if (off > max)
		return 0; /* cannot be: for the verifier */
	n = bpf_probe_read_user_str(s->r.tail + off, VG_PATH_MAX, path);
	if (n <= 0 || n > VG_PATH_MAX) {
		s->r.f.kind |= VG_FILE_UNREAD;
		return 0;
	}
	*(volatile u32 *)&s->r.len = off + n;
	return n;
}

/* Reports by what the caller passed: a change of a name, or an open that was denied. */
static __always_inline int by_argument(struct pt_regs *regs, s64 ret, struct task_struct *t,
				       const volatile struct vg_call *c)
{
	struct vg_file_scratch *s = begin_call(t, c, regs, ret);
	struct vg_file *f;
	const char *path, *new_path;

	if (!s)
		return 0;
	f = &s->r.f;
	if (!f->op) {
		/* Whether a denied O_CREAT would have made the file is not known: say what it wanted to do. */
		f->op = (f->flags & O_TRUNC) ? VG_FILE_TRUNCATE : (f->flags & O_ACCMODE) ? VG_FILE_WRITE : VG_FILE_READ;
	}
	path = (const char *)arg(s, c->path);
	new_path = (const char *)arg(s, c->new_path);
	f->path_len = base(s, t, arg(s, c->dir), path, VG_FILE_CUT, false);
	if (c->new_path != VG_ARG_NONE)
		f->new_path_len = base(s, t, arg(s, c->new_dir), new_path, VG_FILE_NEW_CUT, true);
	f->arg_len = argument(s, path, VG_WALK_BYTES);
	if (c->new_path != VG_ARG_NONE)
		f->new_arg_len = argument(s, new_path, VG_WALK_BYTES + VG_PATH_MAX);
	emit(s);
	return 0;
}

#endif
