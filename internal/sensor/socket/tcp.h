/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * TCP by its state changes. There is no program for each packet: the kernel's own counters are read when the
 * socket reaches CLOSE, which every socket does once for each time it left it (also when TIME_WAIT goes on without it).
 *
 * MPTCP: the socket that the process holds (protocol 262) has subflows, which are TCP sockets. A connection is its
 * first subflow: state, addresses, counters and cookie are those. (The MPTCP socket's own cookie does not do:
 * an accepted one has its listener's.) Subflows that join later are not connections of their own.
 */
#ifndef VIGIE_SOCKET_TCP_H
#define VIGIE_SOCKET_TCP_H

#include "record.h"
#include "regs.h"

/* Set before load: the number of connect(2) here. */
const volatile u32 vg_nr_connect = 42;

/* A connection that a process has accepted: who did, which is not always who listens. */
struct vg_accepted {
	struct vg_image owner;
	u32 tid;
	u32 direction; /* outbound only for what the inventory found */
	u64 since;     /* CLOCK_BOOTTIME, ns */
};

/*
 * By cookie, from accept to close. Room for a quarter of a million open accepted connections; memory is
 * taken as used, about 100 bytes each. When it is full VG_LOST_ACCEPT_TABLE_FULL is counted, and the close of that connection
 * names the process that listened.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 18);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct vg_accepted);
} vg_accepted SEC(".maps");

/*
 * By cookie: connections that were reset between being accepted and accept(2) returning. An entry lives for
 * microseconds; what is evicted belonged to an accept(2) that failed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u32);
} vg_reset_early SEC(".maps");

/* How many entries it was given: accept does not look while there were none. */
volatile u64 vg_resets_early;

/* Adds to that and returns what it was. What was written before is seen by whoever sees the sum: the result has to be asked for. */
static __always_inline u64 resets_early(u64 more)
{
	u64 were = __sync_fetch_and_add(&vg_resets_early, more);

	barrier_var(were);
	return were;
}

/*
 * By cookie: the errno of a failed connect that was reported at the state change, so that the return from
 * connect(2) does not report it again. Read once, within microseconds, unless the socket does not block; evicted
 * without harm then.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u32);
} vg_failed SEC(".maps");

/* The MPTCP socket that a process holds and whether this subflow only joined it; the socket itself when it
 * is no subflow. */
static __always_inline struct sock *held_sock(struct tcp_sock *tp, bool *joined)
{
	struct sock *sk = (struct sock *)tp;
	struct mptcp_subflow_context *sub;

	*joined = false;
	if (!bpf_core_field_exists(struct tcp_sock, is_mptcp) || !bpf_core_type_exists(struct mptcp_subflow_context) ||
	    !tp->is_mptcp)
		return sk;
	sub = tp->inet_conn.icsk_ulp_data;
	if (!sub)
		return sk;
	*joined = BPF_CORE_READ_BITFIELD_PROBED(sub, mp_join) || BPF_CORE_READ_BITFIELD_PROBED(sub, request_join);
	return BPF_CORE_READ(sub, conn) ?: sk;
}

/* The other way: the socket that holds addresses, state and counters of what a process holds. */
static __always_inline struct sock *subflow(struct sock *sk)
{
	if (!bpf_core_type_exists(struct mptcp_sock) || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_MPTCP)
		return sk;
	return BPF_CORE_READ((struct mptcp_sock *)sk, first) ?: sk;
}

/* Makes the current process the socket's owner. */
static __always_inline struct vg_sock *own(struct sock *sk, u32 flags, u64 cookie)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!s) {
		vg_lose(VG_LOST_SOCKET_STORAGE);
		return 0;
	}
	vg_fill_image(&s->owner, t);
	s->tid = t->pid;
	s->flags = flags;
	s->cookie = cookie;
	s->since = bpf_ktime_get_boot_ns();
	return s;
}

