//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Ends the sockets that were cut, of the network namespace of who reads the iterator.
 *
 * Hooks, and why: iter/tcp and iter/udp, from which alone bpf_sock_destroy can be called (6.5 on). An object of its own: where
 * it does not load, the agent asks sock_diag. Fails open, but nothing passes through a cut socket anyway.
 */
#include "owner.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct udp_sock {
	struct sock inet;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};

#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sock) __ksym;

SEC("iter/tcp")
int vg_net_destroy_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct vg_net_sock *n;

	if (!sk)
		return 0;
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
	if (n && n->flags & VG_NET_CUT)
		bpf_sock_destroy(sk);
	return 0;
}

SEC("iter/udp")
int vg_net_destroy_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	struct vg_net_sock *n;

	if (!sk)
		return 0;
	n = bpf_sk_storage_get(&vg_net_socks, sk, 0, 0);
	if (n && n->flags & VG_NET_CUT)
		bpf_sock_destroy((struct sock_common *)sk);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
