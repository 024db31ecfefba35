/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel types that only TracingPolicies read (see bpf/kernel.h for the rules). */
#ifndef VIGIE_TRACING_TYPES_H
#define VIGIE_TRACING_TYPES_H

#include "abi.h"
#include "task.h"

#define AF_UNIX  1
#define AF_INET  2
#define AF_INET6 10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		u32 u6_addr32[4];
	} in6_u;
};

typedef struct {
	s64 counter;
} atomic64_t;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	u32 sk_mark;
};

struct socket {
	struct sock *sk;
};

struct sk_buff {
	struct sock *sk;
	unsigned char *head;
	u16 network_header;
	u32 mark;
};

struct filename {
	const char *name;
};

struct kiocb {
	struct file *ki_filp;
};

struct module {
	char name[56]; /* MODULE_NAME_LEN */
};

struct load_info {
	const char *name;
};

struct bpf_map {
	char name[16];
};

struct bpf_prog_aux {
	char name[16];
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct net_device {
	char name[16];
};


struct perf_event {
	struct {
		u32 type;
		u64 config;
	} attr;
};

struct nsproxy___children {
	struct time_namespace *time_ns_for_children;
};

struct bpf_iter_meta {
	u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
