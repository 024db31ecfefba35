/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel's types of TCP sockets, as far as this sensor reads them (see bpf/kernel.h for the rules). */
#ifndef VIGIE_L7_NET_H
#define VIGIE_L7_NET_H

#include "kernel.h"

#define AF_INET  2
#define AF_INET6 10

#define IPPROTO_TCP   6
#define IPPROTO_MPTCP 262

#define TCP_CLOSE 7 /* include/net/tcp_states.h */

#define MSG_PEEK  0x2
#define MSG_TRUNC 0x20

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

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
	unsigned short skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
};

struct inet_sock {
	struct sock sk;
	u16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 write_seq;
	u32 snd_una;
	u32 copied_seq;
	u32 rcv_nxt;
	u64 bytes_acked;
	u64 bytes_received;
};

struct mptcp_sock {
	struct sock *first;
};

#pragma clang attribute pop

#endif
