/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which files have code that a listened process runs: each is told once, and the agent looks whether a TLS library is in it. */
#ifndef VIGIE_L7_FILES_H
#define VIGIE_L7_FILES_H

#include "conn.h"

#define PROT_EXEC 0x4

struct l7_file {
	u64 inode;
	u32 device;
	u32 pad;
};

/* Files that were told. The longest unused give way, and are told again. The agent removes what it could not look at. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct l7_file);
	__type(value, u8);
} vg_l7_files SEC(".maps");

VG_EXPORT(struct, l7_file);

static __always_inline void l7_code(struct task_struct *t, struct file *file)
{
	struct l7_said said = { .flags = VG_L7_F_FILE };
	struct vg_l7_conn none = {};
	struct l7_file f = {};
	u8 one = 1;

	f.inode = BPF_CORE_READ(file, f_inode, i_ino);
	f.device = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	if (!f.inode || bpf_map_lookup_elem(&vg_l7_files, &f))
		return;
	bpf_map_update_elem(&vg_l7_files, &f, &one, BPF_ANY);
	said.conn = f.inode;
	none.netns = f.device;
	l7_emit_bare(&none, &said, t);
}

/* mmap: (addr, length, prot, flags, fd, offset) */
SEC("tp_btf/sys_exit")
int vg_l7_mmap(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct file **files, *file = 0;
	u32 fd = vg_sys_arg4(r);
	struct fdtable *fdt;

	if ((s64)ctx[1] < 0 || !(vg_sys_arg2(r) & PROT_EXEC) || fd > 0x7fffffff || !listened(t))
		return 0;
	fdt = t->files->fdt;
	if (!fdt || fd >= fdt->max_fds)
		return 0;
	files = fdt->fd;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (file)
		l7_code(t, file);
	return 0;
}

/* The program itself, which exec maps. */
SEC("tp_btf/sched_process_exec")
int vg_l7_exec(u64 *ctx)
{
	struct task_struct *t = (struct task_struct *)ctx[0];

	if (t->mm && listened(t))
		l7_code(t, t->mm->exe_file);
	return 0;
}

#endif
