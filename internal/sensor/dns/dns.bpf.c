//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * DNS: the messages of those who ask.
 *
 * Hooks, and why: cgroup_skb egress and ingress at the root of cgroup v2, where every packet of every local
 * socket passes with its socket. Only the asking side is taken: what leaves for a server's port and what
 * comes back from one. So a question to a resolver on this host is seen once, of the process that asked, and
 * what that resolver asks others is its own.
 *
 * Works from 5.15; needs no trampoline and no BTF but for the process. Fails open: it always lets the packet
 * pass, and counts what it can't read. A packet that is not DNS costs the comparison of two ports.
 */
#include "abi.h"
#include "packets.h"
#include "sock.h"

#define VG_DNS_PORTS 4

/* Set before load: servers' ports, in network order; 0 is none. */
const volatile u16 vg_dns_ports[VG_DNS_PORTS] = { bpf_htons(53) };

#define VG_DNS_MAX 1232 /* what EDNS lets a server send in one datagram, by the common advice (DNS flag day 2020) */

#define VG_DNS_ANSWER 0x1 /* came from the server */
#define VG_DNS_TCP    0x2

struct vg_dns {
	struct vg_header h;
	u64 cookie;
	u8 server[16]; /* IPv4 as ::ffff:a.b.c.d */
	u8 client[16];
	u16 server_port; /* network byte order */
	u16 client_port;
	u32 netns;
	u16 len;   /* bytes that follow; the record can be longer */
	u16 total; /* bytes of the packet's payload, 65535 for more */
	u16 what;  /* VG_DNS_* */
	u16 pad;
};

VG_EXPORT(struct, vg_dns);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
};

struct sk_buff {
	struct sock *sk;
};

#pragma clang attribute pop

#define IPPROTO_HOPOPTS  0
#define IPPROTO_TCP      6
#define IPPROTO_UDP      17
#define IPPROTO_ROUTING  43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_DSTOPTS  60

#define VG_ETH_P_IP   0x0800
#define VG_ETH_P_IPV6 0x86dd

static __always_inline bool is_dns_port(u16 port)
{
	for (int i = 0; i < VG_DNS_PORTS; i++)
		if (port == vg_dns_ports[i] && port)
			return true;
	return false;
}

/* Whether the far end's port, or the one that the socket was connected to, is a server's. They differ where the
 * address is translated on the way, as that of Docker's resolver is. */
static __always_inline bool to_server(struct __sk_buff *skb, u16 port)
{
	struct bpf_sock *sk = skb->sk;

	return is_dns_port(port) || (sk && is_dns_port(sk->dst_port));
}

static __always_inline bool is_extension(u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT || next == IPPROTO_DSTOPTS;
}

/* Who asks: the socket's owner, or else, of a packet that leaves, the process that is sending it. UDP is sent in
 * its sender's context; so is TCP, but for what waited for the peer's window. */
static __always_inline void fill_process(struct vg_dns *d, struct bpf_sock *sk, bool in)
{
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	struct task_struct *t;

	if (s && s->owner.pid) {
		d->h.start = s->owner.start;
		d->h.pid = s->owner.pid;
		d->h.exec = s->owner.exec;
		d->h.tid = s->tid;
		return;
	}
	t = bpf_get_current_task_btf();
	if (in || t->flags & PF_KTHREAD || t->pid == 0) {
		d->h.flags = VG_F_NO_PROCESS;
		return;
	}
	d->h.start = t->group_leader->start_boottime;
	d->h.pid = t->tgid;
	d->h.exec = (u32)t->self_exec_id;
	d->h.tid = t->pid;
}

/* In the ring itself: a softirq can interrupt a sender here, so that there is no scratch space to share. The
 * sizes are constants because a reservation's must be. */
