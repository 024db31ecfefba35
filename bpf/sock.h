/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whose socket it is: the process that connected, bound or listened, kept in the socket itself, so that no
 * hash table is on the packet path and nothing outlives the socket. The socket sensor writes it and shares
 * the map (kernel.Host.Share); who includes this header and loads later reads the same map.
 */
#ifndef VIGIE_SOCK_H
#define VIGIE_SOCK_H

#include "abi.h"
#include "task.h"

/* vg_sock.flags */
#define VG_SK_LISTENER  0x1  /* TCP in LISTEN, UDP bound to a port that was asked for */
#define VG_SK_OUTBOUND  0x2  /* connect was called, or a datagram was sent to an address */
#define VG_SK_INBOUND   0x4  /* came out of a listener's queue */
#define VG_SK_CONNECTED 0x8  /* a connect or accept was reported: a close is owed */
#define VG_SK_OWN_CLOSE 0x10 /* its process has begun to close it, so it was accepted */
#define VG_SK_PRE       0x20 /* existed before the agent */
#define VG_SK_PEERS     0x40 /* UDP: was sent to more than one address */

#define VG_S_IFMT   0170000 /* include/uapi/linux/stat.h */
#define VG_S_IFSOCK 0140000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock;

struct socket___fd {
	struct sock *sk;
};

#pragma clang attribute pop

/* An IPv4 address as records and policies have it: ::ffff:a.b.c.d. */
static __always_inline void vg_map_ipv4(void *to, u32 addr)
{
	u32 *w = to;

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = addr;
}

/* The socket behind a file descriptor of the current process, or NULL. The descriptor may have been closed or
 * reused by another thread since the call: then this is another socket, never bad memory. */
static __always_inline struct sock *vg_sock_of_fd(struct task_struct *t, u32 fd)
{
	struct fdtable *fdt = t->files->fdt;
	struct file **files, *file = 0;
	struct socket___fd *socket;

	if (!fdt || fd >= fdt->max_fds)
		return 0;
	files = fdt->fd;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & VG_S_IFMT) != VG_S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

#define VG_SOCK_RECENT 16 /* power of two */

struct vg_sock {
	struct vg_image owner; /* pid 0: not known */
	u32 tid;
	u32 flags;
	u64 cookie;
	u64 since; /* CLOCK_BOOTTIME, ns: connect called; from then on established or bound */
	/* UDP only, counted by packet, payload bytes; TCP keeps its own. */
	u64 bytes_out, bytes_in;
	u64 packets_out, packets_in;
	u64 sk;       /* UDP: the socket's address, to read what the cgroup hooks do not show; valid while this storage is */
	u8 peer[16];  /* UDP: where the last unconnected datagram went; IPv4 as ::ffff:a.b.c.d */
	u16 peer_port; /* network byte order */
	u16 pad[3];
	u32 recent[VG_SOCK_RECENT]; /* UDP listeners: hashes of who sent lately, so that an answer is known as one */
};

/*
 * As large as there are sockets. A child of a listener gets a copy of the listener's. When the kernel has
 * no memory for one (the socket's option memory, net.core.optmem_max), VG_LOST_SOCKET_STORAGE is counted and the
 * socket's connects and close are not reported.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct vg_sock);
} vg_socks SEC(".maps");

#endif
