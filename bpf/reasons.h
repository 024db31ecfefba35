/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Why something was lost in the kernel. The one list: Go reads the names from the object's BTF, drops the
 * VG_LOST_ prefix and writes them with spaces, so a new reason is one line here.
 */
#ifndef VIGIE_REASONS_H
#define VIGIE_REASONS_H

enum vg_lost {
	VG_LOST_SECURITY_RING_FULL,  /* the agent did not read fast enough: a process or security event */
	VG_LOST_TELEMETRY_RING_FULL, /* the same for a file, socket or DNS event */
	VG_LOST_NO_AGENT,            /* between two agents of an upgrade, after the lease of the first had ended */
	VG_LOST_SCRATCH_MISSING,     /* the per-CPU scratch space could not be had: never seen, counted all the same */
	VG_LOST_SOCKET_STORAGE,      /* no memory for a socket's storage: its owner is not known */
	VG_LOST_COMPAT_SYSCALL,      /* a 32-bit system call on a 64-bit kernel: numbers differ, not decoded */
	VG_LOST_FOLD_EVICTED,        /* folded counts that were evicted before they were reported */
	VG_LOST_DNS_UNREADABLE,      /* a DNS packet whose bytes could not be read */
	VG_LOST_FILE_CLOSED,         /* an open whose descriptor another thread closed before it could be read */
	VG_LOST_ACCEPT_TABLE_FULL,   /* too many open accepted connections: closes name the listener's process */
	VG_LOST_IO_URING_FILE,       /* a change of a file by io_uring whose arguments are gone, or an open into its own table */
	VG_LOST_SUBJECT_TABLE_FULL,  /* more processes than the table of policies has room for: one is under no policy */
	VG_LOST_POLICY_SLOTS_FULL,   /* a process is selected by more policies than fit: the last are not in force for it */
	VG_LOST_DNS_NAMES_FULL,      /* an address of a DNS answer could not be kept for a policy's names */
	VG_LOST_POLICY_TABLE_GONE,   /* a policy's table was not where a process's entry says: nothing was decided */
	VG_LOST_PROBE_EVENT,         /* a hit of a TracingPolicy's hook that could not be reported whole */
	VG_LOST_L7_RING_BUSY,        /* what was said on a connection, given up to leave the ring to other events */
	VG_LOST_L7_UNREADABLE,       /* what was said on a connection, in memory that could not be read */
	VG_LOST_L7_FRAMES,           /* an HTTP/2 connection with more frames in one call than are followed: it is given up */
	VG_LOST_REASONS,             /* number of reasons */
};

#endif
