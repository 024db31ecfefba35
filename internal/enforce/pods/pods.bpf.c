//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Network policies of whole pods.
 *
 * Hooks, and why:
 *   cgroup_skb egress, ingress   every packet of a pod's sockets, in whichever network namespace: whose it is, is told by its
 *                                cgroup, which is there before the pod's first process. At the root of cgroup v2
 * Works from 5.15 with BTF and cgroup v2; needs no trampoline. What is translated behind the pod is judged by forward.bpf.c.
 *
 * Fails closed for what it cannot read of a pod under policies, and for a pod of which it is not known yet what it is; open
 * where a table is not where it should be, which is counted. A socket of no pod costs a look-up in its storage a packet,
 * and so does an established connection of a pod.
 *
 * Read tables.h first: what tables say. Then packet.h, verdict.h, sockets.h.
 */
#include "packets.h"
#include "sockets.h"

SEC("cgroup_skb/egress")
int vg_np_egress(struct __sk_buff *skb)
{
	int passes = packet(skb, 0);

	if (!passes)
		vg_deny(skb);
	bpf_tail_call(skb, &vg_packets_egress, VG_PACKETS_FIRST);
	return passes ? 1 : 0;
}

SEC("cgroup_skb/ingress")
int vg_np_ingress(struct __sk_buff *skb)
{
	int passes = packet(skb, 1);

	if (!passes)
		vg_deny(skb);
	bpf_tail_call(skb, &vg_packets_ingress, VG_PACKETS_FIRST);
	return passes ? 1 : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
