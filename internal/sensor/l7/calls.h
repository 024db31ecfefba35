/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Traffic in the clear, at the return of the system calls that move it. */
#ifndef VIGIE_L7_CALLS_H
#define VIGIE_L7_CALLS_H

#include "conn.h"
#include "library.h"

/* Whether a TLS library made the call. Then the connection is the one that the library's caller speaks on. */
static __always_inline bool l7_in_library(struct l7_call *k, struct vg_l7_conn *c)
{
	u64 id = bpf_get_current_pid_tgid();
	struct l7_library_call *l = bpf_map_lookup_elem(&vg_l7_library_calls, &id);
	struct l7_session s = {};

	if (!l)
		return false;
	s.pid = id >> 32;
	s.session = l->session;
	bpf_map_update_elem(&vg_l7_sessions, &s, &k->conn, BPF_ANY);
	l7_source(c, l->source);
	return true;
}

/*
 * The place of the call's first byte, by the kernel's own sequence number, which knows what other calls, io_uring and sendfile
 * have moved. MPTCP numbers its bytes otherwise: there it is counted. offset is how much went before in the direction, or
 * less: packets can come between the reads of two counters, which is why the first counter is the one that grows.
 */
static __always_inline u32 l7_place(struct l7_call *k, const struct vg_l7_conn *c, s64 *offset)
{
	struct tcp_sock *tp = (struct tcp_sock *)k->flow;
	u64 passed;
	u32 seq;

	if (k->mptcp) {
		*offset = c->spoken & L7_SPOKEN(k->dir);
		return c->end[k->dir & 1];
	}
	if (k->dir == VG_L7_SENT) {
		seq = BPF_CORE_READ(tp, write_seq);
		passed = BPF_CORE_READ(tp, bytes_acked);
		*offset = passed + (u32)(seq - BPF_CORE_READ(tp, snd_una)) - k->size;
	} else {
		seq = BPF_CORE_READ(tp, copied_seq);
		passed = BPF_CORE_READ(tp, bytes_received);
		*offset = passed - (u32)(BPF_CORE_READ(tp, rcv_nxt) - seq) - k->size;
	}
	return seq - k->size;
}

/* Records of TLS: a handshake begins a connection, the other types are met in its middle. */
static __always_inline bool l7_encrypted(const void *buf)
{
	u8 b[3] = {};

	if (bpf_probe_read_user(b, sizeof(b), buf))
		return false;
	return b[0] >= 20 && b[0] <= 23 && b[1] == 3 && b[2] <= 4;
}

#define L7_SEGMENTS 8 /* of a vector: what is in later ones is not copied */

struct l7_vec {
	const void *base;
	u64 len;
};

/* How the bytes lie: one buffer, or count segments. Without either there is only their number. */
struct l7_bytes {
	const void *buf;
	const struct l7_vec *vec;
	u64 count;
};

static __always_inline const void *l7_first(const struct l7_bytes *b)
{
	struct l7_vec v = {};

	if (!b->vec)
		return b->buf;
	bpf_probe_read_user(&v, sizeof(v), b->vec);
	return v.base;
}

static __always_inline void l7_vector(struct vg_l7_conn *c, struct l7_call *k, struct l7_said *said, const struct l7_bytes *b)
{
	u32 left = k->size, size, len;
	struct l7_vec v;

	for (int i = 0; i < L7_SEGMENTS; i++) {
		if (i >= b->count || !left || bpf_probe_read_user(&v, sizeof(v), b->vec + i))
			return;
		if (!v.len)
			continue;
		size = v.len < left ? v.len : left;
		said->buf = v.base;
		len = l7_segment(c, k->dir, said, size);
		l7_passed(c, k->dir, said->pos, size, len);
		said->pos += size;
		left -= size;
	}
}

static __always_inline int l7_moved(struct l7_call *k, const struct l7_bytes *b)
{
	struct vg_l7_conn *c = bpf_map_lookup_elem(&vg_l7_conns, &k->conn);
	struct l7_said said = {};
	s64 offset;

	if (!c) {
		c = l7_meet(k);
		if (!c)
			return 0;
		if (l7_encrypted(l7_first(b)))
			c->mode = VG_L7_ENCRYPTED;
	}
	if (l7_in_library(k, c) || c->source != VG_L7_CLEAR || c->mode == VG_L7_IGNORED)
		return 0;
	said.pos = l7_place(k, c, &offset);
	if (!(c->spoken & (L7_SPOKEN(0) | L7_SPOKEN(1))) && offset <= 1)
		c->spoken |= L7_WHOLE;
	if (c->mode == VG_L7_ENCRYPTED) {
		c->spoken |= L7_SPOKEN(k->dir);
		return 0;
	}
	if (!l7_wanted(c, k->conn))
		return 0;
	said.conn = k->conn;
	said.flags = k->dir == VG_L7_SENT ? VG_L7_F_SENT : 0;
	if (!(c->spoken & L7_SPOKEN(k->dir)) && offset <= 1) /* the peer's SYN or FIN may be counted */
		said.flags |= VG_L7_F_BEGINS;
	if (b->vec) {
		u32 pos = said.pos;

		l7_vector(c, k, &said, b);
		l7_passed(c, k->dir, pos, k->size, 0);
		return 0;
	}
	said.buf = b->buf;
	l7_passed(c, k->dir, said.pos, k->size, b->buf ? l7_segment(c, k->dir, &said, k->size) : 0);
	return 0;
}

