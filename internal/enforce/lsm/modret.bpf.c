//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* hooks.h by fmod_ret: where `bpf` is no active security module, but trampolines load. */
#define VG_RUNG        VG_HOOK_FMOD_RET
#define VG_PROG(name)  vg_ret_##name
#define VG_SEC(hook)   "fmod_ret/security_" hook
#define VG_SEC_EXEC    "fmod_ret/security_bprm_check"
#define VG_MMAP_PROT   1 /* security_mmap_file(file, prot, flags) */
#include "hooks.h"
