// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/vigie-io/vigie/internal/model"
)

// Header begins every record (bpf/abi.h).
type Header = bpfVgHeader

// RecordType is a record's type (enum vg_type).
type RecordType = bpfVgType

// The record types, for the sensors' decoders.
const (
	RecordExec       = bpfVgTypeVG_EXEC
	RecordFork       = bpfVgTypeVG_FORK
	RecordExit       = bpfVgTypeVG_EXIT
	RecordExecFailed = bpfVgTypeVG_EXEC_FAILED
	RecordCredential = bpfVgTypeVG_CREDENTIAL
	RecordNamespace  = bpfVgTypeVG_NAMESPACE
	RecordPtrace     = bpfVgTypeVG_PTRACE
	RecordModule     = bpfVgTypeVG_MODULE
	RecordBPF        = bpfVgTypeVG_BPF
	RecordMount      = bpfVgTypeVG_MOUNT
	RecordCapability = bpfVgTypeVG_CAPABILITY
	RecordCgroup     = bpfVgTypeVG_CGROUP
	RecordFile       = bpfVgTypeVG_FILE
	RecordConnect    = bpfVgTypeVG_CONNECT
	RecordAccept     = bpfVgTypeVG_ACCEPT
	RecordListen     = bpfVgTypeVG_LISTEN
	RecordClose      = bpfVgTypeVG_CLOSE
	RecordDNS        = bpfVgTypeVG_DNS
	RecordVerdict    = bpfVgTypeVG_VERDICT
	RecordProbe      = bpfVgTypeVG_PROBE
	RecordL7         = bpfVgTypeVG_L7
	RecordTypes      = bpfVgTypeVG_TYPES
)

// The bits of Header.Flags.
const (
	FlagPreExisting = 0x1
	FlagCut         = 0x2
	FlagNoProcess   = 0x4
)

// Record is one record as the kernel wrote it: a Header, the sensor's fixed part, a tail. It is valid
// only until the function that was given it returns.
type Record []byte

// Header returns the record's header, or nil when the record is shorter than one.
func (r Record) Header() *Header {
	if len(r) < int(unsafe.Sizeof(Header{})) {
		return nil
	}
	return (*Header)(unsafe.Pointer(unsafe.SliceData(r)))
}

// Key is the process that the header names.
func (h *bpfVgHeader) Key() model.ProcessKey {
	return model.ProcessKey{PID: h.Pid, Start: h.Start, Exec: h.Exec}
}

// View interprets a record as T, one of bpf2go's types, and returns what follows it. The records of the
// rings are 8-byte aligned, as T needs.
func View[T any](r Record) (*T, []byte, error) {
	var t T
	size := int(unsafe.Sizeof(t))
	if len(r) < size {
		return nil, nil, fmt.Errorf("record of %d bytes is shorter than its fixed part of %d", len(r), size)
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(r))), r[size:], nil
}

// Take cuts the first n bytes off a tail.
func Take(tail []byte, n int) (head, rest []byte, err error) {
	if n < 0 || n > len(tail) {
		return nil, nil, fmt.Errorf("tail of %d bytes is shorter than the %d that its length field says", len(tail), n)
	}
	return tail[:n], tail[n:], nil
}

// Path turns the components that vg_path wrote (leaf first, each ended by NUL) into a path. cut says that
// the walk did not reach the root: such a path begins with "…/". No components are the root itself.
func Path(components []byte, cut bool) string {
	if len(components) == 0 {
		return "/"
	}
	out := make([]byte, 0, len(components)+4)
	if cut {
		out = append(out, "…"...)
	}
	end := len(components)
	if components[end-1] == 0 {
		end--
	}
	for end > 0 {
		start := bytes.LastIndexByte(components[:end], 0) + 1
		out = append(out, '/')
		out = append(out, components[start:end]...)
		if start == 0 {
			break
		}
		end = start - 1
	}
	return model.CleanString(out)
}

// CString is the text before the first NUL of b.
func CString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return model.CleanString(b)
}

// CStringInt8 is CString for the int8 arrays that bpf2go makes of C's char arrays.
func CStringInt8(b []int8) string {
	return CString(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), len(b)))
}
