/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's own security hooks: what they are asked is looked up in the tables of the acting process, and what is
 * denied fails with EPERM before anything has happened. The same programs for two rungs: lsm.bpf.c attaches them as a
 * security module (`bpf` among the active ones), modret.bpf.c to the security_* functions by fmod_ret.
 *
 * Hooks, and why:
 *   bprm_check                     every file that an exec runs: the program, the script and its interpreter
 *   mmap_file                      a program that another loader (ld.so) maps instead of exec
 *   file_open                      the object that is opened, with the access that it is opened for, by whatever call or ring
 *   path_*                         changes of names and attributes: the object's own path
 *   capable, ptrace_*, bpf,        privileged operations
 *   sb_mount and its like,
 *   kernel_read_file, _load_data
 *   socket_*, file_receive         what the cgroup hooks of the network back-end do not see
 * Needs 5.17 (bpf_loop). Fails open: what cannot be looked up is allowed and counted.
 */
#ifndef VIGIE_ENFORCE_HOOKS_H
#define VIGIE_ENFORCE_HOOKS_H

#include "policy.h"
#include "climb.h"

#define EPERM 1

#define FMODE_READ   0x1 /* include/linux/fs.h */
#define FMODE_WRITE  0x2
#define __FMODE_EXEC 0x20

#define S_IFMT  0170000
#define S_IFDIR 0040000
#define S_IFREG 0100000

#define PROT_EXEC 0x4

#define PTRACE_MODE_ATTACH 0x2 /* include/linux/ptrace.h */
#define CAP_OPT_NOAUDIT    0x2 /* include/linux/security.h */

/* include/linux/kernel_read_file.h and security.h: LOADING_MODULE is the same number */
#define READING_MODULE 2

#define PRIVILEGE_PTRACE 64 /* policy.PrivilegePtrace and so on */
#define PRIVILEGE_BPF    65
#define PRIVILEGE_MOUNT  66
#define PRIVILEGE_MODULE 67

/* Set before load: the accesses that these programs judge; one hook can serve several operations, each with a program. */
const volatile u32 vg_accesses = 0;

/* A path in the making. These hooks can be preempted: a per-CPU buffer could be taken over. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_text);
} vg_texts SEC(".maps");

static __always_inline struct vg_subject *acting(void)
{
	return vg_subject_of(bpf_get_current_pid_tgid() >> 32);
}

static __always_inline struct vg_text *own_text(struct task_struct *t)
{
	struct vg_text *text = bpf_task_storage_get(&vg_texts, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!text)
		vg_lose(VG_LOST_SCRATCH_MISSING);
	return text;
}

/* What the hook returns for an action. */
static __always_inline int outcome(u32 action)
{
	if (action == VG_ACT_KILL)
		bpf_send_signal(9 /* SIGKILL */);
	return action >= VG_ACT_DENY ? -EPERM : 0;
}

#define ACCESS(a) (1u << VG_ACCESS_##a)

/* What one table is asked. */
struct vg_question {
	u64 inode; /* 0: the object is not there yet */
	u32 dev;
	u32 accesses; /* a mask of ACCESS */
	u32 loader;   /* the file is mapped by a program: only explicit denials count */
	u16 table;
	u16 subject;
};

/* The strongest decision of one table about a path, and with it, from bit 16 on, which access it is about. A global function,
 * so that it is verified once and not for each slot. */
__weak __noinline int judge_table(struct vg_text *text, const struct vg_question *q)
{
	struct vg_inode_key key = {};
	struct vg_table *table;
	u32 class, other, op = 0, *found;
	u16 best = 0;

	if (!text || !q)
		return 0;
	table = vg_table_of(q->table);
	if (!table || !(table->flags & (q->accesses & ACCESS(EXEC) ? VG_TABLE_EXEC : VG_TABLE_FILES)))
		return 0;
	class = vg_class(&table->paths, text);
	other = class;
	if (table->flags & VG_TABLE_INODES && q->inode) {
		key.inode = q->inode;
		key.dev = q->dev;
		key.table = q->table;
		found = bpf_map_lookup_elem(&vg_inodes, &key);
		if (found)
			other = *found;
	}
	for (u32 access = 0; access < 4; access++) {
		u16 d;

		if (!(q->accesses & (1u << access)))
			continue;
		d = vg_decide_file(table, class, q->subject, access);
		if (vg_action(d) > vg_action(best) && !(q->loader && vg_rule(d) == table->exec_default)) {
			best = d;
			op = access;
		}
		if (other == class)
			continue;
		d = vg_decide_file(table, other, q->subject, access);
		if (vg_action(d) > vg_action(best) && !(q->loader && vg_rule(d) == table->exec_default)) {
			best = d;
			op = access;
		}
	}
	return best | op << 16;
}

