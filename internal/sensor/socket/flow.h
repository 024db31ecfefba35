/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the agent asks for flows: the counters of what is open, and which address stands behind the one that was asked for.
 * The counters are TCP's own and those of udp.h; an iterator over the sockets' storage, or else over processes' files, reads those
 * that are due, of all network namespaces at once. Nothing here runs for each packet but the first of a TCP connection.
 */
#ifndef VIGIE_SOCKET_FLOW_H
#define VIGIE_SOCKET_FLOW_H

#include "record.h"
#include "talk.h"
#include "tcp.h"
#include "udp.h"
#include "inventory.h"

struct vg_flow_ask {
	u64 now; /* CLOCK_BOOTTIME, ns */
	u64 first; /* ns: what is younger is not due, nor remembered as read when it is not a second older */
	u64 interval; /* ns since it was last read; 0: all, and nobody minds */
};

/* Set before each run of the iterator. */
volatile struct vg_flow_ask vg_flow_ask;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
	void *value;
};

#pragma clang attribute pop

static __always_inline bool due(struct vg_sock *s, struct vg_flow_sock *f)
{
	u64 now = vg_flow_ask.now, interval = vg_flow_ask.interval;

	if (!interval)
		return true;
	if (f && f->told)
		return now >= f->told + interval;
	return now >= s->since + vg_flow_ask.first;
}

static __always_inline void told(struct sock *sk, const struct vg_sock *s, struct vg_flow_sock *f)
{
	if (!vg_flow_ask.interval || vg_flow_ask.now < s->since + vg_flow_ask.first + 1000000000)
		return;
	if (!f)
		f = bpf_sk_storage_get(&vg_flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (f)
		f->told = vg_flow_ask.now;
}

static __always_inline long write_tcp(struct seq_file *seq, struct sock *sk, const struct vg_sock *s, u8 direction)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct vg_closed r;

	if (!tp)
		return -1;
	header_of(&r.c.h, VG_CLOSE, &s->owner, s->tid);
	tcp_conn(&r.c, tp, direction, s->cookie);
	r.c.elapsed = r.c.h.time - s->since;
	tcp_closed(&r, tp);
	return write_record(seq, &r, sizeof(r));
}

static __always_inline long write_udp(struct seq_file *seq, struct sock *sk, const struct vg_sock *s, u8 direction, u32 error)
{
	struct vg_closed r = {};

	header_of(&r.c.h, VG_CLOSE, &s->owner, s->tid);
	fill_ends(&r.c, sk);
	fill_conn(&r.c, sk, VG_PROTO_UDP, direction, s->cookie);
	r.c.error = error;
	r.c.elapsed = r.c.h.time - s->since;
	r.bytes_out = s->bytes_out;
	r.bytes_in = s->bytes_in;
	r.packets_out = s->packets_out;
	r.packets_in = s->packets_in;
	return write_record(seq, &r, sizeof(r));
}

static __always_inline void count_flow(struct seq_file *seq, struct sock *sk, struct vg_sock *s)
{
	struct vg_flow_sock *f;
	struct vg_sock copy;
	u8 state, direction;
	long err;

	if (!(s->flags & (VG_SK_OUTBOUND | VG_SK_INBOUND)))
		return;
	state = sk->__sk_common.skc_state;
	if (state == TCP_CLOSE || state == TCP_LISTEN || state == TCP_SYN_SENT)
		return;
	f = bpf_sk_storage_get(&vg_flow_socks, sk, 0, 0);
	if (!due(s, f))
		return;
	direction = s->flags & VG_SK_OUTBOUND ? VG_DIR_OUTBOUND : VG_DIR_INBOUND;
	__builtin_memcpy(&copy, s, sizeof(copy));
	if (sk->sk_protocol == IPPROTO_TCP)
		err = write_tcp(seq, sk, &copy, direction);
	else if (sk->sk_protocol == IPPROTO_UDP && state == TCP_ESTABLISHED)
		err = write_udp(seq, sk, &copy, direction, f ? f->error : 0);
	else
		return;
	if (!err)
		told(sk, &copy, f);
}

SEC("iter/bpf_sk_storage_map")
int vg_flow_counters(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct vg_sock *s = ctx->value;
	struct sock *sk = ctx->sk;

	if (sk && s)
		count_flow(ctx->meta->seq, sk, s);
	return 0;
}

/* The same by the files that processes hold, for kernels on which iterators over maps' elements are forbidden. A socket that is held
 * twice may be told twice when all are asked for; not found are MPTCP's subflows, and sockets that no process holds any more. */
SEC("iter/task_file")
int vg_flow_files(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = sock_of(ctx->file);
	struct vg_sock *s;

	if (!sk)
		return 0;
	s = bpf_sk_storage_get(&vg_socks, sk, 0, 0);
	if (s)
		count_flow(ctx->meta->seq, sk, s);
	return 0;
}

/* An error that ICMP brought to a connected UDP or ping socket. */
SEC("tp_btf/inet_sk_error_report")
int vg_sk_error(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct vg_flow_sock *f;

	if (sk->sk_protocol != IPPROTO_UDP && sk->sk_protocol != IPPROTO_ICMP && sk->sk_protocol != IPPROTO_ICMPV6)
		return 0;
	if (!sk->sk_err || !bpf_sk_storage_get(&vg_socks, sk, 0, 0))
		return 0;
	f = bpf_sk_storage_get(&vg_flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (f)
		f->error = sk->sk_err;
	return 0;
}

#endif
