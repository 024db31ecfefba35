// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// loadError is the kernel's answer to a program: its errno as it came, and the verifier's log.
type loadError struct {
	errno unix.Errno
	log   []string
}

func (e *loadError) Error() string {
	return strings.Join(append([]string{e.errno.Error()}, logTail(e.log, 1)...), ": ")
}
func (e *loadError) Unwrap() error { return e.errno }

// load loads spec, whose AttachTo names what in the kernel it is for.
//
// The call to the kernel is made here and not by the library for three reasons: the library copies
// the kernel's type table for each program that has a target, which for the probe's hundred programs
// takes seconds; it has no way to name the target of an lsm_cgroup program; and the errno is what the
// probe is about, so nothing should stand between.
func (e *env) load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	var target btf.TypeID
	if spec.AttachTo != "" {
		var err error
		if target, err = e.target(spec); err != nil {
			return nil, err
		}
	}
	insns := spec.Instructions
	if insns == nil {
		insns = returning(0)
	}
	var code bytes.Buffer
	if err := insns.Marshal(&code, byteOrder()); err != nil {
		return nil, atLoad(err)
	}
	fd, errno := progLoad(spec, code.Bytes(), target, nil)
	if errno != 0 {
		// Again, for the verifier's words: keeping a log costs more than the load itself.
		log := make([]byte, 16<<10)
		if fd, errno = progLoad(spec, code.Bytes(), target, log); errno != 0 {
			return nil, atLoad(&loadError{errno: errno, log: strings.Split(unix.ByteSliceToString(log), "\n")})
		}
	}
	prog, err := ebpf.NewProgramFromFD(fd)
	return prog, atLoad(err)
}

// byteOrder is the machine's. The assembler wants one of the two named orders.
func byteOrder() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

// target finds what spec is to be attached to among the kernel's types.
func (e *env) target(spec *ebpf.ProgramSpec) (btf.TypeID, error) {
	switch {
	case spec.Type == ebpf.StructOps:
		return e.mustHave(spec.AttachTo, new(*btf.Struct), "structure "+spec.AttachTo)
	case spec.Type == ebpf.LSM:
		return e.mustHave("bpf_lsm_"+spec.AttachTo, new(*btf.Func), "BPF security hook "+spec.AttachTo)
	case spec.AttachType == ebpf.AttachTraceIter:
		return e.mustHave("bpf_iter_"+spec.AttachTo, new(*btf.Func), "iterator "+spec.AttachTo)
	case spec.AttachType == ebpf.AttachTraceRawTp:
		return e.mustHave("btf_trace_"+spec.AttachTo, new(*btf.Typedef), "tracepoint "+spec.AttachTo)
	}
	return e.mustHave(spec.AttachTo, new(*btf.Func), "function "+spec.AttachTo)
}

// progLoad is the system call, with the beginning of union bpf_attr for BPF_PROG_LOAD as in
// include/uapi/linux/bpf.h.
func progLoad(spec *ebpf.ProgramSpec, code []byte, target btf.TypeID, log []byte) (fd int, errno unix.Errno) {
	attr := struct {
		progType, insnCount          uint32
		insns, license               uint64
		logLevel, logSize            uint32
		log                          uint64
		kernVersion, flags           uint32
		name                         [16]byte
		ifindex, attachType          uint32
		btfFD, funcInfoSize          uint32
		funcInfo                     uint64
		funcInfoCount, lineInfoSize  uint32
		lineInfo                     uint64
		lineInfoCount, attachBTFType uint32
	}{
		progType:      uint32(spec.Type),
		insnCount:     uint32(len(code) / asm.InstructionSize),
		flags:         spec.Flags,
		attachType:    uint32(spec.AttachType),
		attachBTFType: uint32(target),
	}
	copy(attr.name[:], progName)
	// The kernel reads these through numbers, which the garbage collector does not see.
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pointer := func(b []byte) uint64 {
		pinned.Pin(&b[0])
		return uint64(uintptr(unsafe.Pointer(&b[0])))
	}
	attr.insns, attr.license = pointer(code), pointer([]byte(license+"\x00"))
	if len(log) > 0 {
		attr.log, attr.logSize, attr.logLevel = pointer(log), uint32(len(log)), 1
	}
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if errno != unix.EAGAIN { // a signal interrupted the verifier
			return int(fd), errno
		}
	}
}
