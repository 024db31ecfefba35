// SPDX-License-Identifier: Apache-2.0

package file

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawCall makes a raw system call. A string becomes a C string, an int the number that it is.
func rawCall(nr uintptr, args ...any) (int, error) {
	var raw [6]uintptr
	var kept [][]byte
	for i, a := range args {
		switch a := a.(type) {
		case string:
			b := append([]byte(a), 0)
			kept = append(kept, b)
			raw[i] = uintptr(unsafe.Pointer(&b[0]))
		case int:
			raw[i] = uintptr(a)
		}
	}
	r, _, e := unix.Syscall6(nr, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5])
	runtime.KeepAlive(kept)
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

// change is rawCall for what returns nothing but an error.
func change(nr uintptr, args ...any) error {
	_, err := rawCall(nr, args...)
	return err
}

// closing closes what an open returned.
func closing(fd int, err error) error {
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}
