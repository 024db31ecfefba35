/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Arguments into slots, one function a kind. All take the value that the hook has and never fail: what cannot be read
 * leaves an empty slot that says so. */
#ifndef VIGIE_TRACING_READ_H
#define VIGIE_TRACING_READ_H

#include "walk.h"

/* Where the next bytes go, or 0 when the tail is full. What is there has room for VG_DATA_MAX bytes. */
static __always_inline char *vg_room(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u8 kind)
{
	u32 off = *(volatile u32 *)&s->r.tail;

	slot->kind = kind;
	slot->off = 0;
	slot->len = 0;
	barrier_var(off);
	if (off > VG_TAIL_MAX) {
		slot->flags |= VG_SLOT_CUT;
		return 0;
	}
	slot->off = off;
	return s->tail + off;
}

static __always_inline void vg_used(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u32 len)
{
	slot->len = len;
	s->r.tail = slot->off + ((len + 7) & ~7u);
}

/* From wherever the address is: the kernel's are the upper half, on x86 and arm64 alike. */
static __always_inline long vg_read_any(void *dst, u32 len, u64 ptr)
{
	if ((s64)ptr < 0)
		return bpf_probe_read_kernel(dst, len, (void *)ptr);
	return bpf_probe_read_user(dst, len, (void *)ptr);
}

VG_LIB u64 vg_arg_text(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	char *dst = vg_room(s, slot, VG_SLOT_TEXT);
	long n;

	if (!dst)
		return 0;
	if ((s64)ptr < 0)
		n = bpf_probe_read_kernel_str(dst, VG_TEXT_MAX, (void *)ptr);
	else
		n = bpf_probe_read_user_str(dst, VG_TEXT_MAX, (void *)ptr);
	if (n <= 0) {
		slot->flags |= VG_SLOT_UNREAD;
		return 0;
	}
	if (n == VG_TEXT_MAX)
		slot->flags |= VG_SLOT_CUT;
	vg_used(s, slot, n - 1);
	return 0;
}

/* len bytes at ptr, max of them at most, which is VG_DATA_MAX or less. */
VG_LIB u64 vg_arg_bytes(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr, u64 len, u64 max)
{
	char *dst = vg_room(s, slot, VG_SLOT_BYTES);

	if (!dst || (s64)len <= 0)
		return 0;
	if (len > max) {
		slot->flags |= VG_SLOT_CUT;
		len = max;
	}
	barrier_var(len);
	if (len > VG_DATA_MAX)
		return 0;
	if (vg_read_any(dst, len, ptr)) {
		slot->flags |= VG_SLOT_UNREAD;
		return 0;
	}
	vg_used(s, slot, len);
	return 0;
}

struct vg_iovec {
	u64 base;
	u64 len;
};

#define VG_IOVECS 8

/* The buffers of an iovec one after another, up to VG_TEXT_MAX bytes of the first VG_IOVECS. */
VG_LIB u64 vg_arg_iovec(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr, u64 count)
{
	char *dst = vg_room(s, slot, VG_SLOT_BYTES);
	u32 got = 0;

	if (!dst)
		return 0;
	for (u32 i = 0; i < VG_IOVECS && i < count; i++) {
		struct vg_iovec v;
		u64 len;

		if (vg_read_any(&v, sizeof(v), ptr + i * sizeof(v))) {
			slot->flags |= VG_SLOT_UNREAD;
			break;
		}
		len = v.len;
		if (len > VG_TEXT_MAX)
			len = VG_TEXT_MAX;
		barrier_var(got);
		if (got >= VG_TEXT_MAX)
			break;
		barrier_var(len);
		if (len > VG_TEXT_MAX)
			break;
		if (vg_read_any(dst + got, len, v.base)) {
			slot->flags |= VG_SLOT_UNREAD;
			break;
		}
		got += len;
	}
	if (count > VG_IOVECS || got > VG_TEXT_MAX)
		slot->flags |= VG_SLOT_CUT;
	vg_used(s, slot, got > VG_TEXT_MAX ? VG_TEXT_MAX : got);
	return 0;
}

/* The text in s->path into a slot. */
static __always_inline void vg_keep_path(struct vg_probe_scratch *s, struct vg_probe_slot *slot)
{
	char *dst = vg_room(s, slot, VG_SLOT_TEXT);
	u32 pos = *(volatile u32 *)&s->path_pos, len;

	if (!dst)
		return;
	if (s->path_cut)
		slot->flags |= VG_SLOT_CUT;
	barrier_var(pos);
	if (pos > VG_TEXT_MAX)
		return;
	len = VG_TEXT_MAX - pos;
	barrier_var(len);
	if (len > VG_TEXT_MAX)
		return;
	bpf_probe_read_kernel(dst, len, s->path + pos);
	vg_used(s, slot, len);
}

static __always_inline void vg_keep_inode(struct vg_probe_slot *slot, struct dentry *d)
{
	slot->mode = BPF_CORE_READ(d, d_inode, i_mode);
}

/* struct path * */
VG_LIB u64 vg_arg_path(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct path *p = (struct path *)ptr;
	struct dentry *d = BPF_CORE_READ(p, dentry);

	vg_climb_path(s, BPF_CORE_READ(p, mnt), d);
	vg_keep_path(s, slot);
	vg_keep_inode(slot, d);
	return 0;
}

