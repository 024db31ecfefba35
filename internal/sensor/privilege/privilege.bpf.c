//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a process may do, and its taking more: credentials, namespaces, ptrace, modules, BPF programs, mounts,
 * capabilities.
 *
 * Hooks, and why:
 *   sys_exit of each call       the effect has happened, or the error is known; needs no trampoline
 *   tp_btf/sched_process_fork   clone with new namespaces: the child's, by the object instead of by flags in
 *                               the caller's memory
 *   tp_btf/module_load, _free   where the kernel has modules: the name, also of what the kernel itself loads
 *   fexit/cap_capable           every check of a capability, with its options: a check that is only a probe
 *                               (CAP_OPT_NOAUDIT) is no use and is left out
 *   tp_btf/cap_capable          the same from 6.13 on where no trampoline program loads. The tracepoint has
 *                               no options, so probes are reported as uses; the one that would drown the
 *                               others, of CAP_SYS_ADMIN by memory accounting, is left out by system call
 * Each group is loaded only when it is on. Works from 5.15 with BTF. Fails open: it only observes, and
 * counts what it loses.
 */
#include "types.h"
#include "fold.h"
#include "mount.h"
#include "regs.h"

/* Set before load. Programs that this process loads are not reported: the agent's own. */
const volatile u32 vg_self = 0;

VG_EXPORT(struct, vg_credential);
VG_EXPORT(struct, vg_namespace);
VG_EXPORT(struct, vg_ptrace);
VG_EXPORT(struct, vg_module);
VG_EXPORT(struct, vg_bpf);
VG_EXPORT(struct, vg_mount);
VG_EXPORT(struct, vg_capability);

/* Credentials */

/* Only what took effect, and what was refused: other errors are the caller's mistakes. */
static __always_inline int credential(struct pt_regs *r, s32 error)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_credential c;

	if (error && error != EPERM)
		return 0;
	vg_fill_header(&c.h, VG_CREDENTIAL, t);
	vg_fill_cred(&c.cred, t);
	c.nr = vg_sys_nr(r);
	c.error = error;
	vg_emit_security(&c, sizeof(c));
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_exit_credential(u64 *ctx)
{
	return credential((struct pt_regs *)ctx[0], error_of(ctx[1]));
}

/* setfsuid and setfsgid return the old id, and no error when they change nothing. */
static __always_inline int fs_credential(u64 *ctx, u32 now)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	u32 want = vg_sys_arg0(r), old = ctx[1];

	if (want == ~0u || (old == now && want == now))
		return 0; /* asks for the id, or has it already */
	return credential(r, want == now ? 0 : EPERM);
}

SEC("tp_btf/sys_exit")
int vg_exit_setfsuid(u64 *ctx)
{
	return fs_credential(ctx, bpf_get_current_task_btf()->real_cred->fsuid.val);
}

SEC("tp_btf/sys_exit")
int vg_exit_setfsgid(u64 *ctx)
{
	return fs_credential(ctx, bpf_get_current_task_btf()->real_cred->fsgid.val);
}

/* Namespaces */

#define CLONE_NEWTIME 0x00000080 /* include/uapi/linux/sched.h; clone(2) has its exit signal there */
#define VG_CLONE_NEW  0x7e020000

/* A task stays in its pid and its time namespace: unshare and setns change those of its children. */
static __always_inline void fill_ns_of_children(struct vg_ns *n, struct task_struct *t)
{
	struct nsproxy___privilege *p = (void *)t->nsproxy;

	vg_fill_ns(n, t);
	n->pid = t->nsproxy->pid_ns_for_children->ns.inum;
	if (bpf_core_field_exists(p->time_ns_for_children))
		n->time = BPF_CORE_READ(p, time_ns_for_children, ns.inum);
}

