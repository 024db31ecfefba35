// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// DispatcherSensor is the name under which the system call dispatcher is listed.
const DispatcherSensor = "kernel"

// ProgramStats is what one program has cost.
type ProgramStats struct {
	Sensor, Name string
	ID           uint32
	RunTime      time.Duration // summed; 0 unless run statistics are on (EnableStats)
	RunCount     uint64
}

// EnableStats has the kernel measure run time and count of all BPF programs until the closer is closed. It
// costs some ten nanoseconds for each run.
func EnableStats() (io.Closer, error) {
	c, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, Explain("turn on run statistics", err)
	}
	return c, nil
}

// Stats reads the run statistics of every program. Programs that the kernel does not account for are left
// out.
func (h *Host) Stats() []ProgramStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []ProgramStats
	for _, n := range h.programs {
		s := ProgramStats{Sensor: n.sensor, Name: n.name}
		if info, err := n.prog.Info(); err == nil {
			if id, ok := info.ID(); ok {
				s.ID = uint32(id)
			}
		}
		st, err := n.prog.Stats()
		if err != nil {
			continue
		}
		s.RunTime, s.RunCount = st.Runtime, st.RunCount
		out = append(out, s)
	}
	return out
}

// NestedSuffix ends the name of a program that does another's work when that one would interrupt itself. The kernel
// keeps 15 bytes of a name: the other's must be short.
const NestedSuffix = "_nested"

// recursionMisses is how often the kernel passed a program over because it would have interrupted itself: on that
// CPU an interrupt came while the same program ran, and what happened in it was not seen. Of a program with a nested
// twin, one of the two has seen it.
func (h *Host) recursionMisses() (n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	twins := make(map[string]bool)
	for _, p := range h.programs {
		if name, ok := strings.CutSuffix(p.name, NestedSuffix); ok {
			twins[name], twins[p.name] = true, true
		}
	}
	for _, p := range h.programs {
		if twins[p.name] {
			continue
		}
		if st, err := p.prog.Stats(); err == nil {
			n += st.RecursionMisses
		}
	}
	return n
}

// Queue is how full a ring is, in bytes.
type Queue struct {
	Name       string
	Used, Size uint64
}

// Queues says how full the rings are; nothing before Read has begun.
func (h *Host) Queues() []Queue {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Queue
	for _, r := range h.readers {
		out = append(out, Queue{r.name, r.waiting(), uint64(r.size())})
	}
	return out
}

// MapMemory is the kernel memory of all maps of all sensors, in bytes, as far as the kernel tells: of those that the process
// holds, pieces of maps of maps included, and of those that only programs hold, where the process may open them.
func (h *Host) MapMemory() uint64 {
	held := heldMaps("/proc/self")
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.programs {
		info, err := n.prog.Info()
		if err != nil {
			continue
		}
		ids, _ := info.MapIDs()
		for _, id := range ids {
			if _, ok := held[id]; !ok {
				held[id] = memoryOf(id)
			}
		}
	}
	var total uint64
	for _, bytes := range held {
		total += bytes
	}
	return total
}

// memoryOf is what a map takes; 0 where the kernel does not let it be opened by its number (that takes CAP_SYS_ADMIN).
func memoryOf(id ebpf.MapID) uint64 {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return 0
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return 0
	}
	bytes, _ := info.Memlock()
	return bytes
}

// heldMaps is what each map takes that a process has a descriptor of; proc is its directory in procfs. The kernel tells it in
// fdinfo (bpf_map_show_fdinfo, kernel/bpf/syscall.c).
func heldMaps(proc string) map[ebpf.MapID]uint64 {
	held := make(map[ebpf.MapID]uint64)
	fds, _ := os.ReadDir(proc + "/fd")
	for _, fd := range fds {
		if target, err := os.Readlink(proc + "/fd/" + fd.Name()); err != nil || target != "anon_inode:bpf-map" {
			continue
		}
		text, err := os.ReadFile(proc + "/fdinfo/" + fd.Name())
		if err != nil {
			continue // closed meanwhile
		}
		var id, bytes uint64
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			switch name {
			case "map_id":
				id, _ = strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			case "memlock":
				bytes, _ = strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			}
		}
		held[ebpf.MapID(id)] = bytes
	}
	return held
}
