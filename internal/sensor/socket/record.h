/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The records of this sensor and how they are filled from a struct sock that was found behind a file
 * descriptor: by probe. tcp.h has the same for the socket of a tracepoint, where plain loads work and cost less. */
#ifndef VIGIE_SOCKET_RECORD_H
#define VIGIE_SOCKET_RECORD_H

#include "net.h"
#include "abi.h"
#include "sock.h"

enum vg_direction {
	VG_DIR_NONE,
	VG_DIR_OUTBOUND,
	VG_DIR_INBOUND,
	VG_DIR_LISTENER,
};

/* vg_conn.protocol */
enum vg_protocol {
	VG_PROTO_TCP,
	VG_PROTO_UDP,
	VG_PROTO_UNIX,
	VG_PROTO_NONE, /* none that is reported */
};

/* connect, accept, listen; a close begins with it. */
struct vg_conn {
	struct vg_header h;
	u8 local[16]; /* IPv4 as ::ffff:a.b.c.d */
	u8 remote[16];
	u16 local_port; /* network byte order */
	u16 remote_port;
	u16 error; /* errno */
	u8 protocol;
	u8 direction;
	u32 netns;
	u32 backlog; /* listen: backlog; unix connect and accept: the peer's pid */
	u64 cookie;
	u64 elapsed; /* ns: connect: until established or failed; close: since then */
};

struct vg_closed {
	struct vg_conn c;
	u64 bytes_out, bytes_in;
	u64 packets_out, packets_in;
	u32 retransmits;
	u32 srtt_us;
};

/* A unix socket: its path follows, as components (bpf/path.h) or, for an abstract name, as its bytes. */
struct vg_unix {
	struct vg_conn c;
	u16 path_len;
	u8 form; /* VG_UNIX_* */
	u8 pad[5];
};

#define VG_UNIX_COMPONENTS 0 /* path of the object that was bound */
#define VG_UNIX_ARGUMENT   1 /* path as given to connect */
#define VG_UNIX_ABSTRACT   2 /* the bytes behind the leading NUL */

VG_EXPORT(struct, vg_conn);
VG_EXPORT(struct, vg_closed);
VG_EXPORT(struct, vg_unix);
VG_EXPORT(enum, vg_direction);
VG_EXPORT(enum, vg_protocol);

static __always_inline void header_of(struct vg_header *h, u16 type, const struct vg_image *owner, u32 tid)
{
	h->type = type;
	h->flags = owner->pid ? 0 : VG_F_NO_PROCESS;
	h->count = 1;
	h->time = bpf_ktime_get_boot_ns();
	h->start = owner->start;
	h->pid = owner->pid;
	h->exec = owner->exec;
	h->tid = tid;
	h->pad = 0;
}

/* The socket of a file that an iterator gives; NULL when it is none. */
static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket;

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	return socket ? socket->sk : 0;
}

static __always_inline void fill_remote(u8 *addr, struct sock *sk)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET)
		vg_map_ipv4(addr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	else
		bpf_core_read(addr, 16, &sk->__sk_common.skc_v6_daddr);
}

static __always_inline void fill_ends(struct vg_conn *c, struct sock *sk)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		vg_map_ipv4(c->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		vg_map_ipv4(c->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		bpf_core_read(c->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(c->remote, 16, &sk->__sk_common.skc_v6_daddr);
	}
	/* Not skc_num: a socket that gave its port back has none by the time it is in CLOSE. */
	c->local_port = BPF_CORE_READ((struct inet_sock *)sk, inet_sport);
	c->remote_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
}

/* The other members, all of them: what is not said is zero. */
static __always_inline void fill_rest(struct vg_conn *c, u32 netns, u8 protocol, u8 direction, u64 cookie)
{
	c->error = 0;
	c->protocol = protocol;
	c->direction = direction;
	c->netns = netns;
	c->backlog = 0;
	c->cookie = cookie;
	c->elapsed = 0;
}

static __always_inline void fill_conn(struct vg_conn *c, struct sock *sk, u8 protocol, u8 direction, u64 cookie)
{
	fill_rest(c, BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum), protocol, direction, cookie);
}

/* Whether the peer's FIN came, which bytes_received counts as a byte. */
static __always_inline bool fin_received(unsigned long flags)
{
	return flags & 1ull << (bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 63);
}

static __always_inline void fill_closed(struct vg_closed *r, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	r->bytes_out = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
	r->bytes_in = BPF_CORE_READ(tp, bytes_received);
	if (r->bytes_in && fin_received(BPF_CORE_READ(sk, __sk_common.skc_flags)))
		r->bytes_in--;
	r->packets_out = BPF_CORE_READ(tp, segs_out);
	r->packets_in = BPF_CORE_READ(tp, segs_in);
	r->retransmits = BPF_CORE_READ(tp, total_retrans);
	r->srtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;
}

static __always_inline u64 raw_cookie(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
}

#endif
