// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// emptyHooks attaches programs that do nothing to the hooks that every process and packet meets under the agent. What
// a load takes with them is the floor of anything that looks from there.
func emptyHooks() (io.Closer, error) {
	var all closers
	for _, hook := range []string{"sys_exit", "sched_process_exec", "sched_process_fork", "sched_process_exit", "inet_sock_set_state"} {
		l, err := attachEmpty(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: hook}, 0,
			func(p *ebpf.Program) (link.Link, error) { return link.AttachTracing(link.TracingOptions{Program: p}) })
		if err != nil {
			return nil, errors.Join(fmt.Errorf("empty program on %s: %w", hook, err), all.Close())
		}
		all = append(all, l)
	}
	root := cgroupRoot(measure.SysText("/proc/self/mounts"))
	if root == "" {
		return all, nil // the agent has no such hooks then, either
	}
	for _, direction := range []ebpf.AttachType{ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress} {
		l, err := attachEmpty(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: direction}, 1, // 1: let the packet pass
			func(p *ebpf.Program) (link.Link, error) {
				return link.AttachCgroup(link.CgroupOptions{Path: root, Attach: direction, Program: p})
			})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("empty program on %v: %w", direction, err), all.Close())
		}
		all = append(all, l)
	}
	return all, nil
}

func attachEmpty(spec *ebpf.ProgramSpec, result int32, attach func(*ebpf.Program) (link.Link, error)) (link.Link, error) {
	spec.Name, spec.License = "vb_empty", "Dual BSD/GPL"
	spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, result), asm.Return()}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, err
	}
	defer p.Close() // the link holds it
	return attach(p)
}

// cgroupRoot is where cgroup v2 is mounted, by the text of /proc/self/mounts; empty when it is not.
func cgroupRoot(mounts string) string {
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	return ""
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, x := range slices.Backward(c) {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}
