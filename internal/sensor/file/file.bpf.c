//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Files: opened, created, renamed, linked, removed, their mode and owner changed.
 *
 * Hooks, and why:
 *   sys_exit of open*, f*       the fd is in the process's table: what it refers to is the file that was
 *                               opened, whatever the name meant before or means now
 *   sys_exit of the calls that  the object is gone or was never an fd: the argument, resolved against its
 *   change a name               directory by the agent. What is read is what the caller's memory holds after the call: another
 *                               thread may have changed it since, and a link in the path may have moved
 *   fentry/security_path_*      where trampolines load: the object's own path before the change, kept for the
 *                               sys_exit of the same call, which stays the only one to report
 *   tp_btf/io_uring_complete    opens by io_uring, which no system call returns
 *   tp_btf/sched_process_exit   tells the agent that a process's folded counts are complete
 * Works from 5.15 with BTF; lowest rung without a trampoline. Fails open: it only observes, and counts what
 * it loses.
 *
 * Not seen, but counted as lost: changes of names by io_uring, what it opens into its own table, 32-bit programs. Not
 * seen at all: denied opens by io_uring, any before 5.19, what the kernel itself opens. An open that failed is reported when it was denied, not when the file was
 * not there. An O_PATH open gives no access to the file and is none.
 *
 * Folding: the first open of a file by a process image under one name for one purpose is reported at once, and
 * remembered in vg_seen. The second is reported as VG_FILE_HELD: the agent keeps it as the face of a count in
 * vg_counts, to which all others add one and do nothing else. vg_seen may forget, and a first open is reported again;
 * vg_counts does not, and when it is full opens are reported one by one. So opens = reported + counted + lost records.
 */
#include <linux/io_uring.h>

#include "abi.h"
#include "task.h"
#include "path.h"
#include "regs.h"

enum vg_file_op {
	VG_FILE_NONE,
	VG_FILE_READ,
	VG_FILE_WRITE,
	VG_FILE_CREATE,
	VG_FILE_TRUNCATE,
	VG_FILE_RENAME,
	VG_FILE_LINK,
	VG_FILE_UNLINK,
	VG_FILE_CHMOD,
	VG_FILE_CHOWN,
};

/* vg_file.kind */
#define VG_FILE_OBJECT   0x01 /* the paths are the object's own; else of an argument and its directory */
#define VG_FILE_DELETED  0x02 /* the object has no name any more, or never had one */
#define VG_FILE_HELD     0x04 /* a second open: begins a count, key says which */
#define VG_FILE_GONE     0x08 /* the process has ended: report its counts; nothing else is set */
#define VG_FILE_CUT      0x10 /* the components of path do not reach the root */
#define VG_FILE_NEW_CUT  0x20 /* those of new_path */
#define VG_FILE_UNREAD   0x40 /* an argument could not be read */
#define VG_FILE_NO_DIR   0x80 /* a directory fd that is none: the argument stands alone */

/* What opens are folded by. name is the hash of the last component with its directory: another name of the
 * same inode, or a new file that got a removed one's inode number, begins anew. */
struct vg_fold_key {
	u64 start;
	u64 inode;
	u32 pid;
	u32 exec;
	u32 dev;
	u32 name;
	u32 op;
	u32 pad;
};

struct vg_file {
	struct vg_header h;
	u64 inode; /* 0: not known */
	u32 dev;
	u32 name;
	u32 flags; /* open: O_*; the rest: the call's own */
	u32 mode;  /* as asked for */
	u32 uid;
	u32 gid;
	u32 error;
	u16 file_mode; /* st_mode of the object; 0: not known */
	u8 op;         /* enum vg_file_op */
	u8 kind;       /* VG_FILE_* bits */
	/* The tail, in this order: components (path.h) of the object or of the directory that the argument is
	 * relative to, the same for the new name, the argument, the new name as an argument. */
	u16 path_len;
	u16 new_path_len;
	u16 arg_len;
	u16 new_arg_len;
};

/* In the tail: up to two walks, then up to two arguments. A walk begins below VG_WALK_MAX. */
#define VG_WALK_MAX   (2 * VG_PATH_MAX)
#define VG_WALK_BYTES (VG_WALK_MAX + VG_NAME_MAX)
#define VG_TAIL_BYTES (VG_WALK_BYTES + 2 * VG_PATH_MAX)

/*
 * How a system call is decoded; the agent fills the table for its architecture. An argument is named by its
 * index into vg_file_scratch.args: 0 to 5 are the call's own, then come constants.
 */
#define VG_ARG_CWD  6 /* AT_FDCWD */
#define VG_ARG_RET  7 /* the return value */
#define VG_ARG_NONE 8 /* 0 */
#define VG_ARGS     16