/* read, recvfrom; write, sendto: (fd, buf, …) */
static __always_inline int l7_plain(u64 *ctx, u32 dir, bool flags)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct l7_bytes b = {};
	struct l7_call k = { .dir = dir };

	if (flags && vg_sys_arg3(r) & (MSG_PEEK | MSG_TRUNC))
		return 0; /* they will come again, or were thrown away: the next place tells */
	if (!l7_tcp(&k, vg_sys_arg0(r), ctx[1]))
		return 0;
	b.buf = (const void *)vg_sys_arg1(r);
	return l7_moved(&k, &b);
}

SEC("tp_btf/sys_exit")
int vg_l7_read(u64 *ctx)
{
	return l7_plain(ctx, VG_L7_RECEIVED, false);
}

SEC("tp_btf/sys_exit")
int vg_l7_recvfrom(u64 *ctx)
{
	return l7_plain(ctx, VG_L7_RECEIVED, true);
}

SEC("tp_btf/sys_exit")
int vg_l7_write(u64 *ctx)
{
	return l7_plain(ctx, VG_L7_SENT, false);
}

/* readv, writev: (fd, vec, count) */
static __always_inline int l7_scattered(u64 *ctx, u32 dir)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct l7_bytes b = {};
	struct l7_call k = { .dir = dir };

	if (!l7_tcp(&k, vg_sys_arg0(r), ctx[1]))
		return 0;
	b.vec = (const struct l7_vec *)vg_sys_arg1(r);
	b.count = vg_sys_arg2(r);
	return l7_moved(&k, &b);
}

SEC("tp_btf/sys_exit")
int vg_l7_readv(u64 *ctx)
{
	return l7_scattered(ctx, VG_L7_RECEIVED);
}

SEC("tp_btf/sys_exit")
int vg_l7_writev(u64 *ctx)
{
	return l7_scattered(ctx, VG_L7_SENT);
}

struct l7_msghdr { /* struct user_msghdr, part of what user space sees */
	u64 name;
	u32 namelen;
	u32 pad;
	const struct l7_vec *vec;
	u64 count;
};

/* recvmsg, sendmsg: (fd, msghdr, flags) */
static __always_inline int l7_message(u64 *ctx, u32 dir)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct l7_bytes b = {};
	struct l7_call k = { .dir = dir };
	struct l7_msghdr m;

	if (dir == VG_L7_RECEIVED && vg_sys_arg2(r) & (MSG_PEEK | MSG_TRUNC))
		return 0;
	if (!l7_tcp(&k, vg_sys_arg0(r), ctx[1]) || bpf_probe_read_user(&m, sizeof(m), (const void *)vg_sys_arg1(r)))
		return 0;
	b.vec = m.vec;
	b.count = m.count;
	return l7_moved(&k, &b);
}

SEC("tp_btf/sys_exit")
int vg_l7_recvmsg(u64 *ctx)
{
	return l7_message(ctx, VG_L7_RECEIVED);
}

SEC("tp_btf/sys_exit")
int vg_l7_sendmsg(u64 *ctx)
{
	return l7_message(ctx, VG_L7_SENT);
}

/* sendfile: (out, in, …): what was sent is in no memory of the process */
SEC("tp_btf/sys_exit")
int vg_l7_sendfile(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct l7_bytes b = {};
	struct l7_call k = { .dir = VG_L7_SENT };

	return l7_tcp(&k, vg_sys_arg0(r), ctx[1]) ? l7_moved(&k, &b) : 0;
}

/* splice: (in, …, out, …): one of the two is a pipe */
SEC("tp_btf/sys_exit")
int vg_l7_splice(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct l7_bytes b = {};
	struct l7_call k = { .dir = VG_L7_SENT };

	if (l7_tcp(&k, vg_sys_arg2(r), ctx[1]))
		return l7_moved(&k, &b);
	k.dir = VG_L7_RECEIVED;
	return l7_tcp(&k, vg_sys_arg0(r), ctx[1]) ? l7_moved(&k, &b) : 0;
}

SEC("tp_btf/inet_sock_set_state")
int vg_l7_closed(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	u64 key = sk->__sk_common.skc_cookie.counter, address = (u64)sk;
	struct l7_said said = { .flags = VG_L7_F_CLOSED };
	struct vg_l7_conn *c;
	int state = ctx[2];

	if (state != TCP_CLOSE || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	c = key ? bpf_map_lookup_elem(&vg_l7_conns, &key) : 0;
	if (!c) {
		key = address;
		c = bpf_map_lookup_elem(&vg_l7_conns, &key);
		if (!c)
			return 0;
	}
	if (c->mode == VG_L7_LISTENING && c->spoken) {
		said.conn = key;
		l7_emit_bare(c, &said, 0);
	}
	bpf_map_delete_elem(&vg_l7_conns, &key);
	return 0;
}

#endif
