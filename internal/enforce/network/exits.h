/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What can only be ended when it has happened: a socket of a family that no other hook sees (packet, vsock, …), and one that
 * another process passed on. SIGKILL, before the system call returns to its caller: the caller runs no instruction with what
 * it got. Another thread of it can, for the microseconds until the signal reaches it, if it guesses the descriptor.
 *
 * Run by the agent's dispatcher of system calls, for the numbers of these calls only.
 */
#ifndef VIGIE_NETWORK_EXITS_H
#define VIGIE_NETWORK_EXITS_H

#include "calls.h"
#include "loop.h"
#include "regs.h"

#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define VG_SCM_STEPS    320 /* control messages and descriptors of one message: the kernel passes 253 at most */
#define VG_MMSG_MOST    64  /* messages of one recvmmsg; what is in later ones is not looked at */

SEC("tp_btf/sys_exit")
int vg_net_exit_socket(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	const struct vg_subject *s;
	struct vg_net_query q = {};
	u32 family;

	if ((s64)ctx[1] < 0)
		return 0;
	family = vg_sys_arg0(r);
	switch (family) {
	case AF_INET: /* see vg_net_sock_create */
	case AF_INET6:
	case AF_UNIX: /* does not leave the host */
	case AF_NETLINK:
	case AF_ALG:
		return 0;
	}
	s = current_subject();
	if (!s || !carries(VG_OP_SOCKET))
		return 0;
	if (!refuse_socket(s, &q, family, vg_sys_arg1(r) & 0xf, VG_PROTO_OTHER, SAYS(VG_OP_SOCKET, VG_HOOK_SYS_EXIT) | SAYS_KILLED))
		bpf_send_signal(9 /* SIGKILL */);
	return 0;
}

