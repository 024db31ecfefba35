// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// facts describe the machine, as far as figures depend on it.
type facts struct {
	CPU, Kernel, Virtual, Clock, JIT, Mitigations string
	Cores                                         int
	MemoryMiB                                     uint64
	Go, Agent                                     string
	LoadBefore, LoadAfter                         string
	Steal                                         float64 // share of the run in which the hypervisor ran something else
}

func hostFacts(agentBinary string) facts {
	f := facts{Cores: runtime.NumCPU(), Go: runtime.Version(), LoadBefore: loadAverage(),
		Clock: sysText("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		JIT:   sysText("/proc/sys/net/core/bpf_jit_enable"), Virtual: "no hypervisor named"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	info := sysText("/proc/cpuinfo")
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
		if t := sysText("/sys/devices/system/cpu/vulnerabilities/" + v); strings.HasPrefix(t, "Mitigation") {
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

func sysText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func loadAverage() string {
	first, _, _ := strings.Cut(sysText("/proc/loadavg"), " ")
	return first
}

// cpuTicks is the machine's CPU time by /proc/stat: all of it, and what was stolen by the hypervisor.
func cpuTicks() (all, steal uint64) {
	line, _, _ := strings.Cut(sysText("/proc/stat"), "\n")
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

// raisePIDs makes room for n more processes and returns what undoes it. The room is the smallest of
// kernel.pid_max, kernel.threads-max and what memory allows.
func raisePIDs(n int) (room int, restore func(), err error) {
	const path, perProcess = "/proc/sys/kernel/pid_max", 120 << 10 // bytes of kernel memory, measured generously
	restore = func() {}
	limit, err := strconv.Atoi(sysText(path))
	if err != nil {
		return 0, restore, fmt.Errorf("read kernel.pid_max: %w", err)
	}
	if want := n + 10_000; limit < want {
		old := strconv.Itoa(limit)
		if err := os.WriteFile(path, []byte(strconv.Itoa(want)), 0); err == nil {
			restore = func() { _ = os.WriteFile(path, []byte(old), 0) }
			limit = want
		}
	}
	room = min(n, limit-5000)
	if threads, err := strconv.Atoi(sysText("/proc/sys/kernel/threads-max")); err == nil {
		room = min(room, threads-5000)
	}
	for line := range strings.Lines(sysText("/proc/meminfo")) {
		if name, value, _ := strings.Cut(line, ":"); name == "MemAvailable" {
			kib, _ := strconv.ParseUint(strings.Fields(value)[0], 10, 64)
			room = min(room, int(kib<<10*3/4/perProcess))
		}
	}
	return max(room, 0), restore, nil
}
