// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// Facts is what the host says of itself. Facts explain results; they do not decide them.
type Facts struct {
	Kernel string `json:"kernel"` // release, as uname -r
	Arch   string `json:"arch"`   // as in Go: amd64, arm64
	BTF    bool   `json:"btf"`    // /sys/kernel/btf/vmlinux can be read
	// JIT says whether programs are compiled: "enabled", "disabled" or "unknown".
	JIT string `json:"jit"`

	Cgroup CgroupFacts `json:"cgroup"`
	// BPFFS and TraceFS are where these file systems are mounted; empty when they are not.
	BPFFS   string `json:"bpffs"`
	TraceFS string `json:"tracefs"`

	// LSMs are the active security modules in the kernel's order; nil when they could not be read.
	LSMs []string `json:"lsms"`
	// Lockdown is none, integrity, confidentiality, "inactive" when the module is not there, or unknown.
	Lockdown string `json:"lockdown"`
	// UnprivilegedBPF is "allowed", "disabled", "disabled for good" or "unknown": the sysctl
	// kernel.unprivileged_bpf_disabled.
	UnprivilegedBPF string `json:"unprivileged_bpf"`

	UID           int             `json:"uid"` // effective
	Capabilities  CapabilityFacts `json:"capabilities"`
	UserNamespace bool            `json:"user_namespace"` // not the host's: capabilities do not reach bpf()
	Seccomp       bool            `json:"seccomp"`        // a seccomp filter is on
	// Memlock is RLIMIT_MEMLOCK in bytes, -1 without limit. Kernels since 5.11 do not charge BPF to it.
	Memlock int64 `json:"memlock_bytes"`

	// config holds the kernel's build options when the host has them; nil when it does not.
	config map[string]string
}

// CgroupFacts say how cgroups are mounted.
type CgroupFacts struct {
	Mode     string `json:"mode"`      // v2, hybrid, v1 or none
	V2Path   string `json:"v2_path"`   // mount point of the v2 hierarchy; empty without one
	ReadOnly bool   `json:"read_only"` // it is mounted read-only
}

// CapabilityFacts are the effective capabilities against those that vigie uses.
type CapabilityFacts struct {
	Effective []string `json:"effective"`
	// Missing are those without which nothing starts, Useful those without which something is missing.
	Missing []string `json:"missing"`
	Useful  []string `json:"missing_useful"`

	set model.CapSet
}

func (c CapabilityFacts) has(x model.Cap) bool { return c.set&(1<<x) != 0 }

// hasFor is has, or a capability that the kernel takes in its place: CAP_SYS_ADMIN includes all that
// was split off from it.
func (c CapabilityFacts) hasFor(x model.Cap) bool {
	return c.has(x) || (x == capBPF || x == capPerfmon) && c.has(capSysAdmin)
}

// needed are the capabilities without which the agent cannot start; useful adds to what it can do.
func needed() []model.Cap { return []model.Cap{capBPF, capPerfmon, capNetAdmin} }
func useful() []model.Cap {
	return []model.Cap{capSysAdmin, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}
}

// without says what a useful capability is missed for.
func without(name string) string {
	switch name {
	case "CAP_SYS_ADMIN":
		return "no fanotify, no mounts of its own, no look into other namespaces"
	case "CAP_SYS_PTRACE":
		return "of processes that ran before the agent, those of other users stay without their binary and namespaces"
	}
	return "files of other users stay closed: binaries, runtimes' sockets"
}

// btfPath is where the kernel shows its own types.
const btfPath = "/sys/kernel/btf/vmlinux"