struct vg_call {
	u8 op;    /* VG_FILE_NONE: by the open's result */
	u8 fd;    /* the object, for calls that have or return one; else VG_ARG_NONE */
	u8 dir;   /* what path is relative to */
	u8 path;
	u8 new_dir;
	u8 new_path;
	u8 flags;
	u8 mode;
	u8 uid;
	u8 gid;
	u8 how;      /* VG_HOW_* */
	u8 captured; /* a security_path_* hook runs for it, and its exit takes what the hook kept */
	u16 type;    /* S_IFMT bits of what it makes, if the call says */
	u16 fixed;   /* flags of a call that has no such argument */
};

#define VG_HOW_ARGS    0 /* flags and mode are arguments */
#define VG_HOW_STRUCT  1 /* openat2: they stand in a struct that the flags argument points to */

#define VG_SYSCALLS 512

/* Set before load. */
const volatile struct vg_call vg_calls[VG_SYSCALLS] = {};
const volatile bool vg_hooks = false; /* the fentry programs are there */

/* A record in the making, and where the walk is that makes its paths. */
struct vg_file_record {
	u64 nr; /* system call */
	struct vfsmount *mnt, *root_mnt;
	struct dentry *dentry, *root_dentry;
	u32 cut;
	u32 len; /* of the tail so far */
	struct vg_file f;
	char tail[VG_WALK_BYTES];
};

struct vg_file_scratch {
	u64 args[VG_ARGS];
	struct vg_file_record r;
	char tail_goes_on[2 * VG_PATH_MAX];
};

/* One record in the making for each CPU: sys_exit programs run with preemption off and do not nest. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_file_scratch);
} vg_file_scratch SEC(".maps");

/* What was opened once: about 100 bytes each, 1.8 MiB with its buckets. A busy build opens some 5,000 different
 * (process, file) pairs a second. Full: the least recently used goes, and its next open is a first one again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct vg_fold_key);
	__type(value, u8);
} vg_seen SEC(".maps");

/* What was opened more than once, and how often: 0.9 MiB. The agent removes what has been idle for an interval
 * or whose process is gone. Full: opens are reported one by one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct vg_fold_key);
	__type(value, u64);
} vg_counts SEC(".maps");

/* Process images with a count that the agent knows of. Full: the least recently used is forgotten, its
 * counts are reported at the next interval and not at its exit. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct vg_image);
	__type(value, u8);
} vg_folders SEC(".maps");

/* Between the hook and the exit of one call, by thread: as many as can change names at the same moment. Full: the
 * argument is reported instead of the object, and says so. The agent makes it one entry without hooks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, struct vg_file_record);
} vg_captures SEC(".maps");

/* Always zero: what a new entry of vg_captures begins as. Too big for the stack, and a per-CPU scratch
 * could be taken over by another task, since fentry programs can be preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_file_record);
} vg_blank SEC(".maps");

VG_EXPORT(struct, vg_file);
VG_EXPORT(struct, vg_fold_key);
VG_EXPORT(struct, vg_call);
VG_EXPORT(enum, vg_file_op);

/* include/linux/fs.h; all unchanged from 4.19 to 6.18. */
#define FMODE_WRITE   0x2
#define FMODE_PATH    0x4000
#define FMODE_CREATED 0x100000

/* include/uapi/asm-generic/fcntl.h, the same on x86 and arm64 */
#define O_ACCMODE 0x3
#define O_TRUNC   0x200
#define AT_FDCWD  (-100)

#define S_IFMT  0170000
#define S_IFREG 0100000

#define PF_IO_WORKER 0x10

#define EPERM   1
#define EACCES  13
#define EXDEV   18
#define ETXTBSY 26
#define EROFS   30

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct io_cqe {
	s32 res;
};

struct io_cmd_data {
	struct file *file;
};

struct io_kiocb {
	struct io_cmd_data cmd; /* an io_open, for one */
	u8 opcode;
	struct io_cqe cqe;
};

struct open_how___kernel {
	u64 flags;
	u64 mode;
};

struct io_open {
	u32 file_slot; /* 0: none, else its number in the ring's own table and one */
	struct open_how___kernel how;
};

#pragma clang attribute pop

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
	u32 name; /* hash */
	u32 fmode;
	u32 mode;
};

static __always_inline void look_at(struct vg_object *o, struct file *file)
{
	o->file = file;
	if (bpf_rdonly_cast) {
		struct file *f = typed(struct file, file);
		struct inode *inode = f->f_inode;

		o->inode = inode;
		o->number = inode->i_ino;
		o->dev = inode->i_sb->s_dev;
		o->name = f->f_path.dentry->d_name.hash;
		o->fmode = f->f_mode;
		o->mode = inode->i_mode;
	} else {
		o->inode = BPF_CORE_READ(file, f_inode);
		o->number = BPF_CORE_READ(o->inode, i_ino);
		o->dev = BPF_CORE_READ(o->inode, i_sb, s_dev);
		o->name = BPF_CORE_READ(file, f_path.dentry, d_name.hash);
		o->fmode = BPF_CORE_READ(file, f_mode);
		o->mode = BPF_CORE_READ(o->inode, i_mode);
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
