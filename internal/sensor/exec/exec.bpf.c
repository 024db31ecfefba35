//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Processes: what runs, who started it, how it ended.
 *
 * Hooks, and why:
 *   tp_btf/sched_process_exec  after the new image is in place and before its first instruction: its
 *                              credentials, executable and argv are the kernel's own
 *   tp_btf/sched_process_fork  the child is complete and has not run
 *   tp_btf/sched_process_exit  once per thread; reports when the last one of a group ends
 *   tp_btf/cgroup_mkdir, rmdir the name of a cgroup, before anything can run in it
 *   sys_exit of execve, -at    an exec that failed
 *   iter/task                  what ran before the agent
 * Works from 5.15 with BTF; needs no trampoline. Fails open: it only observes, and counts what it loses.
 */
#include "abi.h"
#include "task.h"
#include "path.h"
#include "regs.h"

/* Set before load. Bytes of argv that are kept, at most VG_ARGS_MAX. */
const volatile u32 vg_args_limit = 4096;

#define VG_ARGS_MAX 8191

/* vg_exec.kind */
#define VG_EXEC_KTHREAD  0x1
#define VG_EXEC_MEMFD    0x2
#define VG_EXEC_DELETED  0x4
#define VG_EXEC_UPPER    0x8  /* overlayfs: the file was written in the container */
#define VG_EXEC_SECURE   0x10 /* AT_SECURE */
#define VG_EXEC_SCRIPT   0x20 /* script and interpreter strings follow */
#define VG_EXEC_ARGS_CUT 0x40

#define VG_TMPFS_MAGIC     0x01021994
#define VG_OVERLAYFS_MAGIC 0x794c7630

struct vg_exec {
	struct vg_header h;
	struct vg_cred cred;
	struct vg_ns ns;
	struct vg_cgroup_ref cgroup;
	struct vg_image parent;
	u64 inode;
	u32 dev;
	u32 file_uid;
	u32 file_gid;
	u16 file_mode;
	u16 kind;
	char tty[16];
	char comm[16];
	/* The tail, in this order. */
	u16 binary_len;
	u16 cwd_len;
	u16 args_len;
	u16 script_len;
	u16 interp_len;
	u16 pad[3];
};

struct vg_fork {
	struct vg_header h; /* of the child */
	struct vg_image parent;
	struct vg_cgroup_ref cgroup;
	struct vg_ns ns;
};

struct vg_exit {
	struct vg_header h;
	s32 status; /* as wait(2) gives it */
	u32 pad;
};

struct vg_exec_failed {
	struct vg_header h;
	s32 error;
	u16 path_len;
	u16 args_len;
};

struct vg_cgroup_change {
	struct vg_header h;
	struct vg_cgroup_ref cgroup;
	u32 removed;
	u32 path_len;
};

/* Where in the tail each part may begin at the latest. */
#define VG_BINARY_END VG_PATH_MAX
#define VG_CWD_END    (VG_BINARY_END + VG_NAME_MAX + VG_PATH_MAX)
#define VG_ARGS_START (VG_CWD_END + VG_NAME_MAX)
#define VG_ARGS_END   (VG_ARGS_START + VG_ARGS_MAX)
#define VG_SCRIPT_END (VG_ARGS_END + VG_PATH_MAX)
#define VG_TAIL_BYTES (VG_SCRIPT_END + VG_NAME_MAX)

struct vg_exec_scratch {
	u32 len; /* bytes used of tail */
	u32 pad;
	struct vg_exec e;
	char tail[VG_TAIL_BYTES];
};

/* One record in the making for each CPU: these programs run in process context and do not nest. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_exec_scratch);
} vg_exec_scratch SEC(".maps");

VG_EXPORT(struct, vg_exec);
VG_EXPORT(struct, vg_fork);
VG_EXPORT(struct, vg_exit);
VG_EXPORT(struct, vg_exec_failed);
VG_EXPORT(struct, vg_cgroup_change);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

static __always_inline void fill_parent(struct vg_image *i, struct task_struct *t)
{
	vg_fill_image(i, t->real_parent);
}

static __always_inline void fill_file(struct vg_exec *e, struct file *exe)
{
	struct inode *inode = exe->f_inode;
	struct super_block *sb = inode->i_sb;

	e->inode = inode->i_ino;
	e->dev = sb->s_dev;
	e->file_mode = inode->i_mode;
	e->file_uid = inode->i_uid.val;
	e->file_gid = inode->i_gid.val;
	if (inode->i_nlink == 0)
		e->kind |= VG_EXEC_DELETED;
	if (sb->s_magic == VG_TMPFS_MAGIC) {
		char name[8] = {};

		bpf_probe_read_kernel(name, 6, exe->f_path.dentry->d_name.name);
		if (name[0] == 'm' && name[1] == 'e' && name[2] == 'm' && name[3] == 'f' && name[4] == 'd' &&
		    name[5] == ':' && exe->f_path.dentry == exe->f_path.dentry->d_parent)
			e->kind |= VG_EXEC_MEMFD;
	}
	if (sb->s_magic == VG_OVERLAYFS_MAGIC) {
		struct dentry *upper = 0;

		/* __upperdentry stands right behind vfs_inode since 4.13; ovl_inode is the module's own type. */
		bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
		if (upper)
			e->kind |= VG_EXEC_UPPER;
	}
}