/* Asks about a connection; false when sk is none. */
static __always_inline bool ask_about(struct vg_net_query *q, struct vg_net_ends *local, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family), protocol = BPF_CORE_READ(sk, sk_protocol);
	u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	u16 own = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));

	if (bpf_core_type_exists(struct mptcp_sock) && protocol == IPPROTO_MPTCP) {
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first) ?: sk;
		state = BPF_CORE_READ(sk, __sk_common.skc_state);
	}
	if ((family != AF_INET && family != AF_INET6) || state == TCP_CLOSE || state == TCP_LISTEN)
		return false;
	if (family == AF_INET) {
		vg_map_ipv4(q->addr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
		vg_map_ipv4(local->addr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	} else {
		bpf_core_read(q->addr, 16, &sk->__sk_common.skc_v6_daddr);
		bpf_core_read(local->addr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	}
	q->protocol = vg_net_protocol(protocol);
	/* What came out of a listener's queue has its backlog. */
	if (BPF_CORE_READ(sk, sk_max_ack_backlog)) {
		q->direction = VG_NET_INGRESS;
		q->port = own;
		local->port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	} else {
		q->direction = VG_NET_EGRESS;
		q->port = BPF_CORE_READ(sk, __sk_common.skc_dport);
		local->port = own;
	}
	return true;
}

/* Kills the current process for a socket that it got and may not have. */
static __noinline int receive(u32 fd)
{
	struct task_struct *t = bpf_get_current_task_btf();
	const struct vg_subject *s = vg_subject_of(t->tgid);
	struct sock *sk = vg_sock_of_fd(t, fd);
	struct vg_net_query q = {};
	struct vg_net_ends local = {};

	if (!s || !sk || !ask_about(&q, &local, sk))
		return 0;
	if (vg_judge_net(s, &q) == VG_ACT_ALLOW)
		return 0;
	if (vg_action(q.answer.decision) != VG_ACT_AUDIT)
		bpf_send_signal(9 /* SIGKILL */);
	tell(&q, &local, 0, SAYS(VG_OP_RECEIVE, VG_HOOK_SYS_EXIT) | SAYS_KILLED);
	return 0;
}

/* struct user_msghdr, struct cmsghdr: user space's, the same on every 64-bit target */
struct vg_msghdr {
	u64 name;
	u64 namelen;
	u64 iov, iovlen;
	u64 control, controllen;
	u64 flags;
};

struct vg_cmsghdr {
	u64 len;
	u32 level, type;
};

struct vg_scm {
	u64 at, end; /* of the next control message; of all */
	u64 fd;      /* of the next descriptor */
	u32 left;    /* descriptors */
	u32 pad;
};

static long read_control(u32 i, struct vg_scm *m)
{
	struct vg_cmsghdr h = {};
	u32 fd = 0;

	if (m->left) {
		if (bpf_probe_read_user(&fd, sizeof(fd), (void *)m->fd))
			return 1;
		m->fd += sizeof(fd);
		m->left--;
		receive(fd);
		return 0;
	}
	if (m->at + sizeof(h) > m->end || bpf_probe_read_user(&h, sizeof(h), (void *)m->at) || h.len < sizeof(h))
		return 1;
	if (h.level == SOL_SOCKET && h.type == SCM_RIGHTS) {
		m->fd = m->at + sizeof(h);
		m->left = (h.len - sizeof(h)) / sizeof(fd);
	}
	m->at += (h.len + 7) & ~7ull;
	return 0;
}

static __noinline int read_message(u64 user)
{
	struct vg_msghdr h = {};
	struct vg_scm m = {.left = vg_loop_zero, .fd = vg_loop_zero};

	if (bpf_probe_read_user(&h, sizeof(h), (void *)user) || h.controllen < sizeof(struct vg_cmsghdr))
		return 0;
	m.at = h.control;
	m.end = h.control + h.controllen;
	bpf_loop(VG_SCM_STEPS, read_control, &m, 0);
	return 0;
}

/* Whether the current process must be asked about, and the call was on a unix socket: no other passes descriptors. */
static __always_inline bool can_receive(struct task_struct *t, u32 fd)
{
	struct sock *sk;

	if (!vg_subject_of(t->tgid) || !carries(VG_OP_RECEIVE))
		return false;
	sk = vg_sock_of_fd(t, fd);
	return sk && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX;
}

SEC("tp_btf/sys_exit")
int vg_net_exit_recvmsg(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();

	if ((s64)ctx[1] >= 0 && can_receive(t, vg_sys_arg0(r)))
		read_message(vg_sys_arg1(r));
	return 0;
}

struct vg_mmsg {
	u64 user;
	u32 count;
	u32 pad;
};

static long read_one(u32 i, struct vg_mmsg *m)
{
	if (i >= m->count)
		return 1;
	read_message(m->user + i * (sizeof(struct vg_msghdr) + 8));
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_net_exit_recvmmsg(u64 *ctx)
{
	struct pt_regs *r = (struct pt_regs *)ctx[0];
	struct task_struct *t = bpf_get_current_task_btf();
	struct vg_mmsg m = {.user = vg_sys_arg1(r), .count = ctx[1]};

	if ((s64)ctx[1] > 0 && can_receive(t, vg_sys_arg0(r)))
		bpf_loop(VG_MMSG_MOST, read_one, &m, 0);
	return 0;
}

SEC("tp_btf/sys_exit")
int vg_net_exit_getfd(u64 *ctx)
{
	if ((s64)ctx[1] >= 0 && carries(VG_OP_RECEIVE))
		receive(ctx[1]);
	return 0;
}

/*
 * Kills who a cgroup hook has refused something under a policy that kills. Attached by itself, so that every call of every
 * kind is a place to do it (sendmmsg, io_uring, 32-bit ones), and only while there is such a policy.
 */
SEC("tp_btf/sys_exit")
int vg_net_kill(u64 *ctx)
{
	struct task_struct *t;
	u64 *start;
	u32 pid;

	if (!vg_net_pending)
		return 0;
	t = bpf_get_current_task_btf();
	pid = t->tgid;
	start = bpf_map_lookup_elem(&vg_net_kills, &pid);
	if (!start)
		return 0;
	if (*start == t->group_leader->start_boottime)
		bpf_send_signal(9 /* SIGKILL */);
	if (!bpf_map_delete_elem(&vg_net_kills, &pid))
		__sync_fetch_and_add(&vg_net_pending, -1);
	return 0;
}

#endif
