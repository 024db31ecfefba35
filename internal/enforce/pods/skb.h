/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet at a socket, and whose it is. */
#ifndef VIGIE_PODS_SKB_H
#define VIGIE_PODS_SKB_H

#include "packet.h"
#include "transport.h"

/* A packet at a socket, whose context is it; false when it cannot be read. Noinline, for the sake of the stack. */
static __noinline int read_packet(struct __sk_buff *skb, struct vg_np_packet *p)
{
	u32 addr[2], ports;

	if (!p)
		return 0;
	if (skb->protocol == bpf_htons(VG_ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 12, addr, sizeof(addr)) || bpf_skb_load_bytes(skb, 9, &p->protocol, 1))
			return 0;
		vg_map_ipv4(p->from, addr[0]);
		vg_map_ipv4(p->to, addr[1]);
	} else if (bpf_skb_load_bytes(skb, 8, p->from, 32) || bpf_skb_load_bytes(skb, 6, &p->protocol, 1)) { /* both */
		return 0;
	}
	p->transport = transport_of(skb);
	if (p->transport > 0xffff || bpf_skb_load_bytes(skb, p->transport, &ports, sizeof(ports)))
		return 0;
	p->source = ports;
	p->dest = ports >> 16;
	return 1;
}

/* A socket in the node's own network is none of a pod that policies select, whatever else is known of the pod: so an agent that is
 * new finds the API server, also while the programs of the one before hold it for unknown. */
static __always_inline bool in_host_network(struct __sk_buff *skb)
{
	struct sock *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)skb + bpf_core_field_offset(struct sk_buff, sk));
	return sk && BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == vg_np_host_netns();
}

#define VG_NP_LEVELS 16 /* of cgroups; what lies deeper is not looked for */

/* The pods that lie above sockets' own cgroups, which never changes. Full: the least recently used is forgotten, and looked for again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u64);
} vg_np_within SEC(".maps");

/* The pod that a packet's socket is of. NULL: it is of none. *cgroup is its number. Below a parent that is no pod that is
 * known, it is one that is not known yet: held. */
static __always_inline struct vg_np_pod *pod_of(struct __sk_buff *skb, u64 *cgroup, bool *held)
{
	u64 own = bpf_skb_cgroup_id(skb), *within = bpf_map_lookup_elem(&vg_np_within, &own);
	bool below = false;

	*held = false;
	if (within) {
		struct vg_np_pod *p;

		*cgroup = *within;
		p = bpf_map_lookup_elem(&vg_np_pods, cgroup);
		if (p && p->kind != VG_NP_PARENT) {
			*held = p->kind == VG_NP_HELD && !in_host_network(skb);
			return p;
		}
	}
	for (u32 level = 1; level < VG_NP_LEVELS; level++) {
		u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
		struct vg_np_pod *p;

		if (!id)
			break;
		p = bpf_map_lookup_elem(&vg_np_pods, &id);
		if (p && p->kind != VG_NP_PARENT) {
			*cgroup = id;
			bpf_map_update_elem(&vg_np_within, &own, &id, BPF_ANY);
			*held = p->kind == VG_NP_HELD && !in_host_network(skb);
			return p;
		}
		*held = below && !p;
		if (*held) {
			*held = !in_host_network(skb);
			break;
		}
		below = p;
	}
	return 0;
}

#endif
