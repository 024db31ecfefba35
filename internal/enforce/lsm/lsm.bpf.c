//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* hooks.h as a security module: where the kernel has `bpf` among the active ones. */
#define VG_RUNG        VG_HOOK_LSM
#define VG_PROG(name)  vg_lsm_##name
#define VG_SEC(hook)   "lsm/" hook
#define VG_SEC_EXEC    "lsm/bprm_check_security"
#define VG_MMAP_PROT   2 /* mmap_file(file, reqprot, prot, flags) */
#include "hooks.h"
