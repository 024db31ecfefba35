/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel's types of packets, as far as these programs read them (see bpf/kernel.h for the rules). */
#ifndef VIGIE_PODS_TYPES_H
#define VIGIE_PODS_TYPES_H

#include "kernel.h"

#define AF_INET  2
#define AF_INET6 10

#define SOCK_RAW 3

#define VG_ETH_P_IP 0x0800

#define IPPROTO_TCP     6
#define IPPROTO_UDP     17
#define IPPROTO_SCTP    132
#define IPPROTO_UDPLITE 136

#define VG_SCTP_INIT 1

/* include/net/tcp_states.h */
enum {
	TCP_SYN_SENT = 2,
	TCP_LISTEN = 10,
};

/* Of the flags of a TCP header */
#define VG_TCP_SYN 0x02
#define VG_TCP_RST 0x04
#define VG_TCP_ACK 0x10

/* include/uapi/linux/netfilter.h */
#define NF_DROP   0
#define NF_ACCEPT 1

#define IP_CT_IS_REPLY 3 /* include/uapi/linux/netfilter/nf_conntrack_common.h: from here on, but for 7 */
#define VG_CT_INFO     7

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
	u32 sk_max_ack_backlog;
};

struct sk_buff {
	struct sock *sk;
	unsigned int len, data_len; /* data_len of len are not at data, but in pages */
	u16 transport_header; /* from head */
	unsigned char *head;
	unsigned char *data;
	unsigned long _nfct;
};

struct nf_hook_state {
	u8 hook;
	u8 pf;
};

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

#pragma clang attribute pop

#endif