/* Whether the current task is in a connect(2) whose result will be seen at its return. */
static __always_inline bool in_connect(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct pt_regs *r = (struct pt_regs *)bpf_task_pt_regs(t);

	return r && !(t->flags & (PF_EXITING | PF_KTHREAD)) && !vg_sys_compat(t) && vg_sys_nr(r) == vg_nr_connect;
}

/* fill_ends and fill_conn by plain loads. */
static __always_inline void tcp_conn(struct vg_conn *c, struct tcp_sock *tp, u8 direction, u64 cookie)
{
	struct sock_common *sk = &tp->inet_conn.icsk_inet.sk.__sk_common;

	if (sk->skc_family == AF_INET) {
		vg_map_ipv4(c->local, sk->skc_rcv_saddr);
		vg_map_ipv4(c->remote, sk->skc_daddr);
	} else {
		for (int i = 0; i < 4; i++) {
			((u32 *)c->local)[i] = sk->skc_v6_rcv_saddr.in6_u.u6_addr32[i];
			((u32 *)c->remote)[i] = sk->skc_v6_daddr.in6_u.u6_addr32[i];
		}
	}
	c->local_port = tp->inet_conn.icsk_inet.inet_sport;
	c->remote_port = sk->skc_dport;
	fill_rest(c, sk->skc_net.net->ns.inum, VG_PROTO_TCP, direction, cookie);
}

/* fill_closed by plain loads. */
static __always_inline void tcp_closed(struct vg_closed *r, struct tcp_sock *tp)
{
	r->bytes_out = tp->bytes_sent - tp->bytes_retrans;
	r->bytes_in = tp->bytes_received;
	if (r->bytes_in && fin_received(tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags))
		r->bytes_in--;
	r->packets_out = tp->segs_out;
	r->packets_in = tp->segs_in;
	r->retransmits = tp->total_retrans;
	r->srtt_us = tp->srtt_us >> 3;
}

static __always_inline void emit_connect(struct tcp_sock *tp, struct vg_sock *s, u32 error, u64 cookie)
{
	struct vg_conn c;

	header_of(&c.h, VG_CONNECT, &s->owner, s->tid);
	tcp_conn(&c, tp, VG_DIR_OUTBOUND, cookie);
	c.error = error;
	c.elapsed = c.h.time - s->since;
	s->since = c.h.time;
	vg_emit_telemetry(&c, sizeof(c));
}

static __always_inline void emit_close(struct tcp_sock *tp, const struct vg_image *owner, u32 tid, u8 direction, u64 since,
				       u64 cookie)
{
	struct vg_closed r;

	header_of(&r.c.h, VG_CLOSE, owner, tid);
	tcp_conn(&r.c, tp, direction, cookie);
	r.c.error = tp->inet_conn.icsk_inet.sk.sk_err;
	r.c.elapsed = r.c.h.time - since;
	tcp_closed(&r, tp);
	vg_emit_telemetry(&r, sizeof(r));
}

/* A listener, also an MPTCP one, which is no tcp_sock. */
static __always_inline void emit_unlisten(struct sock *sk, struct vg_sock *s)
{
	struct vg_closed r = {};

	header_of(&r.c.h, VG_CLOSE, &s->owner, s->tid);
	fill_ends(&r.c, subflow(sk));
	fill_conn(&r.c, sk, VG_PROTO_TCP, VG_DIR_LISTENER, s->cookie);
	r.c.elapsed = r.c.h.time - s->since;
	vg_emit_telemetry(&r, sizeof(r));
}

static __always_inline void established(struct sock *sk, struct tcp_sock *tp)
{
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	u64 cookie = bpf_get_socket_cookie(sk);

	if (!s)
		return;
	if (s->flags & VG_SK_OUTBOUND) {
		if (s->flags & VG_SK_CONNECTED)
			return;
		s->flags |= VG_SK_CONNECTED;
		emit_connect(tp, s, 0, cookie);
		return;
	}
	/* A child of a listener, with a copy of its storage. It is reported when a process accepts it. */
	s->flags = VG_SK_INBOUND;
	s->cookie = cookie;
	s->since = bpf_ktime_get_boot_ns();
}