/* Fills everything that is the same for a live exec and for the inventory. */
static __always_inline void fill_exec(struct vg_exec_scratch *s, struct task_struct *t)
{
	struct vg_exec *e = &s->e;
	struct file *exe = t->mm->exe_file;
	struct fs_struct *fs = t->fs;
	s->len = 0;
	vg_fill_header(&e->h, VG_EXEC, t);
	vg_fill_cred(&e->cred, t);
	vg_fill_ns(&e->ns, t);
	vg_fill_cgroup(&e->cgroup, t);
	fill_parent(&e->parent, t);
	e->kind = 0;
	e->inode = 0;
	e->dev = 0;
	e->file_mode = 0;
	e->file_uid = 0;
	e->file_gid = 0;
	e->binary_len = 0;
	e->cwd_len = 0;
	e->args_len = 0;
	e->script_len = 0;
	e->interp_len = 0;
	e->pad[0] = e->pad[1] = e->pad[2] = 0;
	e->tty[0] = 0;
	bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), t->comm);
	BPF_CORE_READ_STR_INTO(&e->tty, t, signal, tty, name);

	if (t->flags & PF_KTHREAD) {
		e->kind = VG_EXEC_KTHREAD;
		return;
	}
	if (exe) {
		fill_file(e, exe);
		vg_path(s->tail, &s->len, VG_BINARY_END, exe->f_path.mnt, exe->f_path.dentry, fs->root.mnt, fs->root.dentry,
			&e->h.flags);
		e->binary_len = s->len;
	}
	vg_path(s->tail, &s->len, VG_CWD_END, fs->pwd.mnt, fs->pwd.dentry, fs->root.mnt, fs->root.dentry, &e->h.flags);
	e->cwd_len = s->len - e->binary_len;
}

