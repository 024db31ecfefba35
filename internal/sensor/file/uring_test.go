// SPDX-License-Identifier: Apache-2.0

package file

import (
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// The parts of linux/io_uring.h that one request at a time needs.
type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct{ head, tail, mask, entries, flags, dropped, array, _ uint32 }
	_                                                                      uint64
	cq                                                                     struct{ head, tail, mask, entries, overflow, cqes, flags, _ uint32 }
	_                                                                      uint64
}

type uringRequest struct {
	opcode, flags uint8
	_             uint16
	fd            int32
	_             uint64
	addr          uint64
	length, op    uint32
	data          uint64
	_             uint32
	fileIndex     uint32
	_             [2]uint64
}

const (
	uringOpenat   = 18
	uringUnlinkat = 36
	uringAsync    = 1 << 4 // IOSQE_ASYNC: by a worker thread
)

// uring does one request and returns its result; a path is its argument.
func uring(t *testing.T, req uringRequest, path string) int32 {
	t.Helper()
	var params uringParams
	r, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if e != 0 {
		t.Skipf("needs io_uring (kernel.io_uring_disabled = 0): %v", e)
	}
	fd := int(r)
	defer unix.Close(fd)
	maps := make([][]byte, 3)
	for i, m := range []struct {
		offset int64
		size   uint32
	}{{0, params.sq.array + 4*params.sqEntries}, {0x8000000, params.cq.cqes + 16*params.cqEntries}, {0x10000000, 64 * params.sqEntries}} {
		b, err := unix.Mmap(fd, m.offset, int(m.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Munmap(b) }()
		maps[i] = b
	}
	name := append([]byte(path), 0)
	req.addr = uint64(uintptr(unsafe.Pointer(&name[0])))
	*(*uringRequest)(unsafe.Pointer(&maps[2][0])) = req
	*(*uint32)(unsafe.Pointer(&maps[0][params.sq.tail])) = 1
	if _, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), 1, 1, 1 /* IORING_ENTER_GETEVENTS */, 0, 0); e != 0 {
		t.Fatal(e)
	}
	runtime.KeepAlive(name)
	return *(*int32)(unsafe.Pointer(&maps[1][params.cq.cqes+8]))
}

func TestIOUring(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	p := place{t: t, dir: testkit.RealPath(t, t.TempDir())}
	for name, flags := range map[string]uint8{"by the caller": 0, "by a worker": uringAsync} {
		fd := uring(t, uringRequest{opcode: uringOpenat, flags: flags, fd: unix.AT_FDCWD, op: unix.O_CREAT | unix.O_WRONLY, length: 0o640}, p.at(name))
		if fd < 0 {
			t.Fatalf("open returned %v", unix.Errno(-fd))
		}
		unix.Close(int(fd))
		ev := k.Await(t, "the open "+name, func(e *model.Event) bool {
			return e.File != nil && e.File.Path == p.at(name) && e.Key.PID == uint32(testkit.PID())
		})
		if f := ev.File; f.Op != model.FileCreate || f.Mode != 0o640 || f.Flags&unix.O_CREAT == 0 || f.PathFrom != "object" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if got := uring(t, uringRequest{opcode: uringUnlinkat, fd: unix.AT_FDCWD}, p.at("by the caller")); got != 0 {
		t.Fatalf("unlink returned %v", unix.Errno(-got))
	}
	if err := k.Host.ReadLosses(); err != nil {
		t.Fatal(err)
	}
	if n := k.Losses.Counter("kernel", "io uring file").Load(); n == 0 {
		t.Error("a file removed by io_uring is neither an event nor a loss")
	}
}
