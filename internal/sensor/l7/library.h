/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is said through a TLS library, by uprobes at the places that the agent chose (probes.go). C libraries: one where the
 * arguments still are in their registers, one where the result is. Which connection it is tell the system calls that the
 * library makes in between, by the same thread. A library that does none (its caller moves the bytes, through memory BIOs)
 * has a connection without addresses.
 *
 * Go: one place for each direction, at which the plain text is in memory; the connection is found through the descriptor in
 * the tls.Conn. Where that wraps something else than a TCP connection, it has no addresses either.
 */
#ifndef VIGIE_L7_LIBRARY_H
#define VIGIE_L7_LIBRARY_H

#include "frames.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)

struct pt_regs___user {
	unsigned long bp, bx, cx, ax, dx, si, di;
};

#define l7_arg0(r)   ((r)->di)
#define l7_arg1(r)   ((r)->si)
#define l7_arg3(r)   ((r)->cx)
#define l7_result(r) ((r)->ax)

#elif defined(__TARGET_ARCH_arm64)

struct pt_regs___user {
	struct user_pt_regs user_regs;
};

#define l7_arg0(r)   ((r)->user_regs.regs[0])
#define l7_arg1(r)   ((r)->user_regs.regs[1])
#define l7_arg3(r)   ((r)->user_regs.regs[3])
#define l7_result(r) ((r)->user_regs.regs[0])

#endif

#pragma clang attribute pop

/* A probe's cookie says what it is at. */
#define L7_COOKIE_SOURCE(c) ((c) & 0xff)
#define L7_COOKIE_DIR(c)    ((c) >> 8 & 1)
#define L7_COOKIE_LENGTH    0x200 /* the result is whether it worked; the length is where the fourth argument points */
#define L7_COOKIE_READER    0x400 /* Go: at bytes.(*Reader).Read, not at the copying */

/* A call of a library that has not returned. */
struct l7_library_call {
	u64 session; /* address of the SSL or the gnutls_session_t */
	u64 buf;
	u64 length; /* where the length will be */
	u32 dir;
	u32 source;
};

/* By thread. An entry that a call left behind which never returned is replaced by the thread's next. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct l7_library_call);
} vg_l7_library_calls SEC(".maps");

struct l7_session {
	u64 session;
	u32 pid;
	u32 pad;
};

/* Which connection a session is on. The longest unused gives way; its next system call brings it back. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct l7_session);
	__type(value, u64);
} vg_l7_sessions SEC(".maps");

/* From now on what is heard on a connection comes from a library. */
static __always_inline void l7_source(struct vg_l7_conn *c, u32 source)
{
	if (c->source == source)
		return;
	c->source = source;
	c->mode = VG_L7_LISTENING;
	c->spoken &= L7_WHOLE;
	c->run = 0;
	c->frames = false;
	c->at[0] = c->at[1] = 0;
	c->end[0] = c->end[1] = 0;
}

/* Names a session that is on no socket: as no cookie or kernel address is. */
static __always_inline u64 l7_no_socket(u64 session, u32 pid)
{
	return 1ull << 62 | ((u64)pid << 40 ^ session);
}

/* A session that is on no socket, from now on. */
static __noinline struct vg_l7_conn *l7_stranger(u64 conn)
{
	struct vg_l7_conn fresh = {};

	fresh.netns = bpf_get_current_task_btf()->nsproxy->net_ns->ns.inum;
	bpf_map_update_elem(&vg_l7_conns, &conn, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&vg_l7_conns, &conn);
}

static __noinline int l7_plaintext(u64 conn, u64 buf, u64 size, u32 what)
{
	struct vg_l7_conn *c = bpf_map_lookup_elem(&vg_l7_conns, &conn);
	struct l7_said said = {};
	u32 dir = what >> 8 & 1;

	if (!c) {
		c = l7_stranger(conn);
		if (!c)
			return 0;
	}
	l7_source(c, what & 0xff);
	if (!l7_wanted(c, conn))
		return 0;
	said.conn = conn;
	said.buf = (const void *)buf;
	said.pos = c->end[dir];
	if (dir == VG_L7_SENT)
		said.flags = VG_L7_F_SENT;
	if (c->spoken & L7_WHOLE && !(c->spoken & L7_SPOKEN(dir)))
		said.flags |= VG_L7_F_BEGINS;
	if (size > 0x7fffffff)
		size = 0x7fffffff;
	l7_passed(c, dir, said.pos, size, l7_segment(c, dir, &said, size));
	return 0;
}