static __always_inline bool emit(struct __sk_buff *skb, const struct vg_dns *d, u32 off, u32 len, const u32 size)
{
	struct vg_dns *r;
	u32 last = len - 1;

	if (len > size)
		return false;
	r = bpf_ringbuf_reserve(&vg_telemetry, sizeof(*r) + size, 0);
	if (!r) {
		vg_lose(VG_LOST_TELEMETRY_RING_FULL);
		return true;
	}
	__builtin_memcpy(r, d, sizeof(*r));
	/* Before 6.8 the verifier does not learn from "not 0" that a length is at least 1, but adds bounds up. */
	asm volatile("" : "+r"(last));
	if (last >= size || bpf_skb_load_bytes(skb, off, r + 1, last + 1)) {
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
		vg_lose(VG_LOST_DNS_UNREADABLE);
		return true;
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return true;
}

/* The context is the kernel's own packet. Its socket is read as memory: a struct bpf_sock does not show it. */
static __always_inline u32 netns_of(struct __sk_buff *skb)
{
	struct sock *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)skb + bpf_core_field_offset(struct sk_buff, sk));
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* A packet between a client and a server's port: off is where TCP or UDP begins. */
static __noinline int message(struct __sk_buff *skb, u32 off, bool tcp, bool in)
{
	struct bpf_sock *sk = skb->sk;
	struct vg_dns d = {};
	u32 len, total, skip = 0;
	u16 ports[2];
	u8 b = 0;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || off > 256 || bpf_skb_load_bytes(skb, off, ports, sizeof(ports)))
		return 1;
	if (tcp) {
		if (bpf_skb_load_bytes(skb, off + 12, &b, 1))
			return 1;
		off += (b >> 4) * 4;
		skip = 2; /* the message's length goes before it */
	} else {
		off += 8;
	}
	total = skb->len;
	if (total <= off)
		return 1; /* an acknowledgement, or empty */
	total -= off;
	/* The bit that tells an answer from a question: a server that asks from its own port is no client here.
	 * A piece of a TCP stream has it anywhere; the agent finds out. */
	if (!tcp && (bpf_skb_load_bytes(skb, off + 2, &b, 1) || (b >> 7) != in))
		return 1;

	d.h.type = VG_DNS;
	d.h.count = 1;
	d.h.time = bpf_ktime_get_boot_ns();
	d.cookie = bpf_get_socket_cookie(skb);
	d.what = (in ? VG_DNS_ANSWER : 0) | (tcp ? VG_DNS_TCP : 0);
	d.server_port = ports[in ? 0 : 1];
	d.client_port = ports[in ? 1 : 0];
	if (skb->protocol == bpf_htons(VG_ETH_P_IP)) {
		d.server[10] = d.server[11] = d.client[10] = d.client[11] = 0xff;
		bpf_skb_load_bytes(skb, in ? 12 : 16, d.server + 12, 4);
		bpf_skb_load_bytes(skb, in ? 16 : 12, d.client + 12, 4);
	} else {
		bpf_skb_load_bytes(skb, in ? 8 : 24, d.server, 16);
		bpf_skb_load_bytes(skb, in ? 24 : 8, d.client, 16);
	}
	d.netns = netns_of(skb);
	fill_process(&d, sk, in);

	if (vg_expired(d.h.time)) {
		vg_lose(VG_LOST_NO_AGENT);
		return 1;
	}
	len = total;
	if (len > VG_DNS_MAX + skip) {
		len = VG_DNS_MAX + skip;
		d.h.flags |= VG_F_CUT;
	}
	d.len = len;
	d.total = total > 65535 ? 65535 : total;
	/* Questions fit the first, most answers the second. */
	if (emit(skb, &d, off, len, 128) || emit(skb, &d, off, len, 512))
		return 1;
	emit(skb, &d, off, len, VG_DNS_MAX + 2);
	return 1;
}

/* p is the first 24 bytes: the header and, when it has no options, the ports. */
static __always_inline int packet4(struct __sk_buff *skb, const u8 *p, bool in)
{
	u32 off = (p[0] & 15) * 4;
	u8 next = p[9];
	u16 port = 0;

	if (next != IPPROTO_UDP && next != IPPROTO_TCP)
		return 1;
	if (off == 20)
		port = *(u16 *)(p + (in ? 20 : 22));
	else
		bpf_skb_load_bytes(skb, off + (in ? 0 : 2), &port, sizeof(port));
	return to_server(skb, port) ? message(skb, off, next == IPPROTO_TCP, in) : 1;
}

/* p is the first 44 bytes. One extension header is skipped. */
static __always_inline int packet6(struct __sk_buff *skb, const u8 *p, bool in)
{
	u32 off = 40;
	u8 next = p[6], extension[2] = {};
	u16 port = 0;

	if (next == IPPROTO_UDP || next == IPPROTO_TCP) {
		port = *(u16 *)(p + (in ? 40 : 42));
	} else if (is_extension(next)) {
		bpf_skb_load_bytes(skb, off, extension, sizeof(extension));
		off += next == IPPROTO_FRAGMENT ? 8 : (extension[1] + 1) * 8;
		next = extension[0];
		if (is_extension(next))
			vg_lose(VG_LOST_DNS_UNREADABLE); /* may have held DNS */
		if ((next != IPPROTO_UDP && next != IPPROTO_TCP) || off > 256)
			return 1;
		bpf_skb_load_bytes(skb, off + (in ? 0 : 2), &port, sizeof(port));
	} else {
		return 1;
	}
	return to_server(skb, port) ? message(skb, off, next == IPPROTO_TCP, in) : 1;
}

/* The port that matters is the server's: where the packet goes, or where it came from. */
static __always_inline int packet(struct __sk_buff *skb, bool in)
{
	u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
	u8 copy[44];

	if (skb->protocol == bpf_htons(VG_ETH_P_IP)) {
		if (data + 24 <= end)
			return packet4(skb, data, in);
		return bpf_skb_load_bytes(skb, 0, copy, 24) ? 1 : packet4(skb, copy, in);
	}
	if (skb->protocol == bpf_htons(VG_ETH_P_IPV6)) {
		if (data + 44 <= end)
			return packet6(skb, data, in);
		return bpf_skb_load_bytes(skb, 0, copy, 44) ? 1 : packet6(skb, copy, in);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int vg_dns_egress(struct __sk_buff *skb)
{
	packet(skb, false);
	return vg_decided(skb);
}

SEC("cgroup_skb/ingress")
int vg_dns_ingress(struct __sk_buff *skb)
{
	packet(skb, true);
	return vg_decided(skb);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
