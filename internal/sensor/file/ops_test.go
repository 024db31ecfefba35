// SPDX-License-Identifier: Apache-2.0

package file

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// cstring is s as a system call wants it. The garbage collector does not see the result: for tests, in the
// argument list of the call that uses it, where the memory is still warm.
func cstring(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(b))
}

func errno(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
