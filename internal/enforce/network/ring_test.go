// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

func unsafePointer[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// connectByRing connects by io_uring: a ring of one entry (include/uapi/linux/io_uring.h).
func connectByRing(fd int, to unix.Sockaddr) error {
	const (
		connect      = 16 // IORING_OP_CONNECT
		getEvents    = 1  // IORING_ENTER_GETEVENTS
		offCQRing    = 0x8000000
		offSQEs      = 0x10000000
		ringMapBytes = 4096
	)
	a, ok := to.(*unix.SockaddrInet4)
	if !ok {
		return fmt.Errorf("no IPv4 address: %v", to)
	}
	raw := &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: kernel.NetworkOrder(uint16(a.Port)), Addr: a.Addr}
	var params [30]uint32
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(ring))
	var maps [3][]byte
	for i, offset := range []int64{0, offCQRing, offSQEs} {
		m, err := unix.Mmap(int(ring), offset, ringMapBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return err
		}
		maps[i] = m
	}
	sq, cq, sqe := maps[0], maps[1], maps[2]
	sqe[0] = connect
	*(*int32)(unsafe.Pointer(&sqe[4])) = int32(fd)
	*(*uint64)(unsafe.Pointer(&sqe[8])) = unix.SizeofSockaddrInet4 // off: the address's length
	*(*uint64)(unsafe.Pointer(&sqe[16])) = uint64(uintptr(unsafe.Pointer(raw)))
	*(*uint32)(unsafe.Pointer(&sq[params[16]])) = 0 // array[0]
	atomic.AddUint32((*uint32)(unsafe.Pointer(&sq[params[11]])), 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, getEvents, 0, 0); errno != 0 {
		return errno
	}
	if res := *(*int32)(unsafe.Pointer(&cq[params[25]+8])); res < 0 {
		return syscall.Errno(-res)
	}
	return nil
}

// sendmmsg sends a datagram by the call that can send many.
func sendmmsg(fd int, to string) error {
	a := netip.MustParseAddrPort(to)
	raw := &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: kernel.NetworkOrder(a.Port()), Addr: a.Addr().As4()}
	data := []byte("x")
	iov := &unix.Iovec{Base: &data[0], Len: 1}
	message := struct {
		header unix.Msghdr
		length uint64
	}{header: unix.Msghdr{Name: (*byte)(unsafe.Pointer(raw)), Namelen: unix.SizeofSockaddrInet4, Iov: iov, Iovlen: 1}}
	if _, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), 1, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
