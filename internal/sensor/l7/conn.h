/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which processes are listened to, what is remembered of a connection, and the record of what was said on it. */
#ifndef VIGIE_L7_CONN_H
#define VIGIE_L7_CONN_H

#include "net.h"
#include "abi.h"
#include "regs.h"
#include "sock.h"
#include "task.h"

/* Set before load. */
const volatile bool vg_l7_everybody; /* all processes but the agent; else those in the maps below */
const volatile u32 vg_l7_self;       /* the agent's pid */
const volatile u32 vg_l7_prefix = 1024;

#define VG_L7_MAX 4096 /* bytes of one record: the largest vg_l7_prefix */

/* Processes that are listened to, by pid: when each started. Written by the agent. When it is full the agent says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, u64);
} vg_l7_processes SEC(".maps");

/* Cgroups whose processes are listened to from their first moment. Written by the agent; as above. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_cgroup_ref);
	__type(value, u8);
} vg_l7_cgroups SEC(".maps");

static __always_inline bool listened(struct task_struct *t)
{
	struct vg_cgroup_ref c;
	u32 pid = t->tgid;
	u64 *start;

	if (pid == vg_l7_self)
		return false;
	if (vg_l7_everybody)
		return true;
	start = bpf_map_lookup_elem(&vg_l7_processes, &pid);
	if (start && *start == t->group_leader->start_boottime)
		return true;
	vg_fill_cgroup(&c, t);
	return bpf_map_lookup_elem(&vg_l7_cgroups, &c);
}

/* vg_l7_conn.mode */
enum vg_l7_mode {
	VG_L7_LISTENING,
	VG_L7_IGNORED,   /* the agent has no use for it */
	VG_L7_ENCRYPTED, /* TLS on the wire: what is said is heard in the library, if anywhere */
};

#define VG_L7_RECEIVED 0
#define VG_L7_SENT     1

#define L7_SPOKEN(dir) (1 << ((dir) & 1)) /* something was said in the direction */
#define L7_WHOLE       0x10               /* the connection was met at its beginning */

struct vg_l7_conn {
	u64 at[2];  /* by direction: when its last bytes passed; CLOCK_BOOTTIME, ns */
	u32 end[2]; /* the place after them */
	u32 run;    /* bytes copied since last_dir began to speak */
	u8 mode;
	u8 last_dir;
	u8 spoken; /* L7_SPOKEN of each direction, L7_WHOLE */
	u8 source; /* enum vg_l7_source of what is heard */
	u8 local[16]; /* IPv4 as ::ffff:a.b.c.d; all zero where the socket is not known */
	u8 remote[16];
	u16 local_port; /* network byte order */
	u16 remote_port;
	u32 netns;
	/* Of HTTP/2 (frames.h), by direction: */
	u32 left[2];     /* bytes of the frame that are still to come */
	u8 head[2][16];  /* the beginning of a frame's header */
	u8 have[2];      /* bytes of it */
	u8 data[2];      /* the frame is DATA */
	u8 frames;       /* it is HTTP/2 */
	u8 pad[3];
};

/*
 * By the socket's cookie, or its address before it has one. An entry lives as long as the connection. When it is full
 * the longest silent gives way: of that one the first bytes of its next message are copied as of a new one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct vg_l7_conn);
} vg_l7_conns SEC(".maps");

/* Connections that the agent has no use for, and the source of what it heard of them: taken up with the next bytes. It does not
 * write into vg_l7_conns, which goes on changing meanwhile. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, u32);
} vg_l7_useless SEC(".maps");

/* Whether what is said on a connection is to be told. */
static __always_inline bool l7_wanted(struct vg_l7_conn *c, u64 conn)
{
	u32 *source;

	if (c->mode != VG_L7_LISTENING)
		return false;
	source = bpf_map_lookup_elem(&vg_l7_useless, &conn);
	if (!source)
		return true;
	if (*source == c->source)
		c->mode = VG_L7_IGNORED;
	bpf_map_delete_elem(&vg_l7_useless, &conn);
	return c->mode == VG_L7_LISTENING;
}

/* vg_l7.source: how it could be read */
enum vg_l7_source {
	VG_L7_CLEAR,
	VG_L7_OPENSSL,
	VG_L7_GNUTLS,
	VG_L7_GO,
};

#define VG_L7_F_SENT   0x1
#define VG_L7_F_BEGINS 0x2 /* nothing went in this direction before */
#define VG_L7_F_CLOSED 0x4 /* the connection has ended: no bytes */
#define VG_L7_F_FILE   0x8 /* no connection: the process runs code of a file, whose inode is conn, for the first time */

/* What one call moved. len bytes follow; the record can be longer. */
struct vg_l7 {
	struct vg_header h;
	u64 conn;   /* names the connection: its cookie, where it has one */
	u64 at[2];  /* as of the connection before this call: what passed without a record */
	u32 end[2];
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u32 netns;
	u32 pos;  /* place of the first byte in its direction */
	u32 size; /* bytes that were moved */
	u16 len;
	u8 flags;
	u8 source;
	u32 pad;
};

VG_EXPORT(struct, vg_l7_conn);
VG_EXPORT(struct, vg_l7);
VG_EXPORT(enum, vg_l7_mode);
VG_EXPORT(enum, vg_l7_source);

/* One returned call on a socket. */
struct l7_call {
	struct sock *flow; /* the TCP socket: of MPTCP its first */
	u64 conn;
	u32 size;
	u32 dir;
	bool mptcp;
};

