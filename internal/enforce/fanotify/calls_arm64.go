// SPDX-License-Identifier: Apache-2.0

package fanotify

import "golang.org/x/sys/unix"

// openFlags finds the flags of an open in the arguments of a call; false when it is none, or keeps them in memory. The
// numbers of 32-bit programs (arch/arm/tools/syscall.tbl) that are the same as one of these open no file.
func openFlags(nr int, arg func(int) uint64) (uint64, bool) {
	switch nr {
	case unix.SYS_OPENAT:
		return arg(2), true
	case unix.SYS_OPEN_BY_HANDLE_AT:
		return arg(2), true
	}
	return 0, false
}
