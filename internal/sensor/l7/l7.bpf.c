//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What processes say on TCP connections, as far as it takes to know requests and answers.
 *
 * Hooks, and why:
 *   sys_exit of read, write and      by then the bytes are in the caller's memory, or still are: who speaks is the current
 *     their kin                      process, the order is the process's own, and nothing is seen twice
 *   tp_btf/inet_sock_set_state       the end of a connection
 *   uprobes in TLS libraries         the same bytes before they are encrypted (library.h)
 *   sys_exit of mmap, exec           which files have the code of such libraries (files.h)
 * Works from 5.15 with BTF; needs no trampoline. Fails open: it only observes, and counts what it loses.
 *
 * Of what one side says in a row only the first bytes are copied; bodies stay where they are, and cost a comparison. The
 * kernel's own sequence numbers say how much was passed over, whatever moved it.
 *
 * A writer's memory is read after the kernel has taken the bytes: a thread that changes its buffer while another is still
 * in write(2) on it can make this see the change. Pages that were swapped out in between are counted as unreadable.
 *
 * Not seen: bytes moved by io_uring, by 32-bit processes, on unix sockets, and of sendfile and splice all but the number.
 */
#include "conn.h"
#include "calls.h"
#include "files.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