static __always_inline int namespaces(u64 *ctx, u64 flags, u64 inode)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_namespace n = {};

	vg_fill_header(&n.h, VG_NAMESPACE, t);
	vg_fill_ns(&n.ns, t);
	fill_ns_of_children(&n.children, t);
	n.flags = flags;
	n.inode = inode;
	n.nr = vg_sys_nr(r);
	n.error = error_of(ctx[1]);
	vg_emit_security(&n, sizeof(n));
	return 0;
}

/* unshare(flags) */
SEC("tp_btf/sys_exit")
int vg_exit_unshare(u64 *ctx)
{
	u64 flags = vg_sys_arg0((struct pt_regs *)ctx[0]) & (VG_CLONE_NEW | CLONE_NEWTIME);

	return flags ? namespaces(ctx, flags, 0) : 0;
}

/* setns(fd, nstype): of a namespace's file nstype may be 0, of a pidfd it is the flags. */
SEC("tp_btf/sys_exit")
int vg_exit_setns(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	u64 flags = vg_sys_arg1(r) & (VG_CLONE_NEW | CLONE_NEWTIME);
	struct file *f = 0;

	if (!flags)
		f = file_of(bpf_get_current_task_btf(), vg_sys_arg0(r));
	return namespaces(ctx, flags, f ? BPF_CORE_READ(f, f_inode, i_ino) : 0);
}

/* clone(flags, …): what succeeded is seen at the fork. */
SEC("tp_btf/sys_exit")
int vg_exit_clone(u64 *ctx)
{
	u64 flags = vg_sys_arg0((struct pt_regs *)ctx[0]) & VG_CLONE_NEW;

	return flags && (s64)ctx[1] < 0 ? namespaces(ctx, flags, 0) : 0;
}

/* clone3(args, size): the flags are the first member. The caller could have changed them since. */
SEC("tp_btf/sys_exit")
int vg_exit_clone3(u64 *ctx)
{
	u64 flags = 0;

	if ((s64)ctx[1] >= 0)
		return 0;
	bpf_probe_read_user(&flags, sizeof(flags), (void *)vg_sys_arg0((struct pt_regs *)ctx[0]));
	flags &= VG_CLONE_NEW | CLONE_NEWTIME;
	return flags ? namespaces(ctx, flags, 0) : 0;
}

SEC("tp_btf/sched_process_fork")
int vg_clone_namespaces(u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	struct vg_namespace n = {};

	if (child->nsproxy == parent->nsproxy && child->real_cred->user_ns == parent->real_cred->user_ns)
		return 0;
	vg_fill_header(&n.h, VG_NAMESPACE, parent);
	vg_fill_ns(&n.ns, child);
	fill_ns_of_children(&n.children, parent);
	vg_emit_security(&n, sizeof(n));
	return 0;
}

/* Ptrace */

#define PTRACE_TRACEME 0 /* include/uapi/linux/ptrace.h */
#define PTRACE_ATTACH  16
#define PTRACE_SEIZE   0x4206

/* 6.14 on: the task of an id in the caller's pid namespace. */
extern struct task_struct *bpf_task_from_vpid(s32 vpid) __ksym __weak;
extern void bpf_task_release(struct task_struct *t) __ksym __weak;

/* The target's tgid in the root pid namespace. The argument is a number of the caller's own pid namespace: below
 * the root one it means nothing to others, and without the kfunc it can't be translated: then 0. */
static __always_inline u32 target_of(struct task_struct *t, s32 pid)
{
	if (bpf_task_from_vpid) {
		struct task_struct *target = bpf_task_from_vpid(pid);
		u32 tgid;

		if (target) {
			tgid = target->tgid;
			bpf_task_release(target);
			return tgid;
		}
	}
	return BPF_CORE_READ(t, thread_pid, level) == 0 ? pid : 0;
}