/* struct file * */
VG_LIB u64 vg_arg_file(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct file *f = (struct file *)ptr;
	struct dentry *d = BPF_CORE_READ(f, f_path.dentry);

	vg_climb_path(s, BPF_CORE_READ(f, f_path.mnt), d);
	vg_keep_path(s, slot);
	vg_keep_inode(slot, d);
	slot->file_flags = BPF_CORE_READ(f, f_flags);
	return 0;
}

/* A descriptor of the current process. One that is not open is a number alone. */
VG_LIB u64 vg_arg_fd(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 fd)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct fdtable *fdt = BPF_CORE_READ(t, files, fdt);
	struct file **fds = BPF_CORE_READ(fdt, fd), *f = 0;

	slot->value = (s64)(s32)fd;
	slot->kind = VG_SLOT_NUMBER;
	if ((u32)fd >= BPF_CORE_READ(fdt, max_fds))
		return 0;
	bpf_probe_read_kernel(&f, sizeof(f), fds + (u32)fd);
	return f ? vg_arg_file(s, slot, (u64)f) : 0;
}

/* struct dentry *: below the root of its own file system. */
VG_LIB u64 vg_arg_dentry(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	vg_climb_path(s, 0, (struct dentry *)ptr);
	vg_keep_path(s, slot);
	vg_keep_inode(slot, (struct dentry *)ptr);
	return 0;
}

VG_LIB u64 vg_arg_kiocb(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_file(s, slot, (u64)BPF_CORE_READ((struct kiocb *)ptr, ki_filp));
}

VG_LIB u64 vg_arg_binprm(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_file(s, slot, (u64)BPF_CORE_READ((struct linux_binprm *)ptr, file));
}

VG_LIB u64 vg_arg_filename(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_text(s, slot, (u64)BPF_CORE_READ((struct filename *)ptr, name));
}

VG_LIB u64 vg_arg_module(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_text(s, slot, ptr + bpf_core_field_offset(struct module, name));
}

VG_LIB u64 vg_arg_load_info(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_text(s, slot, (u64)BPF_CORE_READ((struct load_info *)ptr, name));
}

VG_LIB u64 vg_arg_bpf_map(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_text(s, slot, ptr + bpf_core_field_offset(struct bpf_map, name));
}

VG_LIB u64 vg_arg_bpf_prog(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct bpf_prog_aux *aux = BPF_CORE_READ((struct bpf_prog *)ptr, aux);

	return vg_arg_text(s, slot, (u64)aux + bpf_core_field_offset(struct bpf_prog_aux, name));
}

VG_LIB u64 vg_arg_net_device(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	return vg_arg_text(s, slot, ptr + bpf_core_field_offset(struct net_device, name));
}

VG_LIB u64 vg_arg_perf_event(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	slot->value = BPF_CORE_READ((struct perf_event *)ptr, attr.type);
	slot->kind = VG_SLOT_NUMBER;
	return 0;
}

VG_LIB u64 vg_arg_user_ns(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	slot->value = BPF_CORE_READ((struct user_namespace *)ptr, ns.inum);
	slot->kind = VG_SLOT_NUMBER;
	return 0;
}

/* union bpf_attr of bpf(2), a program load: the program's name; value is its type. */
VG_LIB u64 vg_arg_bpf_attr(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	u32 type = 0;

	vg_read_any(&type, sizeof(type), ptr);
	vg_arg_text(s, slot, ptr + __builtin_offsetof(union bpf_attr, prog_name));
	if (slot->len > 16)
		slot->len = 16;
	slot->value = type;
	return 0;
}


/* struct cred * */
VG_LIB u64 vg_arg_cred(struct vg_probe_scratch *s, struct vg_probe_slot *slot, u64 ptr)
{
	struct vg_cred *c = (void *)vg_room(s, slot, VG_SLOT_CRED);
	const struct cred *from = (const struct cred *)ptr;

	if (!c)
		return 0;
	c->uid = BPF_CORE_READ(from, uid.val);
	c->gid = BPF_CORE_READ(from, gid.val);
	c->euid = BPF_CORE_READ(from, euid.val);
	c->egid = BPF_CORE_READ(from, egid.val);
	c->suid = BPF_CORE_READ(from, suid.val);
	c->sgid = BPF_CORE_READ(from, sgid.val);
	c->fsuid = BPF_CORE_READ(from, fsuid.val);
	c->fsgid = BPF_CORE_READ(from, fsgid.val);
	c->loginuid = ~0u;
	c->pad = 0;
	bpf_probe_read_kernel(&c->permitted, 8, &from->cap_permitted);
	bpf_probe_read_kernel(&c->effective, 8, &from->cap_effective);
	bpf_probe_read_kernel(&c->inheritable, 8, &from->cap_inheritable);
	bpf_probe_read_kernel(&c->bounding, 8, &from->cap_bset);
	bpf_probe_read_kernel(&c->ambient, 8, &from->cap_ambient);
	vg_used(s, slot, sizeof(*c));
	return 0;
}

/* One of the capability sets of a struct cred: 0 effective, 1 inheritable, 2 permitted. */
VG_LIB u64 vg_cap_set(u64 ptr, u64 which)
{
	const struct cred *c = (const struct cred *)ptr;
	u64 caps = 0;

	if (which == 0)
		bpf_probe_read_kernel(&caps, 8, &c->cap_effective);
	else if (which == 1)
		bpf_probe_read_kernel(&caps, 8, &c->cap_inheritable);
	else
		bpf_probe_read_kernel(&caps, 8, &c->cap_permitted);
	return caps;
}

#endif