static __always_inline void connect_failed(struct tcp_sock *tp, struct vg_sock *s, u64 cookie)
{
	u32 error = tp->inet_conn.icsk_inet.sk.sk_err;

	s->flags = 0;
	if (!error) {
		if (in_connect())
			return; /* failed at once: its return from the system call says why */
		error = ECANCELED; /* closed before an answer came */
	}
	bpf_map_update_elem(&vg_failed, &cookie, &error, BPF_ANY);
	emit_connect(tp, s, error, cookie);
}

/* Takes the entry of an accepted connection; whoever gets it reports the close. */
static __always_inline bool take_accepted(u64 key, struct vg_accepted *a)
{
	struct vg_accepted *found = bpf_map_lookup_elem(&vg_accepted, &key);

	if (!found)
		return false;
	*a = *found;
	return bpf_map_delete_elem(&vg_accepted, &key) == 0;
}

static __always_inline void inbound_closed(struct sock *sk, struct tcp_sock *tp, struct sock *held, struct vg_sock *s)
{
	struct vg_accepted a;
	u64 cookie = sk->__sk_common.skc_cookie.counter, key = cookie ?: (u64)sk;
	u32 one = 1;

	if (take_accepted(key, &a) || (cookie && take_accepted((u64)sk, &a))) {
		emit_close(tp, &a.owner, a.tid, a.direction, a.since, cookie);
		return;
	}
	if (s && s->flags & VG_SK_OWN_CLOSE) {
		/* Accepted without accept(2), by io_uring, or the table was full. */
		emit_close(tp, &s->owner, s->tid, VG_DIR_INBOUND, s->since, cookie);
		return;
	}
	if (!BPF_CORE_READ(held, sk_socket))
		return; /* no process has it: never accepted, or accept will see that it is closed */
	bpf_map_update_elem(&vg_reset_early, &key, &one, BPF_ANY);
	resets_early(1);
	if (take_accepted(key, &a)) {
		bpf_map_delete_elem(&vg_reset_early, &key);
		emit_close(tp, &a.owner, a.tid, a.direction, a.since, cookie);
	}
}

static __always_inline void unlistened(struct sock *sk)
{
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);

	if (!s)
		return;
	emit_unlisten(sk, s);
	s->flags = 0;
}

static __always_inline void closed(struct sock *sk, struct tcp_sock *tp, struct sock *held)
{
	struct vg_sock *s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);

	if (s && s->flags & VG_SK_CONNECTED) {
		u8 direction = s->flags & VG_SK_OUTBOUND ? VG_DIR_OUTBOUND : VG_DIR_INBOUND;

		s->flags = 0;
		emit_close(tp, &s->owner, s->tid, direction, s->since, s->cookie);
		return;
	}
	if (s && s->flags & VG_SK_OUTBOUND) {
		connect_failed(tp, s, s->cookie);
		return;
	}
	inbound_closed(sk, tp, held, s);
}

