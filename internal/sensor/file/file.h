/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The file sensor's records, tables and constants. */
#ifndef VIGIE_SENSOR_FILE_H
#define VIGIE_SENSOR_FILE_H

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

/* What opens are folded by. name is of the last component and its directory: another name of the same inode, or a new
 * file that got a removed one's inode number, begins anew. */
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

#endif
