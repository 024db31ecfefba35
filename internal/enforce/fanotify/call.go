// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bytes"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// call is what is known of the system call in which a thread waits for an answer. fanotify itself does not tell how a file
// is opened: the event's own descriptor is opened as the group asked for.
//
// /proc/TID/syscall has the registers as the kernel took them, which the waiting thread cannot change any more. What is
// not in registers is not believed: the flags of openat2 are in memory that other threads can write, and io_uring opens
// in a call, or in a thread, that says nothing of the open. Such an open counts as one for reading and writing.
type call struct {
	exec        bool // execve: what it opens is judged as executed
	read, write bool
}

// callOf looks at the call in which a thread waits.
func callOf(tid int32, patience time.Duration) call {
	var buf [256]byte
	// The event is there before its thread sleeps, and only of a sleeping thread the registers are told. Mostly that is a
	// moment; on a busy machine the thread may have to wait for a processor first.
	const eager = 100
	end := time.Now().Add(patience)
	for n := 0; n < eager || time.Now().Before(end); n++ {
		b := readProc(tid, "/syscall", buf[:])
		if len(b) == 0 {
			break
		}
		if !bytes.HasPrefix(b, []byte("running")) {
			return parseCall(b)
		}
		if n < eager {
			runtime.Gosched()
		} else {
			time.Sleep(50 * time.Microsecond)
		}
	}
	return call{read: true, write: true}
}

// parseCall reads proc(5)'s "NR ARG0 … ARG5 SP PC", arguments in hexadecimal.
func parseCall(b []byte) call {
	fields := bytes.Fields(b)
	if len(fields) < 9 {
		return call{read: true, write: true}
	}
	nr, err := strconv.Atoi(string(fields[0]))
	if err != nil {
		return call{read: true, write: true}
	}
	switch nr {
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT:
		return call{exec: true}
	}
	flags, ok := openFlags(nr, func(i int) uint64 {
		text, _ := bytes.CutPrefix(fields[1+i], []byte("0x"))
		v, err := strconv.ParseUint(string(text), 16, 64)
		if err != nil {
			return unix.O_RDWR
		}
		return v
	})
	if !ok {
		return call{read: true, write: true}
	}
	return accessOf(flags)
}

// accessOf says what open(2) with these flags may do. 3 is an access mode that only ioctl can use, and asks for both
// permissions.
func accessOf(flags uint64) call {
	var c call
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		c.read = true
	case unix.O_WRONLY:
		c.write = true
	default:
		c.read, c.write = true, true
	}
	if flags&(unix.O_CREAT|unix.O_TRUNC) != 0 {
		c.write = true
	}
	return c
}
