// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// kprobe puts a probe on a kernel function through the perf interface and passes it.
func kprobe(e *env) error {
	return e.raises(&ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(prog *ebpf.Program) (io.Closer, error) {
		name, err := unix.BytePtrFromString(touched)
		if err != nil {
			return nil, err
		}
		defer runtime.KeepAlive(name)
		return attachPMU(prog, "kprobe", unsafe.Pointer(name), 0)
	}, touch)
}

// kprobeMulti puts probes on kernel functions through fprobe and passes one.
func kprobeMulti(e *env) error {
	return e.raises(&ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti},
		func(prog *ebpf.Program) (io.Closer, error) {
			return link.KprobeMulti(prog, link.KprobeMultiOptions{Symbols: []string{touched}})
		}, touch)
}

// uprobe puts a probe on a function of this program that does nothing, and calls it.
func uprobe(e *env) error {
	return e.raises(&ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(prog *ebpf.Program) (io.Closer, error) {
		offset, err := fileOffset(reflect.ValueOf(uprobed).Pointer())
		if err != nil {
			return nil, err
		}
		path, err := unix.BytePtrFromString(ownProgram)
		if err != nil {
			return nil, err
		}
		defer runtime.KeepAlive(path)
		return attachPMU(prog, "uprobe", unsafe.Pointer(path), offset)
	}, callUprobed)
}

// uprobeMulti does the same through one link for many probes.
func uprobeMulti(e *env) error {
	return e.raises(&ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti},
		func(prog *ebpf.Program) (io.Closer, error) {
			offset, err := fileOffset(reflect.ValueOf(uprobed).Pointer())
			if err != nil {
				return nil, err
			}
			exe, err := link.OpenExecutable(ownProgram)
			if err != nil {
				return nil, err
			}
			return exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: []uint64{offset}})
		}, callUprobed)
}

// perfTracepoint attaches a tracepoint program. The number of the tracepoint stands in tracefs, which
// is read through a mount that only this process sees when nobody has mounted it.
func perfTracepoint(e *env) error {
	const name = "events/sched/sched_process_exec/id"
	text, err := readUnmounted("tracefs", name)
	if err != nil {
		return &setupError{"read " + name + " of tracefs", err}
	}
	id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return step("read "+name, err)
	}
	return e.once(&ebpf.ProgramSpec{Type: ebpf.TracePoint}, func(prog *ebpf.Program) (io.Closer, error) {
		return attachPerf(prog, &unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Sample: 1, Wakeup: 1})
	})
}

const ownProgram = "/proc/self/exe"

// uprobed is called by nobody but the probe.
//
//go:noinline
func uprobed() int { return os.Getpagesize() }

func callUprobed() error {
	uprobed()
	return nil
}

// fileOffset is where in the program's file the code at address pc comes from.
func fileOffset(pc uintptr) (uint64, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var start, end, offset uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s %x", &start, &end, &mode, &offset); err != nil {
			continue
		}
		if uint64(pc) >= start && uint64(pc) < end {
			return uint64(pc) - start + offset, nil
		}
	}
	return 0, errors.New("no mapping holds the probed function")
}

// attachPMU attaches prog to an event of a dynamic event source: name is the kernel function or the
// file's path, offset the place in it.
func attachPMU(prog *ebpf.Program, source string, name unsafe.Pointer, offset uint64) (io.Closer, error) {
	text, err := os.ReadFile("/sys/bus/event_source/devices/" + source + "/type")
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoPMU
	}
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return nil, err
	}
	return attachPerf(prog, &unix.PerfEventAttr{Type: uint32(number), Ext1: uint64(uintptr(name)), Ext2: offset})
}

type perfEvent int

func (fd perfEvent) Close() error { return unix.Close(int(fd)) }

func attachPerf(prog *ebpf.Program, attr *unix.PerfEventAttr) (io.Closer, error) {
	attr.Size = uint32(unsafe.Sizeof(*attr))
	// Bound to one processor and no process: a BPF program on such an event runs on all of them.
	fd, err := unix.PerfEventOpen(attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a perf event: %w", err)
	}
	err = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, prog.FD())
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("attach to a perf event: %w", err)
	}
	return perfEvent(fd), nil
}
