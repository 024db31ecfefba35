//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Network policies of whole pods, behind the translation of services.
 *
 * Hooks, and why: netfilter POSTROUTING before the source is translated, and LOCAL_IN for what stays on the node, in the
 * agent's network namespace, for IPv4 and IPv6; Linux 6.4 on. An object of its own: where it does not load, a service is
 * judged by all that stands behind it (pods.bpf.c). Fails closed for what it cannot read of a pod under policies.
 */
#include "forward.h"

SEC("netfilter")
int vg_np_forward(struct bpf_nf_ctx *ctx)
{
	return forwarded(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
