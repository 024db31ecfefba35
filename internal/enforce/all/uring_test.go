// SPDX-License-Identifier: Apache-2.0

package all

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openByRing opens a file for reading by io_uring: a ring of one entry (include/uapi/linux/io_uring.h).
func openByRing(name string) error {
	const (
		openat       = 18 // IORING_OP_OPENAT
		getEvents    = 1  // IORING_ENTER_GETEVENTS
		offSQRing    = 0
		offCQRing    = 0x8000000
		offSQEs      = 0x10000000
		sqeSize      = 64
		ringMapBytes = 4096
	)
	// struct io_uring_params: sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3], sq_off
	// (head, tail, ring_mask, ring_entries, flags, dropped, array, …), cq_off (head, tail, ring_mask, ring_entries, overflow, cqes, …)
	var params [30]uint32
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	sq, err := unix.Mmap(int(fd), offSQRing, ringMapBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	cq, err := unix.Mmap(int(fd), offCQRing, ringMapBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	sqes, err := unix.Mmap(int(fd), offSQEs, sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	sqes[0] = openat
	*(*int32)(unsafe.Pointer(&sqes[4])) = unix.AT_FDCWD
	*(*uint64)(unsafe.Pointer(&sqes[16])) = uint64(uintptr(unsafe.Pointer(path)))
	sqTail := (*uint32)(unsafe.Pointer(&sq[params[11]]))
	*(*uint32)(unsafe.Pointer(&sq[params[16]])) = 0 // array[0]
	atomic.AddUint32(sqTail, 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, getEvents, 0, 0); errno != 0 {
		return errno
	}
	res := *(*int32)(unsafe.Pointer(&cq[params[25]+8])) // cqes[0].res
	if res < 0 {
		return syscall.Errno(-res)
	}
	return unix.Close(int(res))
}
