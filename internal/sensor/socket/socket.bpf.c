//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sockets: who connects to whom, who listens, how much was said.
 *
 * Hooks, and why:
 *   tp_btf/inet_sock_set_state       TCP, once for each change of state and never for a packet; global, so that every
 *                                    network namespace is seen. Runs in softirq: the process is in the socket's storage
 *   sys_exit of connect, accept(4),  what only the caller's side knows: errors before a packet was sent, who took a
 *     listen, bind                   connection, unix sockets, UDP
 *   cgroup bind4/6, connect4/6,      UDP's owner, in process context and with a socket that storage can be put into;
 *     sendmsg4/6, sock_release       attached to the root of cgroup v2, always allow
 *   cgroup sock_create               who makes a socket that speaks ICMP
 *   cgroup_skb ingress, egress       count packets of UDP and ICMP, and note where the first ones are translated to; of TCP
 *                                    all others pass through the first lines
 *   tp_btf/inet_sk_error_report      errors that ICMP brings to sockets without connection
 *   iter/bpf_sk_storage_map          counters of what is open, when a flow is reported
 *   iter/task_file                   what was open before the agent; those counters, where the other is forbidden
 * Works from 5.15 with BTF; needs no trampoline. Fails open: it only observes, and counts what it loses.
 *
 * Not seen: accept by io_uring or by a 32-bit process (the close is seen, and names who listens), an immediate error of
 * sendto with MSG_FASTOPEN, unix datagrams, SCTP, vsock; of raw sockets all but ICMP. A listener's socket is shown as
 * whoever listened; who accepts is shown by the connection.
 */
#include "record.h"
#include "tcp.h"
#include "udp.h"
#include "unix.h"
#include "calls.h"
#include "inventory.h"
#include "flow.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
