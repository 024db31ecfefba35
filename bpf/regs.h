/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The arguments of a system call as they stand at its exit, and whether it was a 32-bit one. */
#ifndef VIGIE_REGS_H
#define VIGIE_REGS_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)

struct pt_regs {
	unsigned long r10, r9, r8, dx, si, di, orig_ax;
};

struct thread_info {
	u32 status;
};

struct task_struct___ti {
	struct thread_info thread_info;
};

#define vg_sys_nr(r)  ((r)->orig_ax)
#define vg_sys_arg0(r) ((r)->di)
#define vg_sys_arg1(r) ((r)->si)
#define vg_sys_arg2(r) ((r)->dx)
#define vg_sys_arg3(r) ((r)->r10)
#define vg_sys_arg4(r) ((r)->r8)
#define vg_sys_arg5(r) ((r)->r9)
#define vg_sys_compat(t) (((struct task_struct___ti *)(t))->thread_info.status & 0x2 /* TS_COMPAT */)

#elif defined(__TARGET_ARCH_arm64)

struct user_pt_regs {
	u64 regs[31];
};

struct pt_regs {
	struct user_pt_regs user_regs;
	u64 orig_x0; /* regs[0] holds the return value by now */
	s32 syscallno;
};

struct thread_info {
	unsigned long flags;
};

struct task_struct___ti {
	struct thread_info thread_info;
};

#define vg_sys_nr(r)  ((u64)(r)->syscallno)
#define vg_sys_arg0(r) ((r)->orig_x0)
#define vg_sys_arg1(r) ((r)->user_regs.regs[1])
#define vg_sys_arg2(r) ((r)->user_regs.regs[2])
#define vg_sys_arg3(r) ((r)->user_regs.regs[3])
#define vg_sys_arg4(r) ((r)->user_regs.regs[4])
#define vg_sys_arg5(r) ((r)->user_regs.regs[5])
#define vg_sys_compat(t) (((struct task_struct___ti *)(t))->thread_info.flags & (1 << 22) /* TIF_32BIT */)

#else
#error "vigie knows the registers of x86 and arm64 only"
#endif

#pragma clang attribute pop

#endif