static __always_inline int ptrace(u64 *ctx, struct task_struct *t, u32 request, u32 target)
{
	struct vg_ptrace p;

	vg_fill_header(&p.h, VG_PTRACE, t);
	p.nr = vg_sys_nr((struct pt_regs *)ctx[0]);
	p.error = error_of(ctx[1]);
	p.request = request;
	p.target = target;
	vg_emit_security(&p, sizeof(p));
	return 0;
}

/* ptrace(request, pid, …): only what takes hold of a process, not what is done with it then. */
SEC("tp_btf/sys_exit")
int vg_exit_ptrace(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	u64 request = vg_sys_arg0(r);

	if (request == PTRACE_TRACEME)
		return ptrace(ctx, t, request, t->tgid);
	if (request == PTRACE_ATTACH || request == PTRACE_SEIZE)
		return ptrace(ctx, t, request, target_of(t, vg_sys_arg1(r)));
	return 0;
}

/* process_vm_readv and -writev(pid, …): a profiler does this thousands of times, so they are folded. Not of
 * the caller's own memory, which is how unwinders test an address. */
SEC("tp_btf/sys_exit")
int vg_exit_process_vm(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_fold_key k = {};

	k.object = target_of(t, vg_sys_arg0(r));
	if (k.object == t->tgid)
		return 0;
	k.type = VG_PTRACE;
	k.what = vg_sys_nr(r);
	k.error = error_of(ctx[1]);
	vg_fill_image(&k.image, t);
	if (fold_first(&k))
		return ptrace(ctx, t, 0, k.object);
	return 0;
}

/* Modules */

static __always_inline int module(u64 *ctx, u32 unload)
{
	struct module *mod = (struct module *)ctx[0];
	struct vg_module m = {};

	vg_fill_header(&m.h, VG_MODULE, bpf_get_current_task_btf());
	m.taints = mod->taints;
	m.unload = unload;
	bpf_probe_read_kernel_str(m.name, sizeof(mod->name), mod->name);
	vg_emit_security(&m, sizeof(m));
	return 0;
}

/* After the module was linked and before its own code runs: if that fails, a failed call follows. */
SEC("tp_btf/module_load")
int vg_module_load(u64 *ctx)
{
	return module(ctx, 0);
}

SEC("tp_btf/module_free")
int vg_module_free(u64 *ctx)
{
	return module(ctx, 1);
}

/* init_module(image, …), finit_module(fd, …), delete_module(name, …): what failed. */
static __always_inline int module_failed(u64 *ctx, u32 unload, s32 fd, const char *name)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_module m = {};

	m.error = error_of(ctx[1]);
	if (!m.error)
		return 0;
	vg_fill_header(&m.h, VG_MODULE, t);
	m.nr = vg_sys_nr(r);
	m.unload = unload;
	if (fd >= 0) {
		struct file *f = file_of(t, fd);

		if (f)
			bpf_probe_read_kernel_str(m.name, sizeof(m.name), BPF_CORE_READ(f, f_path.dentry, d_name.name));
	} else if (name) {
		bpf_probe_read_user_str(m.name, sizeof(m.name), name);
	}
	vg_emit_security(&m, sizeof(m));
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_exit_init_module(u64 *ctx)
{
	return module_failed(ctx, 0, -1, 0);
}

SEC("tp_btf/sys_exit")
int vg_exit_finit_module(u64 *ctx)
{
	return module_failed(ctx, 0, vg_sys_arg0((struct pt_regs *)ctx[0]), 0);
}

SEC("tp_btf/sys_exit")
int vg_exit_delete_module(u64 *ctx)
{
	return module_failed(ctx, 1, -1, (const char *)vg_sys_arg0((struct pt_regs *)ctx[0]));
}

/* BPF */

