//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where this host translates conversations to: of pods and containers, whose packets come from their own network namespaces and
 * are translated here, as of its own.
 *
 * Hooks, and why: netfilter POSTROUTING and LOCAL_IN, in the agent's network namespace, for IPv4 and IPv6, behind the
 * translation of both addresses; Linux 6.4 on. An object of its own: where it does not load, what is translated outside of
 * the socket's own network namespace is shown as it was asked for, and its two ends are two flows. Fails open: it only observes.
 */
#include "nat.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_nf_ctx {
	const void *state;
	struct sk_buff *skb;
};

#pragma clang attribute pop

#define NF_ACCEPT 1

/* Of most packets this is all: they are of a conversation that was looked at, or of none. */
SEC("netfilter")
int vg_translate(struct bpf_nf_ctx *ctx)
{
	struct vg_path asked = {};
	struct nf_conn *ct;
	unsigned long nfct;

	if (!bpf_core_field_exists(struct sk_buff, _nfct) || !bpf_core_type_exists(struct nf_conn))
		return NF_ACCEPT;
	nfct = ctx->skb->_nfct;
	ct = (struct nf_conn *)(nfct & ~NFCT_INFO);
	if ((nfct & NFCT_INFO) != IP_CT_NEW || !ct)
		return NF_ACCEPT;
	if (translated(ct, &asked)) {
		keep_path(ct, &asked);
	} else {
		read_tuple(&asked, __builtin_preserve_access_index(&ct->tuplehash[0].tuple), false);
		if (bpf_map_lookup_elem(&vg_paths, &asked)) /* the same two ports lead elsewhere now */
			bpf_map_delete_elem(&vg_paths, &asked);
	}
	return NF_ACCEPT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