/* Finds the TCP connection behind a descriptor of a process that is listened to; false when there is none, or nothing was moved. */
static __always_inline bool l7_tcp(struct l7_call *k, u32 fd, s64 ret)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct sock *sk, *flow;
	u16 family, protocol;

	if (ret <= 0 || !listened(t))
		return false;
	flow = sk = vg_sock_of_fd(t, fd);
	if (!sk)
		return false;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if (family != AF_INET && family != AF_INET6)
		return false;
	if (protocol == IPPROTO_MPTCP && bpf_core_type_exists(struct mptcp_sock))
		flow = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	else if (protocol != IPPROTO_TCP)
		return false;
	if (!flow)
		return false;
	k->mptcp = sk != flow;
	k->flow = flow;
	k->conn = BPF_CORE_READ(flow, __sk_common.skc_cookie.counter) ?: (u64)flow;
	k->size = ret > 0x7fffffff ? 0x7fffffff : ret;
	return true;
}

/* What is known of the connection from now on. A function of its own, for the stack that all on the way to l7_emit share. */
static __noinline struct vg_l7_conn *l7_meet(struct l7_call *k)
{
	struct vg_l7_conn fresh = {};
	struct sock *sk = k->flow;

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		vg_map_ipv4(fresh.local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		vg_map_ipv4(fresh.remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		bpf_core_read(fresh.local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(fresh.remote, 16, &sk->__sk_common.skc_v6_daddr);
	}
	fresh.local_port = BPF_CORE_READ((struct inet_sock *)sk, inet_sport);
	fresh.remote_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	fresh.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	bpf_map_update_elem(&vg_l7_conns, &k->conn, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&vg_l7_conns, &k->conn);
}

/* A message that is about to be told. */
struct l7_said {
	const void *buf; /* in the caller's memory; 0 when there is nothing to read */
	u64 conn;
	u32 pos;
	u32 size;
	u8 flags;
};

static __always_inline void l7_fill(struct vg_l7 *r, const struct vg_l7_conn *c, const struct l7_said *said)
{
	r->conn = said->conn;
	r->at[0] = c->at[0];
	r->at[1] = c->at[1];
	r->end[0] = c->end[0];
	r->end[1] = c->end[1];
	__builtin_memcpy(r->local, c->local, sizeof(r->local) + sizeof(r->remote));
	r->local_port = c->local_port;
	r->remote_port = c->remote_port;
	r->netns = c->netns;
	r->pos = said->pos;
	r->size = said->size;
	r->flags = said->flags;
	r->source = c->source;
	r->pad = 0;
}

/* The ring is shared with files, sockets and DNS. The second half is theirs. */
static __always_inline bool l7_no_room(void)
{
	if (bpf_ringbuf_query(&vg_telemetry, BPF_RB_AVAIL_DATA) < VG_RING_TELEMETRY_BYTES / 2)
		return false;
	vg_lose(VG_LOST_L7_RING_BUSY);
	return true;
}

/* Copies into the ring itself: uprobes are preempted, so that there is no scratch space to share. Sizes are constants because
 * a reservation's must be. Returns false when len is too large for it. */
static __always_inline bool l7_emit_sized(const struct vg_l7_conn *c, const struct l7_said *said, u32 len, const u32 room)
{
	struct vg_l7 *r;
	u32 last = len - 1;

	if (len > room)
		return false;
	r = bpf_ringbuf_reserve(&vg_telemetry, sizeof(*r) + room, 0);
	if (!r) {
		vg_lose(VG_LOST_TELEMETRY_RING_FULL);
		return true;
	}
	vg_fill_header(&r->h, VG_L7, bpf_get_current_task_btf());
	l7_fill(r, c, said);
	r->len = len;
	/* Before 6.8 the verifier does not learn from "not 0" that a length is at least 1, but adds bounds up. */
	asm volatile("" : "+r"(last));
	if (last >= room || bpf_probe_read_user(r + 1, last + 1, said->buf)) {
		r->len = 0;
		vg_lose(VG_LOST_L7_UNREADABLE);
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return true;
}

static __always_inline void l7_emit_bare(const struct vg_l7_conn *c, const struct l7_said *said, struct task_struct *t)
{
	struct vg_l7 r;

	if (t) {
		vg_fill_header(&r.h, VG_L7, t);
	} else {
		__builtin_memset(&r.h, 0, sizeof(r.h));
		r.h.type = VG_L7;
		r.h.flags = VG_F_NO_PROCESS;
		r.h.count = 1;
		r.h.time = bpf_ktime_get_boot_ns();
	}
	l7_fill(&r, c, said);
	r.len = 0;
	vg_emit_telemetry(&r, sizeof(r));
}

/* Tells what was said, len bytes of it. Global, so that the verifier looks at it once and not at each call. */
__noinline int l7_emit(const struct vg_l7_conn *c, const struct l7_said *said, u32 len)
{
	if (!c || !said || vg_alone() || l7_no_room())
		return 0; /* no agent: the next one begins with what is said then */
	if (!l7_emit_sized(c, said, len, 256) && !l7_emit_sized(c, said, len, 1024))
		l7_emit_sized(c, said, len, VG_L7_MAX);
	return 0;
}

/* How many bytes of the next size are to be copied, as dir speaks. */
static __always_inline u32 l7_budget(struct vg_l7_conn *c, u32 dir, u32 size)
{
	u32 left;

	if (c->last_dir != dir) {
		c->last_dir = dir;
		c->run = 0;
	}
	left = c->run < vg_l7_prefix ? vg_l7_prefix - c->run : 0;
	return size < left ? size : left;
}

/* Notes that size bytes have passed in a direction, from pos on, of which len were told. */
static __always_inline void l7_passed(struct vg_l7_conn *c, u32 dir, u32 pos, u32 size, u32 len)
{
	c->at[dir & 1] = bpf_ktime_get_boot_ns();
	c->end[dir & 1] = pos + size;
	c->run += len;
	c->spoken |= L7_SPOKEN(dir);
}

#endif
