//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Policies about the network.
 *
 * Hooks, and why:
 *   cgroup connect4/6, sendmsg4/6,   before it happens, in the caller's context, whatever the call (connect, sendto, MSG_FASTOPEN,
 *     bind4/6, sock_create           io_uring); at the root of cgroup v2, so that every process passes
 *   cgroup_skb ingress               the SYN to a listener and the datagram that nobody asked for, before they are delivered;
 *                                    answers of name servers, before the program knows them
 *   cgroup_skb egress, ingress       nothing passes through a socket that was cut; SCTP and ICMP, which have no other hook
 *   tp_btf/inet_sock_set_state       who begins to listen, on a port that the kernel chose too
 *   sys_exit of socket, recvmsg,     sockets that no cgroup hook sees, by SIGKILL before the call returns
 *     recvmmsg, pidfd_getfd
 *   tp_btf/sys_exit                  kills where the policy says so what a cgroup hook refused
 *   iter/task_file                   what is open when policies change
 *   syscall                          names that the agent has read
 * Works from 5.17 with BTF and cgroup v2; needs no trampoline. Fails closed for what it cannot read of a process under a
 * policy, open for a socket whose process it does not know, which is counted (VG_LOST_SOCKET_STORAGE).
 *
 * A process under no policy costs one missed look-up at each hook; its packets that of their socket's storage when it is a
 * listener or one for datagrams, and nothing else.
 *
 * Read network.h first: what tables say. Then owner.h, whose policies a packet is under; calls.h, listen.h, packets.h,
 * names.h, exits.h and cut.h are the hooks, in the order above.
 */
#include "calls.h"
#include "cut.h"
#include "exits.h"
#include "listen.h"
#include "packets.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
