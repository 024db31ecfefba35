/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Verifiers before 6.7 look at the body of bpf_loop once, with what its variables are before the first step, and take out
 * what cannot be reached then. So a variable that steps change must not begin as a constant: it begins as one of these.
 */
#ifndef VIGIE_NETWORK_LOOP_H
#define VIGIE_NETWORK_LOOP_H

#include "abi.h"

volatile u32 vg_loop_zero; /* 0, which the verifier does not know */

#endif
