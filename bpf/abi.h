/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What crosses from the kernel to the agent: records in two rings, each a vg_header, a fixed part that the
 * sensor defines, and a variable tail. bpf2go makes the Go types; nobody mirrors them by hand. Fixed
 * widths, explicit padding, little endian on every target.
 *
 * Two rings, so that noise cannot push out what matters: vg_security carries process and security
 * records, vg_telemetry carries files, sockets and DNS.
 */
#ifndef VIGIE_ABI_H
#define VIGIE_ABI_H

#include "kernel.h"
#include "reasons.h"

/* Record types. The number is part of the ABI: append only. */
enum vg_type {
	VG_NONE,
	VG_EXEC,
	VG_FORK,
	VG_EXIT,
	VG_EXEC_FAILED,
	VG_CREDENTIAL,
	VG_NAMESPACE,
	VG_PTRACE,
	VG_MODULE,
	VG_BPF,
	VG_MOUNT,
	VG_CAPABILITY,
	VG_CGROUP,
	VG_FILE,
	VG_CONNECT,
	VG_ACCEPT,
	VG_LISTEN,
	VG_CLOSE,
	VG_DNS,
	VG_VERDICT,
	VG_PROBE,
	VG_L7,
	VG_TYPES, /* number of types */
};

/* vg_header.flags */
#define VG_F_PRE_EXISTING 0x1 /* from the start-up inventory */
#define VG_F_CUT          0x2 /* the tail is longer than what fits */
#define VG_F_NO_PROCESS   0x4 /* no process could be named: pid, start and exec are zero */

struct vg_header {
	u16 type;  /* enum vg_type */
	u16 flags; /* VG_F_* */
	u32 count; /* how many identical things: 1, or more when folded */
	u64 time;  /* CLOCK_BOOTTIME, ns */
	u64 start; /* process: start_boottime of the group leader, ns */
	u32 pid;   /* process: tgid */
	u32 exec;  /* process: self_exec_id */
	u32 tid;
	u32 pad;
};

/* Puts a type into the object's BTF, where bpf2go finds it. */
#define VG_EXPORT(kind, name) kind name *vg_export_##name __attribute__((unused))

/* Tail strings: lengths stand in the fixed part, bytes follow in that order, each with its final NUL
 * included in the length. A path's tail is its components, leaf first, each ended by NUL (path.h). */

#define VG_RING_SECURITY_BYTES  (4 << 20) /* 5,000 exec/s write about 4 MB/s: a second of agent silence */
#define VG_RING_TELEMETRY_BYTES (4 << 20) /* opens are folded; about 30,000 records */

/* The maps that all sensors share: the agent creates them once and hands them to every object. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, VG_RING_SECURITY_BYTES);
} vg_security SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, VG_RING_TELEMETRY_BYTES);
} vg_telemetry SEC(".maps");

/* Losses by reason; never full. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VG_LOST_REASONS);
	__type(key, u32);
	__type(value, u64);
} vg_losses SEC(".maps");

/* Whether an agent reads. Between two agents of an upgrade (internal/kernel/handover.go) the programs go on
 * alone until the lease ends; then they count what they would have said. */
struct vg_agent {
	u64 lease; /* CLOCK_BOOTTIME, ns; 0 while an agent reads */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_agent);
} vg_state SEC(".maps");

/* No agent reads just now: do not hold anything back for a later report, it would never be made. */
static __always_inline bool vg_alone(void)
{
	u32 zero = 0;
	struct vg_agent *s = bpf_map_lookup_elem(&vg_state, &zero);

	return s && s->lease;
}

static __always_inline bool vg_expired(u64 time)
{
	u32 zero = 0;
	struct vg_agent *s = bpf_map_lookup_elem(&vg_state, &zero);

	return s && s->lease && time > s->lease;
}

static __always_inline void vg_lose(enum vg_lost reason)
{
	u32 key = reason;
	u64 *n = bpf_map_lookup_elem(&vg_losses, &key);

	if (n)
		(*n)++;
}

/*
 * The length of what was read: n, or 0 where n is an error or more than max. The verifiers of 5.15 to 6.12
 * know a bound only of the very register that was compared, and the compiler likes to compare another one
 * (n - 1 < max, say). The barriers hold it to this one.
 */
static __always_inline u32 vg_read_len(long n, u32 max)
{
	barrier_var(n);
	if (n < 0)
		return 0;
	barrier_var(n);
	if (n > max)
		return 0;
	barrier_var(n);
	return n;
}

/*
 * Never with a wake-up: one costs 14-22 us on a virtual machine, a submit without one under 1 us. The agent
 * reads on a timer, 20 ms when busy and 100 ms when idle (internal/kernel/reader.go); to overrun a ring
 * within that takes 40 MB/s.
 */
static __always_inline long vg_emit_security(void *rec, u64 len)
{
	long err;

	if (vg_expired(((struct vg_header *)rec)->time)) {
		vg_lose(VG_LOST_NO_AGENT);
		return -1;
	}
	err = bpf_ringbuf_output(&vg_security, rec, len, BPF_RB_NO_WAKEUP);

	if (err)
		vg_lose(VG_LOST_SECURITY_RING_FULL);
	return err;
}

static __always_inline long vg_emit_telemetry(void *rec, u64 len)
{
	long err;

	if (vg_expired(((struct vg_header *)rec)->time)) {
		vg_lose(VG_LOST_NO_AGENT);
		return -1;
	}
	err = bpf_ringbuf_output(&vg_telemetry, rec, len, BPF_RB_NO_WAKEUP);

	if (err)
		vg_lose(VG_LOST_TELEMETRY_RING_FULL);
	return err;
}

#endif
