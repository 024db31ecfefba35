//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Files: opened, created, renamed, linked, removed, their mode and owner changed.
 *
 * Hooks, and why:
 *   sys_exit of open*, f*     the fd is in the process's table: what it refers to is the file that was opened, whatever
 *                             the name meant before or means now
 *   sys_exit of what changes  the object is gone or was never an fd: the argument, resolved against its directory
 *   names                     by the agent. It is what the caller's memory holds after the call: another thread may
 *                             have changed it since, and a link in the path may have moved
 *   fentry/security_path_*    where trampolines load: the object's own path before the change, kept for the sys_exit
 *                             of the same call, which stays the only one to report
 *   tp_btf/io_uring_complete  opens by io_uring, which no system call returns
 *   tp_btf/sched_process_exit tells the agent that a process's counts are complete
 * Works from 5.15 with BTF; the lowest rung needs no trampoline. Fails open: it only observes, and counts what it loses.
 *
 * Not seen, but counted as lost: changes of names by io_uring, what it opens into its own table, 32-bit programs. Not
 * seen at all: denied opens by io_uring, any before 5.19, what the kernel itself opens. An open that failed is reported
 * when it was denied, not when the file was not there. An O_PATH open gives no access to the file and is none.
 *
 * Folding: the first open of a file by a process image under one name for one purpose is reported at once, and
 * remembered in vg_seen. The second is reported as VG_FILE_HELD: the agent keeps it as the face of a count in
 * vg_counts, to which all others add one and do nothing else. vg_seen may forget, and a first open is reported again;
 * vg_counts does not, and when it is full opens are reported one by one. So opens = reported + counted + lost records.
 */
#include <linux/io_uring.h>

#include "record.h"

/* From 6.2: makes a typed pointer of any address, so that members are plain loads that cannot fault. A folded open costs
 * less than half of what it costs with a helper call for each member. */
extern void *bpf_rdonly_cast(const void *address, u32 type) __ksym __weak;

#define typed(type, address) ((type *)bpf_rdonly_cast(address, bpf_core_type_id_kernel(type)))

/* What an open file is known by. */
struct vg_object {
	struct file *file;
	struct inode *inode;
	u64 number;
	u32 dev;
	u32 name; /* of the last component and its directory */
	u32 fmode;
	u32 mode;
};

/* The kernel salts the hash of a name with its directory's address in memory, and an address, like an inode number, is
 * soon another's: a generation is not. */
static __always_inline u32 name_in(u32 hash, u64 dir, u32 generation)
{
	return hash ^ ((u32)dir * 0x9e3779b1 + generation);
}

static __always_inline void look_at(struct vg_object *o, struct file *file)
{
	o->file = file;
	if (bpf_rdonly_cast) {
		struct file *f = typed(struct file, file);
		struct inode *inode = f->f_inode;
		struct inode *dir = f->f_path.dentry->d_parent->d_inode;

		o->inode = inode;
		o->number = inode->i_ino;
		o->dev = inode->i_sb->s_dev;
		o->name = name_in(f->f_path.dentry->d_name.hash, dir->i_ino, dir->i_generation);
		o->fmode = f->f_mode;
		o->mode = inode->i_mode;
	} else {
		/* Not by way of o: an access chain that begins in it would be relocated as if it were the kernel's. */
		struct inode *inode = BPF_CORE_READ(file, f_inode);
		struct inode *dir = BPF_CORE_READ(file, f_path.dentry, d_parent, d_inode);

		o->inode = inode;
		o->number = BPF_CORE_READ(inode, i_ino);
		o->dev = BPF_CORE_READ(inode, i_sb, s_dev);
		o->name = name_in(BPF_CORE_READ(file, f_path.dentry, d_name.hash), BPF_CORE_READ(dir, i_ino),
				  BPF_CORE_READ(dir, i_generation));
		o->fmode = BPF_CORE_READ(file, f_mode);
		o->mode = BPF_CORE_READ(inode, i_mode);
	}
}

/* What an open did; VG_FILE_NONE when it gives no access. One operation an open, the most telling: made, else emptied,
 * else written, else read. */