func readFacts() Facts {
	f := Facts{Arch: runtime.GOARCH, UID: os.Geteuid()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		f.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if file, err := os.Open(btfPath); err == nil {
		f.BTF = true
		file.Close()
	}
	mounts := ownMounts()
	f.Cgroup = cgroupFacts(mounts)
	f.BPFFS, f.TraceFS = mountOf(mounts, "bpf"), mountOf(mounts, "tracefs")
	f.readSecurity()
	f.readSelf()
	f.JIT = sysctl("net/core/bpf_jit_enable", map[string]string{"0": "disabled", "1": "enabled", "2": "enabled"})
	f.UnprivilegedBPF = sysctl("kernel/unprivileged_bpf_disabled",
		map[string]string{"0": "allowed", "1": "disabled for good", "2": "disabled"})
	f.config = readConfig(f.Kernel)
	return f
}

func cgroupFacts(mounts []mount) CgroupFacts {
	f := CgroupFacts{Mode: "none"}
	v1 := mountOf(mounts, "cgroup") != ""
	for _, m := range mounts {
		if m.fstype == "cgroup2" {
			f.V2Path, f.ReadOnly = m.path, m.readOnly()
			break
		}
	}
	switch {
	case f.V2Path != "" && v1:
		f.Mode = "hybrid"
	case f.V2Path != "":
		f.Mode = "v2"
	case v1:
		f.Mode = "v1"
	}
	return f
}

func (f *Facts) readSecurity() {
	f.Lockdown = "unknown"
	text, err := readUnmounted("securityfs", "lsm")
	if err != nil {
		return
	}
	f.LSMs = strings.Split(strings.TrimSpace(text), ",")
	f.Lockdown = "inactive"
	if text, err := readUnmounted("securityfs", "lockdown"); err == nil {
		_, after, _ := strings.Cut(text, "[")
		f.Lockdown, _, _ = strings.Cut(after, "]")
	}
}

// initUserNS is the inode number of the host's user namespace: PROC_USER_INIT_INO of
// include/linux/proc_ns.h, part of the kernel's interface since user namespaces have numbers.
const initUserNS = 0xEFFFFFFD

func (f *Facts) readSelf() {
	for line := range strings.Lines(readFile("/proc/self/status")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "CapEff":
			set, err := strconv.ParseUint(value, 16, 64)
			if err == nil {
				f.Capabilities.set = model.CapSet(set)
			}
		case "Seccomp":
			f.Seccomp = value == "2" // SECCOMP_MODE_FILTER
		}
	}
	c := &f.Capabilities
	c.Effective = append([]string{}, c.set.Names()...) // never null in JSON
	c.Missing, c.Useful = []string{}, []string{}
	for _, x := range needed() {
		if !c.hasFor(x) {
			c.Missing = append(c.Missing, x.String())
		}
	}
	for _, x := range useful() {
		if !c.has(x) {
			c.Useful = append(c.Useful, x.String())
		}
	}
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &st) == nil {
		f.UserNamespace = st.Ino != initUserNS
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		f.Memlock = int64(limit.Cur)
		if limit.Cur == unix.RLIM_INFINITY {
			f.Memlock = -1
		}
	}
}

func sysctl(name string, words map[string]string) string {
	if word, ok := words[strings.TrimSpace(readFile("/proc/sys/"+name))]; ok {
		return word
	}
	return "unknown"
}

func readFile(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

// readConfig reads the kernel's build options from the two places where hosts keep them.
func readConfig(release string) map[string]string {
	if f, err := os.Open("/proc/config.gz"); err == nil {
		defer f.Close()
		if z, err := gzip.NewReader(f); err == nil {
			return parseConfig(z)
		}
	}
	if f, err := os.Open("/boot/config-" + release); err == nil {
		defer f.Close()
		return parseConfig(f)
	}
	return nil
}

func parseConfig(r io.Reader) map[string]string {
	config := make(map[string]string)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if name, found := strings.CutPrefix(name, "CONFIG_"); ok && found {
			config[name] = value
		}
	}
	if len(config) == 0 {
		return nil
	}
	return config
}

// olderThan says whether the kernel's version is below a release such as "6.6". A version that
// cannot be read is not.
func (f *Facts) olderThan(release string) bool {
	var major, minor, wantMajor, wantMinor int
	if n, _ := fmt.Sscanf(f.Kernel, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	if n, _ := fmt.Sscanf(release, "%d.%d", &wantMajor, &wantMinor); n != 2 {
		return false
	}
	return major < wantMajor || major == wantMajor && minor < wantMinor
}
