/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The records of the privilege sensor, and the kernel types that only it reads. */
#ifndef VIGIE_PRIVILEGE_TYPES_H
#define VIGIE_PRIVILEGE_TYPES_H

#include "abi.h"
#include "task.h"

/* In all records: nr is the number of the system call on the running architecture, 0 for a tracepoint;
 * error is a positive error number, 0 for success. */

struct vg_credential {
	struct vg_header h;
	struct vg_cred cred; /* after the call */
	u32 nr;
	s32 error;
};

struct vg_namespace {
	struct vg_header h;
	struct vg_ns ns;       /* after the call; of clone: the child's */
	struct vg_ns children; /* those of the caller's children that ask for none, after the call */
	u64 flags;             /* CLONE_NEW* as the caller gave them; 0 for a clone that succeeded */
	u64 inode;             /* setns with a namespace's file: the inode number, which is that namespace's */
	u32 nr;
	s32 error;
};

struct vg_ptrace {
	struct vg_header h;
	u32 nr;
	s32 error;
	u32 request; /* PTRACE_* */
	u32 target;  /* tgid in the root pid namespace, 0 when that is not known */
};

struct vg_module {
	struct vg_header h;
	u64 taints;
	u32 nr;
	s32 error;
	u32 unload;
	u32 pad;
	char name[64]; /* of the module; of a failed finit_module: the file's */
};

struct vg_bpf {
	struct vg_header h;
	u32 nr;
	s32 error;
	u32 prog_type;
	u32 prog_id;
	u32 insns; /* as given by the caller */
	u32 pad;
	char name[16];
};

struct vg_mount {
	struct vg_header h;
	u64 flags;
	u32 nr;
	s32 error;
	/* The tail: source, target, fstype, base; of a new mount that is moved: source, fstype, target, base.
	 * The base is the directory that relative paths begin at, as components. */
	u16 source_len;
	u16 target_len;
	u16 fstype_len;
	u16 base_len;
};

struct vg_capability {
	struct vg_header h;
	u32 cap;
	u32 granted;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};

struct file_system_type {
	const char *name;
};

struct super_block___privilege {
	struct file_system_type *s_type;
};

struct mount___privilege {
	const char *mnt_devname;
};

struct nsproxy___privilege {
	struct time_namespace *time_ns_for_children;
};

struct module {
	char name[56]; /* MODULE_NAME_LEN */
	unsigned long taints;
};

struct bpf_prog_aux {
	u32 id;
	char name[16];
};

struct bpf_prog {
	enum bpf_prog_type type;
	struct bpf_prog_aux *aux;
};

#pragma clang attribute pop

/* The file behind an fd of the current process, or 0. */
static __always_inline struct file *file_of(struct task_struct *t, s32 fd)
{
	struct fdtable *fdt = BPF_CORE_READ(t, files, fdt);
	struct file **fds = BPF_CORE_READ(fdt, fd);
	struct file *f = 0;

	if (fd < 0 || fd >= BPF_CORE_READ(fdt, max_fds))
		return 0;
	bpf_probe_read_kernel(&f, sizeof(f), fds + fd);
	return f;
}

static __always_inline s32 error_of(s64 ret)
{
	return ret < 0 && ret >= -4095 ? -ret : 0;
}

#define EPERM 1

#endif