static __always_inline int state_changed(struct sock *sk, int old, int new)
{
	u16 protocol = sk->sk_protocol;
	struct tcp_sock *tp;
	struct sock *held;
	struct vg_sock *s;
	bool joined;

	if (protocol == IPPROTO_MPTCP) { /* it listens; what is connected is its subflows */
		if (new == TCP_LISTEN)
			own(sk, VG_SK_LISTENER, bpf_get_socket_cookie(sk));
		else if (new == TCP_CLOSE && old == TCP_LISTEN)
			unlistened(sk);
		return 0;
	}
	if (protocol != IPPROTO_TCP || new == TCP_SYN_RECV || new == TCP_CLOSE_WAIT || new == TCP_FIN_WAIT2)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	held = held_sock(tp, &joined);
	if (joined)
		return 0;
	switch (new) {
	case TCP_SYN_SENT:
		own(sk, VG_SK_OUTBOUND, bpf_get_socket_cookie(sk));
		break;
	case TCP_LISTEN:
		own(sk, VG_SK_LISTENER, bpf_get_socket_cookie(sk));
		break;
	case TCP_ESTABLISHED:
		established(sk, tp);
		break;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
		if (s && sk->sk_socket)
			s->flags |= VG_SK_OWN_CLOSE;
		break;
	case TCP_CLOSE:
		if (old != TCP_LISTEN)
			closed(sk, tp, held);
		else if (held == sk)
			unlistened(sk);
		break;
	}
	return 0;
}

/*
 * 1 while vg_tcp runs on this CPU. The kernel does not let a program interrupt itself: a packet that ends one
 * connection while a process's own change of another is being looked at would go unseen.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} vg_state_busy SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int vg_tcp(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int old = ctx[1], new = ctx[2];
	u32 zero = 0, *busy = bpf_map_lookup_elem(&vg_state_busy, &zero);

	if (!busy)
		return 0;
	*(volatile u32 *)busy = 1;
	state_changed(sk, old, new);
	*(volatile u32 *)busy = 0;
	return 0;
}

/* The same for the change that vg_tcp was passed over for. Softirqs do not nest, so that two are enough. */
SEC("tp_btf/inet_sock_set_state")
int vg_tcp_nested(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int old = ctx[1], new = ctx[2];
	u32 zero = 0, *busy = bpf_map_lookup_elem(&vg_state_busy, &zero);

	if (busy && *(volatile u32 *)busy)
		state_changed(sk, old, new);
	return 0;
}

/* The close of a connection that was over when accept returned it; c is what was told of the accept. */
static __always_inline void emit_late_close(struct sock *sk, const struct vg_conn *c, const struct vg_accepted *a)
{
	struct vg_closed r;

	r.c = *c;
	header_of(&r.c.h, VG_CLOSE, &a->owner, a->tid);
	r.c.error = BPF_CORE_READ(sk, sk_err);
	r.c.elapsed = r.c.h.time - a->since;
	fill_closed(&r, sk);
	vg_emit_telemetry(&r, sizeof(r));
}

/* accept returned a connection. */
static __always_inline void tcp_accepted(struct task_struct *t, struct sock *sk)
{
	struct sock *flow = subflow(sk);
	struct vg_accepted a;
	struct vg_conn c;
	u64 cookie = raw_cookie(flow), key = cookie ?: (u64)flow;
	bool gone;

	/* Before anything else: see inbound_closed for who reports the end of one that is closed already. */
	gone = BPF_CORE_READ(flow, __sk_common.skc_state) == TCP_CLOSE;
	vg_fill_header(&c.h, VG_ACCEPT, t);
	fill_ends(&c, flow);
	fill_conn(&c, flow, VG_PROTO_TCP, VG_DIR_INBOUND, cookie);
	vg_emit_telemetry(&c, sizeof(c));

	vg_fill_image(&a.owner, t);
	a.tid = t->pid;
	a.direction = VG_DIR_INBOUND;
	a.since = c.h.time;
	if (!gone) {
		if (bpf_map_update_elem(&vg_accepted, &key, &a, BPF_ANY)) {
			vg_lose(VG_LOST_ACCEPT_TABLE_FULL);
			return;
		}
		if (!resets_early(0) || !bpf_map_lookup_elem(&vg_reset_early, &key))
			return;
		bpf_map_delete_elem(&vg_reset_early, &key);
		if (bpf_map_delete_elem(&vg_accepted, &key))
			return; /* the state change has reported it */
	} else {
		bpf_map_delete_elem(&vg_reset_early, &key);
	}
	emit_late_close(flow, &c, &a);
}

#endif