/* Judges the accesses of a mask to the object (mnt, dentry). */
__weak __noinline int judge_path(u64 mnt, u64 dentry, u32 accesses, u32 loader)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_question q = {.accesses = accesses, .loader = loader};
	struct vg_subject *s = acting();
	struct vg_answer a = {};
	struct inode *inode;
	struct vg_text *text;
	u32 op = 0, n;

	if (!s)
		return 0;
	text = own_text(t);
	if (!text)
		return 0;
	vg_climb_from(text, mnt, dentry);
	inode = BPF_CORE_READ((struct dentry *)dentry, d_inode);
	if (inode) {
		q.inode = BPF_CORE_READ(inode, i_ino);
		q.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	}
	n = s->count;
	for (u32 i = 0; i < VG_SLOTS; i++) {
		u32 judged;

		if (i >= n)
			break;
		q.table = s->slots[i].table;
		q.subject = s->slots[i].subject;
		judged = judge_table(text, &q);
		if (vg_action(judged & 0xffff) > vg_action(a.decision)) {
			a.table = q.table;
			a.decision = judged;
			op = judged >> 16;
		}
	}
	if (vg_action(a.decision) == VG_ACT_ALLOW)
		return 0;
	/* Apart by the entry of the directory, not by the inode: what does not exist yet has none. */
	if (vg_begin_verdict(vg_verdict_of(text), &a, t, VG_OP_EXEC + op, VG_RUNG, dentry))
		vg_tell_path(text);
	return outcome(vg_action(a.decision));
}

/* What a hook returns: one of two constants, because from 6.12 the verifier wants to know the range, and of a global function
 * it knows nothing. */
static __always_inline int refused(int judged)
{
	if (!judged)
		return 0;
	barrier();
	return -EPERM;
}

static __always_inline int judge(const struct path *path, struct dentry *dentry, u32 accesses)
{
	accesses &= vg_accesses;
	if (!accesses || !acting())
		return 0;
	return refused(judge_path(vg_address(path->mnt), vg_address(dentry), accesses, 0));
}

/* Judges a capability or a privileged operation. quiet: the kernel only asks whether, and nobody is to be told. */
static __always_inline int judge_privilege(u32 privilege, u32 op, bool quiet)
{
	struct task_struct *t;
	struct vg_subject *s = acting();
	struct vg_answer a = {};
	struct vg_verdict v;
	u32 n;

	if (!s)
		return 0;
	n = s->count;
	for (u32 i = 0; i < VG_SLOTS && i < n; i++) {
		struct vg_slot slot = s->slots[i];
		struct vg_table *table = vg_table_of(slot.table);

		if (table && table->flags & VG_TABLE_PRIV)
			vg_stronger(&a, slot.table, vg_decide_privilege(table, privilege, slot.subject));
	}
	if (vg_action(a.decision) == VG_ACT_ALLOW)
		return 0;
	if (quiet)
		return vg_action(a.decision) >= VG_ACT_DENY ? -EPERM : 0;
	t = bpf_get_current_task_btf();
	if (vg_begin_verdict(&v, &a, t, op, VG_RUNG, privilege)) {
		v.detail = privilege;
		vg_emit_security(&v, sizeof(v));
	}
	return outcome(vg_action(a.decision));
}

SEC(VG_SEC_EXEC)
int VG_PROG(exec)(u64 *ctx)
{
	struct linux_binprm *bprm = (struct linux_binprm *)ctx[0];
	struct file *file = bprm->file;

	return judge(&file->f_path, file->f_path.dentry, ACCESS(EXEC));
}

/* A program that is mapped by a loader is not executed; one that a policy denies by name must not run that way either. */
SEC(VG_SEC("mmap_file"))
int VG_PROG(mmap)(u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];
	u64 prot = ctx[VG_MMAP_PROT];

	if (!file || !(prot & PROT_EXEC) || !acting())
		return 0;
	return refused(judge_path((u64)BPF_CORE_READ(file, f_path.mnt), (u64)BPF_CORE_READ(file, f_path.dentry), ACCESS(EXEC), 1));
}

SEC(VG_SEC("file_open"))
int VG_PROG(open)(u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];
	u32 accesses = 0;

	if (file->f_flags & __FMODE_EXEC || (file->f_inode->i_mode & S_IFMT) == S_IFDIR)
		return 0; /* exec is judged as such; a directory that is listed is no file that is read */
	if (file->f_mode & FMODE_READ)
		accesses |= ACCESS(READ);
	if (file->f_mode & FMODE_WRITE)
		accesses |= ACCESS(WRITE);
	return judge(&file->f_path, file->f_path.dentry, accesses);
}