/* bpf(cmd, attr, size), program loads: the caller's attributes, and of a success the program itself. */
SEC("tp_btf/sys_exit")
int vg_exit_bpf(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	union bpf_attr *attr = (union bpf_attr *)vg_sys_arg1(r);
	u32 size = vg_sys_arg2(r);
	s64 ret = ctx[1];
	struct vg_bpf b = {};

	if ((u32)vg_sys_arg0(r) != BPF_PROG_LOAD || t->tgid == vg_self)
		return 0;
	vg_fill_header(&b.h, VG_BPF, t);
	b.nr = vg_sys_nr(r);
	b.error = error_of(ret);
	bpf_probe_read_user(&b.prog_type, sizeof(b.prog_type), &attr->prog_type);
	bpf_probe_read_user(&b.insns, sizeof(b.insns), &attr->insn_cnt);
	if (size >= __builtin_offsetof(union bpf_attr, prog_name) + sizeof(b.name))
		bpf_probe_read_user(b.name, sizeof(b.name), &attr->prog_name);
	if (ret >= 0) {
		struct bpf_prog *prog = BPF_CORE_READ(file_of(t, ret), private_data);
		u32 type = BPF_CORE_READ(prog, type);

		/* Another thread could have closed the fd, or the attributes could be changed: then they differ. */
		if (prog && type == b.prog_type) {
			b.prog_id = BPF_CORE_READ(prog, aux, id);
			BPF_CORE_READ_STR_INTO(&b.name, prog, aux, name);
		}
	}
	vg_emit_security(&b, sizeof(b));
	return 0;
}

/* Capabilities */

#define CAP_SYS_ADMIN   21  /* include/uapi/linux/capability.h */
#define CAP_OPT_NOAUDIT 0x2 /* include/linux/security.h */

static __always_inline int capability(struct task_struct *t, u32 cap, bool granted)
{
	struct vg_fold_key k = {};
	struct vg_capability c;

	vg_fill_image(&k.image, t);
	k.type = VG_CAPABILITY;
	k.what = cap;
	k.object = granted;
	if (!fold_first(&k))
		return 0;
	vg_fill_header(&c.h, VG_CAPABILITY, t);
	c.cap = cap;
	c.granted = granted;
	vg_emit_security(&c, sizeof(c));
	return 0;
}

/* cap_capable(cred, target_ns, cap, opts) = ret */
SEC("fexit/cap_capable")
int vg_cap_capable_exit(u64 *ctx)
{
	struct task_struct *t = bpf_get_current_task_btf();
	u32 cap = ctx[2], opts = ctx[3];

	if (opts & CAP_OPT_NOAUDIT || t->flags & PF_KTHREAD)
		return 0;
	return capability(t, cap, (s32)ctx[4] == 0);
}

/* Every mapping of memory asks whether the process is privileged, for the last of the memory. Such system
 * calls have no other use for CAP_SYS_ADMIN; that of clone for new namespaces is reported as such. */
static __always_inline bool accounts_memory(struct task_struct *t)
{
	struct pt_regs *r = (struct pt_regs *)bpf_task_pt_regs(t);

	switch (vg_sys_nr(r)) {
#if defined(__TARGET_ARCH_x86)
	case 9: case 10: case 12: case 25: /* mmap, mprotect, brk, mremap */
	case 30:                           /* shmat */
	case 56: case 57: case 58: case 435: /* clone, fork, vfork, clone3 */
	case 59: case 322:                 /* execve, execveat */
#elif defined(__TARGET_ARCH_arm64)
	case 222: case 226: case 214: case 216:
	case 196:
	case 220: case 435:
	case 221: case 281:
#endif
	case -1ul: /* a page fault */
		return true;
	}
	return false;
}

/* cap_capable(cred, target_ns, capable_ns, cap, ret) */
SEC("tp_btf/cap_capable")
int vg_cap_capable(u64 *ctx)
{
	struct task_struct *t = bpf_get_current_task_btf();
	u32 cap = ctx[3];

	if (t->flags & PF_KTHREAD || (cap == CAP_SYS_ADMIN && accounts_memory(t)))
		return 0;
	return capability(t, cap, (s32)ctx[4] == 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
