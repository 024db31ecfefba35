/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A socket begins to listen, by whatever call: in its process's context, whose policies it is under from then on. One that
 * may not, because the kernel chose its port, cannot be refused here. It hears nothing (to_listener), and kill kills.
 */
#ifndef VIGIE_NETWORK_LISTEN_H
#define VIGIE_NETWORK_LISTEN_H

#include "owner.h"
#include "verdict.h"

static __always_inline void own_address(void *addr, struct sock *sk)
{
	if (sk->__sk_common.skc_family == AF_INET) {
		vg_map_ipv4(addr, sk->__sk_common.skc_rcv_saddr);
		return;
	}
	for (int i = 0; i < 4; i++)
		((u32 *)addr)[i] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[i];
}

static __always_inline struct vg_net_sock *own_sock(struct sock *sk, u32 pid, const struct vg_subject *s)
{
	struct vg_net_sock *n = bpf_sk_storage_get(&vg_net_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!n) {
		vg_lose(VG_LOST_SOCKET_STORAGE);
		return 0;
	}
	own(n, pid, s);
	n->sk = (u64)sk;
	if (sk->sk_protocol == IPPROTO_SCTP) /* also one from before the policy */
		n->flags |= VG_NET_PACKETS;
	return n;
}

SEC("tp_btf/inet_sock_set_state")
int vg_net_listens(u64 *ctx)
{
	struct vg_net_query q = {.direction = VG_NET_LISTEN};
	struct sock *sk = (struct sock *)ctx[0];
	struct task_struct *t;
	const struct vg_subject *s;
	struct vg_net_ends none = {};
	int new = ctx[2];

	q.protocol = sk->sk_protocol;
	if (new != TCP_LISTEN || (q.protocol != IPPROTO_TCP && q.protocol != IPPROTO_SCTP)) /* an MPTCP socket listens with a TCP one */
		return 0;
	t = bpf_get_current_task_btf();
	s = vg_subject_of(t->tgid);
	if (!s)
		return 0;
	own_sock(sk, t->tgid, s);
	if (!carries(VG_OP_LISTEN))
		return 0;
	own_address(q.addr, sk);
	q.port = bpf_htons(sk->__sk_common.skc_num); /* 0: the kernel will choose */
	if (vg_judge_net(s, &q) == VG_ACT_ALLOW)
		return 0;
	if (vg_action(q.answer.decision) == VG_ACT_KILL)
		bpf_send_signal(9 /* SIGKILL */);
	tell(&q, &none, 0, SAYS(VG_OP_LISTEN, VG_HOOK_SKB_INGRESS));
	return 0;
}

#endif