static __always_inline u32 open_op(struct vg_object *o, u64 flags)
{
	if (o->fmode & FMODE_PATH)
		return VG_FILE_NONE;
	if (o->fmode & FMODE_CREATED)
		return VG_FILE_CREATE;
	if ((flags & O_TRUNC) && (o->mode & S_IFMT) == S_IFREG)
		return VG_FILE_TRUNCATE;
	return o->fmode & FMODE_WRITE ? VG_FILE_WRITE : VG_FILE_READ;
}

static __always_inline void fill_key(struct vg_fold_key *key, struct task_struct *t, struct vg_object *o, u32 op)
{
	key->start = t->group_leader->start_boottime;
	key->inode = o->number;
	key->pid = t->tgid;
	key->exec = t->self_exec_id;
	key->dev = o->dev;
	key->name = o->name;
	key->op = op;
	key->pad = 0;
}

/* The whole cost of an open that was seen before. */
static __always_inline bool counted(struct vg_fold_key *key)
{
	u64 *count = bpf_map_lookup_elem(&vg_counts, key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return count != 0;
}

static __always_inline long emit_object(struct vg_file_scratch *s, struct task_struct *t, struct vg_object *o)
{
	struct file *file = o->file;

	s->r.f.kind |= VG_FILE_OBJECT;
	fill_inode(&s->r.f, o->inode);
	s->r.f.path_len = walk(&s->r, t, BPF_CORE_READ(file, f_path.mnt), BPF_CORE_READ(file, f_path.dentry), VG_FILE_CUT);
	return emit(s);
}

/* Reports an open that is in no count: the first, or the second, which begins a count. What does not fit the ring is
 * lost, and counted as lost: neither seen nor in a count. */
static __always_inline void emit_open(struct vg_file_scratch *s, struct task_struct *t, struct vg_object *o,
				      struct vg_fold_key *key)
{
	u64 one = 1;
	u8 yes = 1;

	s->r.f.op = key->op;
	s->r.f.name = key->name;
	if (!bpf_map_lookup_elem(&vg_seen, key)) {
		if (emit_object(s, t, o) == 0)
			bpf_map_update_elem(&vg_seen, key, &yes, BPF_ANY);
		return;
	}
	s->r.f.kind = VG_FILE_HELD;
	if (emit_object(s, t, o))
		return;
	if (bpf_map_update_elem(&vg_counts, key, &one, BPF_NOEXIST) == 0) {
		struct vg_image image = {.start = key->start, .pid = key->pid, .exec = key->exec};

		bpf_map_update_elem(&vg_folders, &image, &yes, BPF_ANY);
	} else if (!counted(key)) { /* else another thread was here first */
		s->r.f.kind &= ~VG_FILE_HELD; /* full: by itself, then */
		emit(s);
	}
}

/* Calls that return a file descriptor, or have one: the object is at hand. */
SEC("tp_btf/sys_exit")
int vg_exit_fd(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	s64 ret = ctx[1];
	struct task_struct *t = bpf_get_current_task_btf();
	const volatile struct vg_call *c = &vg_calls[vg_sys_nr(regs) & (VG_SYSCALLS - 1)];
	u32 op = c->op;
	struct vg_fold_key key;
	struct vg_file_scratch *s;
	struct vg_object o;
	struct file *file;

	if (c->fd == VG_ARG_RET && ret < 0) {
		if (ret == -EACCES || ret == -EPERM || ret == -EROFS || ret == -EXDEV || ret == -ETXTBSY)
			return by_argument(regs, ret, t, c);
		return 0;
	}
	file = fd_file(t, c->fd == VG_ARG_RET ? ret : vg_sys_arg0(regs));
	if (!file) {
		if (ret >= 0) /* else it never was one */
			vg_lose(VG_LOST_FILE_CLOSED);
		return 0;
	}
	look_at(&o, file);
	if (!op) {
		u64 flags = 0;

		if (c->flags == 2)
			flags = vg_sys_arg2(regs);
		else if (c->flags == 1)
			flags = vg_sys_arg1(regs);
		if (c->how == VG_HOW_STRUCT)
			bpf_probe_read_user(&flags, sizeof(flags), (void *)flags);
		op = open_op(&o, flags | c->fixed);
		if (!op)
			return 0;
	}
	if (op > VG_FILE_TRUNCATE || ret < 0) {
		s = begin_call(t, c, regs, ret);
		if (s)
			emit_object(s, t, &o);
		return 0;
	}
	fill_key(&key, t, &o, op);
	if (counted(&key))
		return 0;
	s = begin_call(t, c, regs, ret);
	if (s)
		emit_open(s, t, &o, &key);
	return 0;
}

/*
 * No system call returns for what io_uring does. Its completion runs in a thread of the process that asked: the
 * one that submitted, or a worker that shares its files. An open is read as above; the arguments of what changes
 * names are freed by now, and a file in the ring's own table has no descriptor: those are counted as lost.
 */
SEC("tp_btf/io_uring_complete")
int vg_uring_complete(u64 *ctx)
{
	struct io_kiocb *req = (struct io_kiocb *)ctx[1];
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_fold_key key;
	struct vg_file_scratch *s;
	struct io_open *open;
	struct vg_object o;
	struct file *file;
	u64 flags;
	u32 op;
	s32 res;

	if (!bpf_core_field_exists(req->cqe) || !bpf_core_type_exists(struct io_open))
		return 0; /* before 5.19 the tracepoint does not have the request: not seen at all */
	op = BPF_CORE_READ(req, opcode);
	if (op < IORING_OP_OPENAT)
		return 0;
	res = BPF_CORE_READ(req, cqe.res);
	if (res < 0)
		return 0;
	switch (op) {
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		break;
	case IORING_OP_RENAMEAT:
	case IORING_OP_UNLINKAT:
	case IORING_OP_MKDIRAT:
	case IORING_OP_SYMLINKAT:
	case IORING_OP_LINKAT:
	case 55: /* IORING_OP_FTRUNCATE, 6.9 */
		vg_lose(VG_LOST_IO_URING_FILE);
		return 0;
	default:
		return 0;
	}
	open = (void *)req + bpf_core_field_offset(struct io_kiocb, cmd);
	if (BPF_CORE_READ(open, file_slot)) {
		vg_lose(VG_LOST_IO_URING_FILE);
		return 0;
	}
	file = fd_file(t, res);
	if (!file) {
		vg_lose(VG_LOST_FILE_CLOSED);
		return 0;
	}
	look_at(&o, file);
	flags = BPF_CORE_READ(open, how.flags);
	op = open_op(&o, flags);
	if (!op)
		return 0;
	fill_key(&key, t, &o, op);
	if (counted(&key))
		return 0;
	s = begin(t, op, 0);
	if (!s)
		return 0;
	s->r.f.flags = flags;
	s->r.f.mode = BPF_CORE_READ(open, how.mode);
	emit_open(s, t, &o, &key);
	return 0;
}

/* Calls that name what they change. */
SEC("tp_btf/sys_exit")
int vg_exit_path(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	s64 ret = ctx[1];
	struct task_struct *t = bpf_get_current_task_btf();
	u64 nr = vg_sys_nr(regs), thread = bpf_get_current_pid_tgid();
	const volatile struct vg_call *c = &vg_calls[nr & (VG_SYSCALLS - 1)];
	struct vg_file_record *kept = 0;
	struct vg_file_scratch *s;
	u32 len;

	if (vg_hooks)
		kept = bpf_map_lookup_elem(&vg_captures, &thread);
	if (!kept)
		return by_argument(regs, ret, t, c);
	s = begin_call(t, c, regs, ret);
	if (!s)
		return 0;
	len = kept->len;
	if (kept->nr == nr && len <= VG_WALK_BYTES) {
		s->r.f.inode = kept->f.inode;
		s->r.f.dev = kept->f.dev;
		if (kept->f.file_mode)
			s->r.f.file_mode = kept->f.file_mode;
		s->r.f.kind = kept->f.kind;
		s->r.f.path_len = kept->f.path_len;
		s->r.f.new_path_len = kept->f.new_path_len;
		kept->f = s->r.f;
		vg_emit_telemetry(&kept->f, sizeof(kept->f) + len);
	}
	bpf_map_delete_elem(&vg_captures, &thread);
	return 0;
}

/* Keeps the path of an object that the running system call is about to change. */
static __always_inline int capture(struct vfsmount *mnt, struct dentry *dentry, struct vfsmount *new_mnt,
				   struct dentry *new_dentry)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(t);
	u64 nr = vg_sys_nr(regs), thread = bpf_get_current_pid_tgid();
	struct inode *inode;
	struct vg_file_record *r;
	u32 zero = 0;
	void *blank;

	/* Only for calls whose exit takes it away again: not for bind(2), an open that creates or truncates, io_uring. */
	if ((t->flags & (PF_KTHREAD | PF_IO_WORKER)) || vg_sys_compat(t) || nr >= VG_SYSCALLS)
		return 0;
	if (!vg_calls[nr & (VG_SYSCALLS - 1)].captured)
		return 0;
	blank = bpf_map_lookup_elem(&vg_blank, &zero);
	if (!blank || bpf_map_update_elem(&vg_captures, &thread, blank, BPF_ANY))
		return 0;
	r = bpf_map_lookup_elem(&vg_captures, &thread);
	if (!r)
		return 0;
	r->nr = nr;
	r->f.kind = VG_FILE_OBJECT;
	inode = BPF_CORE_READ(dentry, d_inode);
	if (inode)
		fill_inode(&r->f, inode);
	r->f.path_len = walk(r, t, mnt, dentry, VG_FILE_CUT);
	if (new_dentry)
		r->f.new_path_len = walk(r, t, new_mnt, new_dentry, VG_FILE_NEW_CUT);
	return 0;
}

