/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel's types of sockets, as far as this sensor reads them (see bpf/kernel.h for the rules). */
#ifndef VIGIE_SOCKET_NET_H
#define VIGIE_SOCKET_NET_H

#include "kernel.h"

#define AF_UNSPEC 0
#define AF_UNIX   1
#define AF_INET   2
#define AF_INET6  10

#define SOCK_STREAM    1
#define SOCK_RAW       3
#define SOCK_SEQPACKET 5

#define IPPROTO_TCP   6
#define IPPROTO_UDP   17
#define IPPROTO_MPTCP 262

#define SOCK_BINDPORT_LOCK 8 /* include/net/sock.h */

#define PF_EXITING 0x4 /* include/linux/sched.h */

#define EINTR        4
#define EBADF        9
#define EFAULT       14
#define ENOTSOCK     88
#define ECONNABORTED 103
#define EISCONN      106
#define EALREADY     114
#define EINPROGRESS  115
#define ECANCELED    125
#define ERESTARTSYS  512 /* 512 to 516: a signal came, the call is restarted or becomes EINTR */
#define ERESTART_MAX 516

/* include/net/tcp_states.h, part of what user space sees */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum sock_flags {
	SOCK_DONE = 1,
};

struct in6_addr {
	union {
		u32 u6_addr32[4];
	} in6_u;
};

typedef struct {
	s64 counter;
} atomic64_t;

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	u32 sk_max_ack_backlog;
	u8 sk_userlocks : 4;
	u16 sk_type;
	u16 sk_protocol;
	struct socket *sk_socket;
	struct pid *sk_peer_pid;
};

struct socket {
	struct sock *sk;
};

struct inet_sock {
	struct sock sk;
	u16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	void *icsk_ulp_data;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
	u32 segs_in;
	u32 segs_out;
	u32 total_retrans;
	u32 srtt_us;
	bool is_mptcp;
};

struct mptcp_subflow_context {
	u32 request_join : 1;
	u32 mp_join : 1;
	struct sock *conn;
};

struct mptcp_sock {
	struct sock *first;
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[1];
};

struct unix_sock {
	struct unix_address *addr;
	struct path path;
	struct sock *peer;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif
