/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What only the return of a system call knows: connects that failed before anything was sent, connected and
 * bound UDP, listeners, accepted connections, and all of unix sockets. */
#ifndef VIGIE_SOCKET_CALLS_H
#define VIGIE_SOCKET_CALLS_H

#include "nat.h"
#include "record.h"
#include "regs.h"
#include "tcp.h"
#include "unix.h"

/* Results of connect(2) that are no result: it goes on, or it was over before. */
static __always_inline bool undecided(s64 ret)
{
	return ret == -EINPROGRESS || ret == -EALREADY || ret == -EISCONN || ret == -EINTR || ret == -ECONNABORTED ||
	       (ret <= -ERESTARTSYS && ret >= -ERESTART_MAX) || ret == -EBADF || ret == -ENOTSOCK || ret == -EFAULT;
}

struct sockaddr_inet {
	u16 family;
	u16 port;
	u32 addr4; /* IPv6: flow label */
	u32 addr6[4];
};

/* Puts the address that connect(2) was given in place of the socket's; false when it is none of the internet's. */
static __always_inline bool remote_from_user(struct vg_conn *c, const void *addr)
{
	struct sockaddr_inet a = {};

	if (bpf_probe_read_user(&a, 16, addr))
		return false;
	if (a.family == AF_INET6 && bpf_probe_read_user(&a, sizeof(a), addr))
		return false;
	if (a.family != AF_INET && a.family != AF_INET6)
		return false;
	c->remote_port = a.port;
	if (a.family == AF_INET)
		vg_map_ipv4(c->remote, a.addr4);
	else
		__builtin_memcpy(c->remote, a.addr6, 16);
	return true;
}

/* An address that connect(2) was given, by the socket's cookie. */
struct vg_asked_addr {
	u8 addr[16];
	u16 port; /* network byte order */
	u16 pad[3];
};

VG_EXPORT(struct, vg_asked_addr);

/* Read and evicted as vg_paths is (nat.h). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct vg_asked_addr);
} vg_asked SEC(".maps");

/* Notes the address that connect was given, where a program of somebody else has put another one into the socket. An address
 * that is none (0.0.0.0 is this host) is no service. */
static __always_inline void note_asked(struct sock *flow, u64 cookie, const void *addr)
{
	struct vg_asked_addr n = {};
	struct vg_conn c;
	u8 has[16];
	u16 port;
	const u64 *a = (const void *)c.remote, *b = (const void *)has;

	if (!vg_flows || !cookie)
		return;
	port = BPF_CORE_READ(flow, __sk_common.skc_dport);
	if (!port || !remote_from_user(&c, addr))
		return;
	fill_remote(has, flow);
	if (a[0] == b[0] && a[1] == b[1] && c.remote_port == port)
		return;
	if (!a[0] && (!a[1] || a[1] == (u64)bpf_htonl(0xffff)))
		return;
	__builtin_memcpy(n.addr, c.remote, 16);
	n.port = c.remote_port;
	if (!bpf_map_update_elem(&vg_asked, &cookie, &n, BPF_ANY))
		__sync_fetch_and_add(&vg_nats_seen, 1);
}

static __always_inline int inet_connected(struct task_struct *t, struct sock *sk, s64 ret, const void *addr)
{
	u16 protocol = BPF_CORE_READ(sk, sk_protocol);
	struct sock *flow = subflow(sk);
	u64 cookie = raw_cookie(flow);
	struct vg_conn c;
	u32 *reported;

	if (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP) {
		if (ret == 0) {
			note_asked(flow, cookie, addr);
			return 0; /* the state change has reported it, or will */
		}
		reported = bpf_map_lookup_elem(&vg_failed, &cookie);
		if (cookie && reported && *reported == -ret) {
			bpf_map_delete_elem(&vg_failed, &cookie);
			return 0;
		}
	} else if (protocol != IPPROTO_UDP) {
		return 0;
	}
	vg_fill_header(&c.h, VG_CONNECT, t);
	fill_ends(&c, flow);
	fill_conn(&c, flow, protocol == IPPROTO_UDP ? VG_PROTO_UDP : VG_PROTO_TCP, VG_DIR_OUTBOUND, cookie);
	if (!remote_from_user(&c, addr))
		return 0; /* AF_UNSPEC: takes a connection back */
	c.error = -ret;
	if (ret == 0)
		note_asked(flow, cookie, addr);
	vg_emit_telemetry(&c, sizeof(c));
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_exit_connect(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	s64 ret = ctx[1];
	struct sock *sk;
	u16 family;

	if (undecided(ret) && ret != -EINPROGRESS)
		return 0;
	sk = vg_sock_of_fd(t, vg_sys_arg0(r));
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_INET || family == AF_INET6) {
		if (ret != -EINPROGRESS)
			return inet_connected(t, sk, ret, (const void *)vg_sys_arg1(r));
		note_asked(subflow(sk), raw_cookie(subflow(sk)), (const void *)vg_sys_arg1(r));
	}
	if (family == AF_UNIX && ret != -EINPROGRESS)
		return unix_connected(t, sk, ret, (const void *)vg_sys_arg1(r), vg_sys_arg2(r));
	return 0;
}

static __always_inline int listening(struct task_struct *t, struct sock *sk, u8 protocol)
{
	struct sock *flow = subflow(sk);
	struct vg_conn c;

	vg_fill_header(&c.h, VG_LISTEN, t);
	fill_ends(&c, flow);
	fill_conn(&c, flow, protocol, VG_DIR_LISTENER, raw_cookie(sk));
	if (protocol == VG_PROTO_TCP)
		c.backlog = BPF_CORE_READ(flow, sk_max_ack_backlog);
	vg_emit_telemetry(&c, sizeof(c));
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_exit_listen(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct sock *sk;
	u16 family, protocol;

	if (ctx[1])
		return 0;
	sk = vg_sock_of_fd(t, vg_sys_arg0(r));
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return unix_event(t, sk, sk, VG_LISTEN, 0, BPF_CORE_READ(sk, sk_max_ack_backlog));
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if ((family == AF_INET || family == AF_INET6) && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP))
		return listening(t, sk, VG_PROTO_TCP);
	return 0;
}

/* A UDP socket that asked for a port. */
SEC("tp_btf/sys_exit")
int vg_exit_bind(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct sock *sk;
	u16 family;

	if (ctx[1])
		return 0;
	sk = vg_sock_of_fd(t, vg_sys_arg0(r));
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family == AF_INET || family == AF_INET6) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_UDP &&
	    BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
		return listening(t, sk, VG_PROTO_UDP);
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_exit_accept(u64 *ctx)
{
	struct task_struct *t = bpf_get_current_task_btf();
	s64 ret = ctx[1];
	struct sock *sk;
	u16 family, protocol;

	if (ret < 0)
		return 0;
	sk = vg_sock_of_fd(t, ret);
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return unix_event(t, sk, sk, VG_ACCEPT, 0, peer_pid(sk));
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if ((family == AF_INET || family == AF_INET6) && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP))
		tcp_accepted(t, sk);
	return 0;
}

#endif