SEC("uprobe")
int vg_l7_enter(struct pt_regs *ctx)
{
	struct pt_regs___user *r = (void *)ctx;
	u64 id = bpf_get_current_pid_tgid(), cookie = bpf_get_attach_cookie(ctx);
	struct l7_library_call call = {};

	if (!listened(bpf_get_current_task_btf()))
		return 0;
	call.session = l7_arg0(r);
	call.buf = l7_arg1(r);
	if (cookie & L7_COOKIE_LENGTH)
		call.length = l7_arg3(r);
	call.dir = L7_COOKIE_DIR(cookie);
	call.source = L7_COOKIE_SOURCE(cookie);
	bpf_map_update_elem(&vg_l7_library_calls, &id, &call, BPF_ANY);
	return 0;
}

/* Also as a return probe. */
SEC("uprobe")
int vg_l7_leave(struct pt_regs *ctx)
{
	struct pt_regs___user *r = (void *)ctx;
	u64 id = bpf_get_current_pid_tgid(), size = 0, *conn;
	struct l7_library_call *found = bpf_map_lookup_elem(&vg_l7_library_calls, &id), call;
	struct l7_session s = {};
	s32 result = l7_result(r);

	if (!found)
		return 0;
	call = *found;
	bpf_map_delete_elem(&vg_l7_library_calls, &id);
	if (result <= 0)
		return 0;
	size = result;
	if (call.length && bpf_probe_read_user(&size, sizeof(size), (const void *)call.length))
		return 0;
	if (!size)
		return 0;
	s.pid = id >> 32;
	s.session = call.session;
	conn = bpf_map_lookup_elem(&vg_l7_sessions, &s);
	return l7_plaintext(conn ? *conn : l7_no_socket(call.session, s.pid), call.buf, size, call.source | call.dir << 8);
}

#if defined(__TARGET_ARCH_x86)

/* The socket that a crypto/tls.Conn is on: its first field is an interface, whose value is a *net.TCPConn, whose first field is
 * a *net.netFD, whose poll.FD has the descriptor behind a lock of 16 bytes (so since Go 1.9). 0 when that is no TCP socket. */
static __always_inline u64 l7_go_socket(u64 tls)
{
	struct l7_call k = {};
	struct vg_l7_conn *c;
	u64 at = 0, fd = 0;

	if (bpf_probe_read_user(&at, 8, (const void *)tls + 8) || bpf_probe_read_user(&at, 8, (const void *)at) ||
	    bpf_probe_read_user(&fd, 8, (const void *)at + 16) || fd > 0x7fffffff || !l7_tcp(&k, fd, 1))
		return 0;
	c = bpf_map_lookup_elem(&vg_l7_conns, &k.conn);
	if (!c)
		c = l7_meet(&k);
	/* One that speaks in the clear is another's: what was read was no TCPConn. */
	if (!c || (c->source == VG_L7_CLEAR && c->mode == VG_L7_LISTENING && c->run))
		return 0;
	return k.conn;
}

/* crypto/tls.(*Conn).Write where its arguments still are in registers, and Read where it copies out what it has decrypted. */
SEC("uprobe")
int vg_l7_go(struct pt_regs *ctx)
{
	struct pt_regs___user *r = (void *)ctx;
	u64 cookie = bpf_get_attach_cookie(ctx), tls = r->ax, buf = r->bx, size = r->cx, conn;
	struct {
		u64 base, len, cap, at;
	} reader;

	if (!listened(bpf_get_current_task_btf()))
		return 0;
	/* (*Conn).Read keeps its receiver where its caller has left room for it: above the return address. */
	if (L7_COOKIE_DIR(cookie) == VG_L7_RECEIVED && bpf_probe_read_user(&tls, 8, (const void *)r->bp + 16))
		return 0;
	if (cookie & L7_COOKIE_READER) {
		if (bpf_probe_read_user(&reader, sizeof(reader), (const void *)r->ax) || reader.at > reader.len)
			return 0;
		buf = reader.base + reader.at;
		size = reader.len - reader.at < size ? reader.len - reader.at : size;
	}
	if (!size)
		return 0;
	conn = l7_go_socket(tls);
	return l7_plaintext(conn ?: l7_no_socket(tls, bpf_get_current_pid_tgid() >> 32), buf, size, cookie & 0x1ff);
}

#endif

/* SSL_free, gnutls_deinit: another session can have the same address from now on. */
SEC("uprobe")
int vg_l7_free(struct pt_regs *ctx)
{
	struct pt_regs___user *r = (void *)ctx;
	struct l7_said said = { .flags = VG_L7_F_CLOSED };
	struct l7_session s = {};
	struct vg_l7_conn *c;

	s.pid = bpf_get_current_pid_tgid() >> 32;
	s.session = l7_arg0(r);
	bpf_map_delete_elem(&vg_l7_sessions, &s);
	said.conn = l7_no_socket(s.session, s.pid);
	c = bpf_map_lookup_elem(&vg_l7_conns, &said.conn);
	if (!c)
		return 0;
	if (c->mode == VG_L7_LISTENING)
		l7_emit_bare(c, &said, bpf_get_current_task_btf());
	bpf_map_delete_elem(&vg_l7_conns, &said.conn);
	return 0;
}

#endif
