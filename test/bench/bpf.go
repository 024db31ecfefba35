// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
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
	root := cgroupRoot(sysText("/proc/self/mounts"))
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

// runStats is how often a program ran since it was loaded, and for how long in all.
type runStats struct {
	Name string        `json:"name"`
	Runs uint64        `json:"runs"`
	Time time.Duration `json:"time_ns"`
	// Skipped is how often the kernel did not run it because it was running on that CPU already (a packet that comes in
	// between): what happened then was not seen.
	Skipped uint64 `json:"skipped"`
}

// countPrograms is how many programs of agents are loaded.
func countPrograms() (int, error) {
	n := 0
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("list BPF programs: %w", err)
		}
		id = next
		stats, err := readProgram(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return 0, fmt.Errorf("read BPF program %d: %w", id, err)
		}
		if strings.HasPrefix(stats.Name, "vg_") {
			n++
		}
	}
}

// programsOf are the programs that a process holds, by itself or through links, with what they ran so far
// (proc_pid_fdinfo(5) names them).
func programsOf(pid int) (map[ebpf.ProgramID]runStats, error) {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the agent's programs: %w", err)
	}
	found := map[ebpf.ProgramID]runStats{}
	for _, e := range entries {
		for line := range strings.Lines(sysText(dir + "/" + e.Name())) {
			value, ok := strings.CutPrefix(line, "prog_id:")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("read the agent's programs: %w", err)
			}
			id := ebpf.ProgramID(n)
			if found[id], err = readProgram(id); err != nil {
				return nil, fmt.Errorf("read BPF program %d: %w", id, err)
			}
		}
	}
	return found, nil
}

func readProgram(id ebpf.ProgramID) (runStats, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return runStats{}, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return runStats{}, err
	}
	stats, err := p.Stats()
	if err != nil {
		return runStats{}, err
	}
	name := info.Name
	// The kernel keeps 15 characters of a name; BTF has all.
	if fi, err := info.FuncInfos(); err == nil && len(fi) > 0 {
		name = fi[0].Func.Name
	}
	return runStats{Name: name, Runs: stats.RunCount, Time: stats.Runtime, Skipped: stats.RecursionMisses}, nil
}

// ranBetween is what ran from before to after, most time first.
func ranBetween(before, after map[ebpf.ProgramID]runStats) []runStats {
	byName := map[string]runStats{}
	for id, a := range after {
		b := before[id]
		if a.Runs > b.Runs {
			sum := byName[a.Name]
			byName[a.Name] = runStats{a.Name, sum.Runs + a.Runs - b.Runs, sum.Time + a.Time - b.Time, sum.Skipped + a.Skipped - b.Skipped}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b runStats) int { return cmp.Compare(b.Time, a.Time) })
}

// skipped are the runs that the kernel left out, as text; empty without.
func skipped(programs map[ebpf.ProgramID]runStats) string {
	var parts []string
	for _, p := range programs {
		if p.Skipped > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.Name, p.Skipped))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// measurePrograms has the kernel measure programs' run time until the closer is closed.
func measurePrograms() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("have the kernel measure BPF programs: %w", err)
	}
	return c, nil
}
