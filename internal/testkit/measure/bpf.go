// SPDX-License-Identifier: Apache-2.0

package measure

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
	"golang.org/x/sys/unix"
)

// RunStats is how often a program ran since it was loaded, and for how long in all.
type RunStats struct {
	Name string        `json:"name"`
	Runs uint64        `json:"runs"`
	Time time.Duration `json:"time_ns"`
	// Skipped is how often the kernel did not run it because it was running on that CPU already (a packet that comes in
	// between): what happened then was not seen.
	Skipped uint64 `json:"skipped"`
}

// CountPrograms is how many programs of agents are loaded.
func CountPrograms() (int, error) {
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
		stats, err := ReadProgram(id)
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

// ProgramsOf are the programs that a process holds, by itself or through links, with what they ran so far
// (proc_pid_fdinfo(5) names them).
func ProgramsOf(pid int) (map[ebpf.ProgramID]RunStats, error) {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the programs of process %d: %w", pid, err)
	}
	found := map[ebpf.ProgramID]RunStats{}
	for _, e := range entries {
		for line := range strings.Lines(SysText(dir + "/" + e.Name())) {
			value, ok := strings.CutPrefix(line, "prog_id:")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("read the programs of process %d: %w", pid, err)
			}
			id := ebpf.ProgramID(n)
			if found[id], err = ReadProgram(id); err != nil {
				return nil, fmt.Errorf("read BPF program %d: %w", id, err)
			}
		}
	}
	return found, nil
}

// ReadProgram is what a program ran so far. The error is os.ErrNotExist when it is no longer loaded.
func ReadProgram(id ebpf.ProgramID) (RunStats, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return RunStats{}, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return RunStats{}, err
	}
	stats, err := p.Stats()
	if err != nil {
		return RunStats{}, err
	}
	name := info.Name
	// The kernel keeps 15 characters of a name; BTF has all.
	if fi, err := info.FuncInfos(); err == nil && len(fi) > 0 {
		name = fi[0].Func.Name
	}
	return RunStats{Name: name, Runs: stats.RunCount, Time: stats.Runtime, Skipped: stats.RecursionMisses}, nil
}

// RanBetween is what ran from before to after, most time first.
func RanBetween(before, after map[ebpf.ProgramID]RunStats) []RunStats {
	byName := map[string]RunStats{}
	for id, a := range after {
		b := before[id]
		if a.Runs > b.Runs {
			sum := byName[a.Name]
			byName[a.Name] = RunStats{a.Name, sum.Runs + a.Runs - b.Runs, sum.Time + a.Time - b.Time, sum.Skipped + a.Skipped - b.Skipped}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b RunStats) int { return cmp.Compare(b.Time, a.Time) })
}

// Skipped are the runs that the kernel left out, as text; empty without.
func Skipped(programs map[ebpf.ProgramID]RunStats) string {
	var parts []string
	for _, p := range programs {
		if p.Skipped > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.Name, p.Skipped))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// TimePrograms has the kernel measure programs' run time until the closer is closed.
func TimePrograms() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("have the kernel measure BPF programs: %w", err)
	}
	return c, nil
}