/* By mknod, or by an open with O_CREAT, which is a write. */
SEC(VG_SEC("path_mknod"))
int VG_PROG(mknod)(u64 *ctx)
{
	u16 type = ctx[2] & S_IFMT;

	return judge((struct path *)ctx[0], (struct dentry *)ctx[1], !type || type == S_IFREG ? ACCESS(WRITE) : ACCESS(MODIFY));
}

SEC(VG_SEC("path_truncate"))
int VG_PROG(truncate)(u64 *ctx)
{
	struct path *path = (struct path *)ctx[0];

	return judge(path, path->dentry, ACCESS(WRITE));
}

#define MODIFY_HOOK(hook)                                                                          \
	SEC(VG_SEC("path_" #hook))                                                                 \
	int VG_PROG(hook)(u64 * ctx)                                                               \
	{                                                                                          \
		return judge((struct path *)ctx[0], (struct dentry *)ctx[1], ACCESS(MODIFY));      \
	}

MODIFY_HOOK(unlink)
MODIFY_HOOK(rmdir)
MODIFY_HOOK(mkdir)
MODIFY_HOOK(symlink)

#define ATTRIBUTE_HOOK(hook)                                                                       \
	SEC(VG_SEC("path_" #hook))                                                                 \
	int VG_PROG(hook)(u64 * ctx)                                                               \
	{                                                                                          \
		struct path *path = (struct path *)ctx[0];                                         \
                                                                                                   \
		return judge(path, path->dentry, ACCESS(MODIFY));                                  \
	}

ATTRIBUTE_HOOK(chmod)
ATTRIBUTE_HOOK(chown)

/* A link cannot leave its mount: the new directory's is the old name's too. */
SEC(VG_SEC("path_link"))
int VG_PROG(link)(u64 *ctx)
{
	struct path *dir = (struct path *)ctx[1];
	int err = judge(dir, (struct dentry *)ctx[0], ACCESS(MODIFY));

	return err ? err : judge(dir, (struct dentry *)ctx[2], ACCESS(MODIFY));
}

SEC(VG_SEC("path_rename"))
int VG_PROG(rename)(u64 *ctx)
{
	int err = judge((struct path *)ctx[0], (struct dentry *)ctx[1], ACCESS(MODIFY));

	return err ? err : judge((struct path *)ctx[2], (struct dentry *)ctx[3], ACCESS(MODIFY));
}

SEC(VG_SEC("capable"))
int VG_PROG(capable)(u64 *ctx)
{
	return judge_privilege(ctx[2] & 63, VG_OP_CAPABILITY, ctx[3] & CAP_OPT_NOAUDIT);
}

SEC(VG_SEC("ptrace_access_check"))
int VG_PROG(ptrace)(u64 *ctx)
{
	return ctx[1] & PTRACE_MODE_ATTACH ? judge_privilege(PRIVILEGE_PTRACE, VG_OP_PTRACE, false) : 0;
}

SEC(VG_SEC("ptrace_traceme"))
int VG_PROG(traceme)(u64 *ctx)
{
	return judge_privilege(PRIVILEGE_PTRACE, VG_OP_PTRACE, false);
}

SEC(VG_SEC("bpf"))
int VG_PROG(bpf)(u64 *ctx)
{
	return judge_privilege(PRIVILEGE_BPF, VG_OP_BPF, false);
}

#define MOUNT_HOOK(name, hook)                                                                     \
	SEC(VG_SEC(#hook))                                                                         \
	int VG_PROG(name)(u64 * ctx)                                                               \
	{                                                                                          \
		return judge_privilege(PRIVILEGE_MOUNT, VG_OP_MOUNT, false);                       \
	}

MOUNT_HOOK(mount, sb_mount)
MOUNT_HOOK(umount, sb_umount)
MOUNT_HOOK(pivot, sb_pivotroot)
MOUNT_HOOK(move, move_mount)

SEC(VG_SEC("kernel_read_file"))
int VG_PROG(module_file)(u64 *ctx)
{
	return (u32)ctx[1] == READING_MODULE ? judge_privilege(PRIVILEGE_MODULE, VG_OP_MODULE, false) : 0;
}

SEC(VG_SEC("kernel_load_data"))
int VG_PROG(module_data)(u64 *ctx)
{
	return (u32)ctx[0] == READING_MODULE ? judge_privilege(PRIVILEGE_MODULE, VG_OP_MODULE, false) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
