// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts describe the machine, as far as figures depend on it.
type Facts struct {
	CPU, Kernel, Virtual, Clock, JIT, Mitigations string
	Cores                                         int
	MemoryMiB                                     uint64
	Go, Agent                                     string
	LoadBefore, LoadAfter                         string
	Steal                                         float64 // share of the run in which the hypervisor ran something else
}

// Host reads what the machine is, and asks the agent's binary what it is. What cannot be read stays empty.
func Host(agentBinary string) Facts {
	f := Facts{Cores: runtime.NumCPU(), Go: runtime.Version(), LoadBefore: LoadAverage(),
		Clock: SysText("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		JIT:   SysText("/proc/sys/net/core/bpf_jit_enable"), Virtual: "no hypervisor named"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	info := SysText("/proc/cpuinfo")
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(line, ":")
		switch name, value = strings.TrimSpace(name), strings.TrimSpace(value); {
		case name == "model name" && f.CPU == "":
			f.CPU = value
		case name == "flags" && strings.Contains(" "+value+" ", " hypervisor "):
			f.Virtual = "virtual machine"
		}
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		f.MemoryMiB = si.Totalram * uint64(si.Unit) >> 20
	}
	var vulnerable []string
	for _, v := range []string{"spectre_v2", "retbleed", "spec_rstack_overflow", "mds", "meltdown"} {
		if t := SysText("/sys/devices/system/cpu/vulnerabilities/" + v); strings.HasPrefix(t, "Mitigation") {
			vulnerable = append(vulnerable, v)
		}
	}
	if f.Mitigations = "none of the costly ones"; len(vulnerable) > 0 {
		f.Mitigations = strings.Join(vulnerable, ", ")
	}
	if out, err := exec.Command(agentBinary, "version").Output(); err == nil {
		f.Agent, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	return f
}

// SysText is a file of /proc or /sys without the space around it; empty when it cannot be read.
func SysText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// LoadAverage is that of the last minute.
func LoadAverage() string {
	first, _, _ := strings.Cut(SysText("/proc/loadavg"), " ")
	return first
}

// CPUTicks is the machine's CPU time by /proc/stat: all of it, and what was stolen by the hypervisor.
func CPUTicks() (all, steal uint64) {
	line, _, _ := strings.Cut(SysText("/proc/stat"), "\n")
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil || i > 8 {
			continue // the name; guest time is in user time already
		}
		all += n
		if i == 8 {
			steal = n
		}
	}
	return all, steal
}