SEC("fentry/security_path_unlink")
int vg_path_unlink(u64 *ctx)
{
	return capture(((struct path *)ctx[0])->mnt, (struct dentry *)ctx[1], 0, 0);
}

SEC("fentry/security_path_rmdir")
int vg_path_rmdir(u64 *ctx)
{
	return capture(((struct path *)ctx[0])->mnt, (struct dentry *)ctx[1], 0, 0);
}

SEC("fentry/security_path_mkdir")
int vg_path_mkdir(u64 *ctx)
{
	return capture(((struct path *)ctx[0])->mnt, (struct dentry *)ctx[1], 0, 0);
}

SEC("fentry/security_path_mknod")
int vg_path_mknod(u64 *ctx)
{
	return capture(((struct path *)ctx[0])->mnt, (struct dentry *)ctx[1], 0, 0);
}

SEC("fentry/security_path_symlink")
int vg_path_symlink(u64 *ctx)
{
	return capture(((struct path *)ctx[0])->mnt, (struct dentry *)ctx[1], 0, 0);
}

/* A link cannot leave its mount: the new directory's is the old name's too. */
SEC("fentry/security_path_link")
int vg_path_link(u64 *ctx)
{
	struct vfsmount *mnt = ((struct path *)ctx[1])->mnt;

	return capture(mnt, (struct dentry *)ctx[0], mnt, (struct dentry *)ctx[2]);
}