SEC("tp_btf/sched_process_exec")
int vg_process_exec(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[0];
	struct linux_binprm *bprm = (struct linux_binprm *)ctx[2];
	u32 zero = 0;
	struct vg_exec_scratch *s = bpf_map_lookup_elem(&vg_exec_scratch, &zero);
	unsigned long start, len;
	u32 off, want;
	long n;

	if (!s) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	fill_exec(s, t);
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		s->e.kind |= VG_EXEC_SECURE;

	start = t->mm->arg_start;
	len = t->mm->arg_end - start;
	want = len;
	if (len > vg_args_limit) {
		want = vg_args_limit;
		s->e.kind |= VG_EXEC_ARGS_CUT;
	}
	want &= VG_ARGS_MAX;
	off = *(volatile u32 *)&s->len;
	if (off > VG_ARGS_START)
		return 0; /* cannot be: for the verifier, as the others below */
	if (bpf_probe_read_user(s->tail + off, want, (void *)start) == 0) {
		s->e.args_len = want;
		off += want;
	} else {
		s->e.kind |= VG_EXEC_ARGS_CUT;
	}

	/* A script: the kernel put the interpreter in place of the file that was named. */
	if (bprm->interp != bprm->filename) {
		barrier_var(off);
		if (off > VG_ARGS_END)
			return 0;
		n = vg_read_len(bpf_probe_read_kernel_str(s->tail + off, VG_PATH_MAX, bprm->filename), VG_PATH_MAX);
		s->e.script_len = n;
		off += n;
		barrier_var(off);
		if (off > VG_SCRIPT_END)
			return 0;
		n = vg_read_len(bpf_probe_read_kernel_str(s->tail + off, VG_NAME_MAX, bprm->interp), VG_NAME_MAX);
		s->e.interp_len = n;
		off += n;
		s->e.kind |= VG_EXEC_SCRIPT;
	}
	barrier_var(off); /* or the compiler compares another register than the one it passes on */
	if (off > VG_TAIL_BYTES)
		return 0;
	vg_emit_security(&s->e, sizeof(s->e) + off);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int vg_process_fork(u64 *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx[1];
	struct vg_fork f;

	if (child->pid != child->tgid)
		return 0;
	vg_fill_header(&f.h, VG_FORK, child);
	fill_parent(&f.parent, child);
	vg_fill_cgroup(&f.cgroup, child);
	vg_fill_ns(&f.ns, child);
	vg_emit_security(&f, sizeof(f));
	return 0;
}

#define SIGNAL_GROUP_EXIT 0x4 /* include/linux/sched/signal.h */

SEC("tp_btf/sched_process_exit")
int vg_process_exit(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[0];
	struct signal_struct *sig = t->signal;
	struct vg_exit x;

	if (sig->live.counter != 0)
		return 0; /* other threads of the group go on */
	vg_fill_header(&x.h, VG_EXIT, t);
	/* What the parent's wait(2) will get. */
	if (sig->flags & SIGNAL_GROUP_EXIT)
		x.status = sig->group_exit_code;
	else
		x.status = t->group_leader->exit_code;
	x.pad = 0;
	vg_emit_security(&x, sizeof(x));
	return 0;
}

/* execve(path, argv, envp), execveat(dirfd, path, argv, envp, flags): only the failed ones come back here
 * with an error; the others were reported by sched_process_exec. */
static __always_inline int exec_failed(u64 *ctx, const char *path, const char *const *argv)
{
	u32 zero = 0, off, total = 0;
	struct vg_exec_failed *f = bpf_map_lookup_elem(&vg_exec_scratch, &zero);
	char *tail = (char *)(f + 1);
	s64 ret = ctx[1];
	long n;

	if (ret >= 0)
		return 0;
	if (!f) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	vg_fill_header(&f->h, VG_EXEC_FAILED, bpf_get_current_task_btf());
	f->error = -ret;
	n = bpf_probe_read_user_str(tail, VG_PATH_MAX, path);
	off = vg_read_len(n, VG_PATH_MAX);
	f->path_len = off;
	for (int i = 0; i < 16; i++) {
		const char *arg = 0;

		if (bpf_probe_read_user(&arg, sizeof(arg), &argv[i]) || !arg)
			break;
		if (i == 15 || total > VG_PATH_MAX) {
			f->h.flags |= VG_F_CUT;
			break;
		}
		barrier_var(off);
		if (off > 2 * VG_PATH_MAX)
			break;
		n = vg_read_len(bpf_probe_read_user_str(tail + off, VG_NAME_MAX, arg), VG_NAME_MAX);
		if (!n)
			break;
		off += n;
		total += n;
	}
	f->args_len = total;
	barrier_var(off);
	if (off > 3 * VG_PATH_MAX)
		return 0;
	vg_emit_security(f, sizeof(*f) + off);
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_exit_execve(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];

	return exec_failed(ctx, (void *)vg_sys_arg0(r), (void *)vg_sys_arg1(r));
}

SEC("tp_btf/sys_exit")
int vg_exit_execveat(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];

	return exec_failed(ctx, (void *)vg_sys_arg1(r), (void *)vg_sys_arg2(r));
}

static __always_inline int cgroup_change(u64 *ctx, u32 removed)
{
	struct cgroup *cg = (struct cgroup *)ctx[0];
	const char *path = (const char *)ctx[1];
	u32 zero = 0;
	struct vg_cgroup_change *c = bpf_map_lookup_elem(&vg_exec_scratch, &zero);
	long n;

	if (!c) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	vg_fill_header(&c->h, VG_CGROUP, bpf_get_current_task_btf());
	c->cgroup.id = cg->kn->id;
	c->cgroup.hierarchy = BPF_CORE_READ(cg, root, hierarchy_id);
	c->cgroup.pad = 0;
	c->removed = removed;
	n = vg_read_len(bpf_probe_read_kernel_str(c + 1, VG_PATH_MAX, path), VG_PATH_MAX);
	c->path_len = n;
	vg_emit_security(c, sizeof(*c) + n);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int vg_cgroup_mkdir(u64 *ctx)
{
	return cgroup_change(ctx, 0);
}

SEC("tp_btf/cgroup_rmdir")
int vg_cgroup_rmdir(u64 *ctx)
{
	return cgroup_change(ctx, 1);
}

/* Writes one vg_exec for each process, preceded by its length as a u32, for the agent to read. argv lies in
 * memory that may be paged out: the agent reads it from /proc once. */
SEC("iter/task")
int vg_inventory(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *t = ctx->task;
	u32 zero = 0, off, len;
	struct vg_exec_scratch *s;

	if (!t || t->pid != t->tgid)
		return 0;
	s = bpf_map_lookup_elem(&vg_exec_scratch, &zero);
	if (!s) {
		vg_lose(VG_LOST_SCRATCH_MISSING);
		return 0;
	}
	fill_exec(s, t);
	s->e.h.flags |= VG_F_PRE_EXISTING;
	off = *(volatile u32 *)&s->len;
	if (off > VG_TAIL_BYTES)
		return 0;
	/* Not len twice: once its address is given away, kernels before 6.18 no longer know its bounds. */
	len = sizeof(s->e) + off;
	bpf_seq_write(seq, &len, sizeof(len));
	bpf_seq_write(seq, &s->e, sizeof(s->e) + off);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
