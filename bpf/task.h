/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who: the process of a task, its credentials, namespaces and cgroup. All take a BTF pointer to the task
 * (a tp_btf argument or bpf_get_current_task_btf()), so plain loads work and cost no helper call. */
#ifndef VIGIE_TASK_H
#define VIGIE_TASK_H

#include "abi.h"

struct vg_cred {
	u32 uid, gid, euid, egid, suid, sgid, fsuid, fsgid;
	u32 loginuid;
	u32 pad;
	u64 permitted, effective, inheritable, bounding, ambient;
};

struct vg_ns {
	u32 uts, ipc, mnt, pid, net, cgroup, user, time;
};

/* A cgroup by its kernfs node id. hierarchy is 0 for cgroup v2, else the v1 hierarchy's number. */
struct vg_cgroup_ref {
	u64 id;
	u32 hierarchy;
	u32 pad;
};

/* A process image: (pid, start, exec). */
struct vg_image {
	u64 start;
	u32 pid;
	u32 exec;
};

static __always_inline void vg_fill_image(struct vg_image *i, struct task_struct *t)
{
	i->start = t->group_leader->start_boottime;
	i->pid = t->tgid;
	i->exec = (u32)t->self_exec_id;
}

static __always_inline void vg_fill_header(struct vg_header *h, u16 type, struct task_struct *t)
{
	h->type = type;
	h->flags = 0;
	h->count = 1;
	h->time = bpf_ktime_get_boot_ns();
	h->start = t->group_leader->start_boottime;
	h->pid = t->tgid;
	h->exec = (u32)t->self_exec_id;
	h->tid = t->pid;
	h->pad = 0;
}

static __always_inline void vg_fill_cred_of(struct vg_cred *c, const struct cred *cred, struct task_struct *t)
{
	c->uid = cred->uid.val;
	c->gid = cred->gid.val;
	c->euid = cred->euid.val;
	c->egid = cred->egid.val;
	c->suid = cred->suid.val;
	c->sgid = cred->sgid.val;
	c->fsuid = cred->fsuid.val;
	c->fsgid = cred->fsgid.val;
	c->loginuid = bpf_core_field_exists(t->loginuid) ? t->loginuid.val : ~0u;
	c->pad = 0;
	/* kernel_cap_t changed its member in 6.3, not its size: read it whole. */
	bpf_probe_read_kernel(&c->permitted, 8, &cred->cap_permitted);
	bpf_probe_read_kernel(&c->effective, 8, &cred->cap_effective);
	bpf_probe_read_kernel(&c->inheritable, 8, &cred->cap_inheritable);
	bpf_probe_read_kernel(&c->bounding, 8, &cred->cap_bset);
	bpf_probe_read_kernel(&c->ambient, 8, &cred->cap_ambient);
}

static __always_inline void vg_fill_cred(struct vg_cred *c, struct task_struct *t)
{
	vg_fill_cred_of(c, t->real_cred, t);
}

static __always_inline void vg_fill_ns(struct vg_ns *n, struct task_struct *t)
{
	struct nsproxy *p = t->nsproxy;
	u32 level = BPF_CORE_READ(t, thread_pid, level);
	struct pid_namespace *pidns = 0;

	n->uts = p->uts_ns->ns.inum;
	n->ipc = p->ipc_ns->ns.inum;
	n->mnt = p->mnt_ns->ns.inum;
	n->net = p->net_ns->ns.inum;
	n->cgroup = p->cgroup_ns->ns.inum;
	n->time = bpf_core_field_exists(p->time_ns) ? p->time_ns->ns.inum : 0;
	n->user = t->real_cred->user_ns->ns.inum;
	/* The pid namespace a task is in, not the one its children will be in: numbers[level]. */
	struct upid *numbers = (void *)BPF_CORE_READ(t, thread_pid) + bpf_core_field_offset(struct pid, numbers);
	bpf_core_read(&pidns, sizeof(pidns), &numbers[level & 31].ns);
	n->pid = BPF_CORE_READ(pidns, ns.inum);
}

static __always_inline bool vg_v1_cgroup(struct vg_cgroup_ref *c, struct task_struct *t, u32 subsys)
{
	struct css_set *set = t->cgroups;
	struct cgroup_subsys_state *css = 0;
	struct cgroup *cg;

	bpf_probe_read_kernel(&css, sizeof(css),
			      (void *)set + bpf_core_field_offset(struct css_set, subsys) + subsys * sizeof(void *));
	cg = BPF_CORE_READ(css, cgroup);
	if (!cg || BPF_CORE_READ(cg, level) == 0)
		return false;
	c->id = BPF_CORE_READ(cg, kn, id);
	c->hierarchy = BPF_CORE_READ(cg, root, hierarchy_id);
	return true;
}

/* The cgroup that says which workload a task belongs to: its v2 cgroup, unless that is the root, as on v1
 * and hybrid hosts; then the first v1 controller in which it is below the root. */
static __always_inline void vg_fill_cgroup(struct vg_cgroup_ref *c, struct task_struct *t)
{
	struct cgroup *v2 = t->cgroups->dfl_cgrp;

	c->pad = 0;
	c->hierarchy = 0;
	c->id = v2->kn->id;
	if (v2->level > 0)
		return;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id) &&
	    vg_v1_cgroup(c, t, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id)))
		return;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, cpu_cgrp_id) &&
	    vg_v1_cgroup(c, t, bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)))
		return;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		vg_v1_cgroup(c, t, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
}

#endif