SEC("fentry/security_path_rename")
int vg_path_rename(u64 *ctx)
{
	return capture(((struct path *)ctx[0])->mnt, (struct dentry *)ctx[1], ((struct path *)ctx[2])->mnt,
		       (struct dentry *)ctx[3]);
}

SEC("fentry/security_path_truncate")
int vg_path_truncate(u64 *ctx)
{
	struct path *path = (struct path *)ctx[0];

	return capture(path->mnt, path->dentry, 0, 0);
}

SEC("fentry/security_path_chmod")
int vg_path_chmod(u64 *ctx)
{
	struct path *path = (struct path *)ctx[0];

	return capture(path->mnt, path->dentry, 0, 0);
}

SEC("fentry/security_path_chown")
int vg_path_chown(u64 *ctx)
{
	struct path *path = (struct path *)ctx[0];

	return capture(path->mnt, path->dentry, 0, 0);
}

/* Most processes fold nothing and cost one look-up here. A notice that does not fit the ring is no loss: the
 * counts come with the next interval. */
SEC("tp_btf/sched_process_exit")
int vg_file_process_exit(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[0];
	struct vg_image image;
	struct vg_file f = {};

	if (t->signal->live.counter != 0)
		return 0;
	vg_fill_image(&image, t);
	if (bpf_map_delete_elem(&vg_folders, &image))
		return 0;
	vg_fill_header(&f.h, VG_FILE, t);
	f.kind = VG_FILE_GONE;
	bpf_ringbuf_output(&vg_telemetry, &f, sizeof(f), BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
