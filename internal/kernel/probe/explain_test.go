// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// prober is one whose host and whose kernel's answers are invented.
func prober(facts Facts, answers map[Feature]error) *Prober {
	p := &Prober{facts: facts, tests: make(map[Feature]*test), outcomes: make(map[Feature]*outcome)}
	for _, t := range tests() {
		p.tests[t.name] = t
		o := &outcome{err: answers[t.name]}
		o.once.Do(func() {})
		p.outcomes[t.name] = o
	}
	return p
}

func holding(caps ...model.Cap) CapabilityFacts {
	var c CapabilityFacts
	for _, x := range caps {
		c.set |= 1 << x
	}
	return c
}

func TestExplain(t *testing.T) {
	root := holding(capBPF, capPerfmon, capNetAdmin, capSysAdmin)
	eperm := atLoad(&loadError{errno: unix.EPERM})
	refusals := map[Feature]error{Fentry: eperm, Fexit: eperm, FmodRet: eperm, LSM: eperm}
	for _, c := range []struct {
		name    string
		facts   Facts
		answers map[Feature]error
		feature Feature
		cause   string // what the cause must say
		needs   string
	}{
		{"a capability is missing", Facts{Capabilities: holding(capBPF)}, map[Feature]error{Fentry: eperm}, Fentry, "lacks CAP_PERFMON", "CAP_PERFMON"},
		{"CAP_SYS_ADMIN stands for those split off", Facts{Capabilities: holding(capSysAdmin)}, refusals, Fentry, "trampoline", "trampolines"},
		{"user namespace", Facts{Capabilities: root, UserNamespace: true}, refusals, Fentry, "user namespace", "host's user namespace"},
		{"all trampolines", Facts{Capabilities: root}, refusals, LSM, "every program that attaches through a trampoline", "a kernel that allows BPF trampolines"},
		{"only one of them", Facts{Capabilities: root}, map[Feature]error{Fentry: eperm}, Fentry, "(EPERM) although no capability is missing", ""},
		{"seccomp", Facts{Capabilities: root, Seccomp: true}, map[Feature]error{Ringbuf: unix.EPERM}, Ringbuf, "seccomp", "without a seccomp filter"},
		{"lockdown", Facts{Capabilities: root, Lockdown: "confidentiality"}, map[Feature]error{"kprobe": atAttach(unix.EPERM)}, "kprobe", "locked down", "lockdown"},
		{"lsm not called", Facts{LSMs: []string{"lockdown", "capability", "yama"}}, map[Feature]error{LSM: errNotCalled}, LSM,
			"bpf is not among the active security modules", "lsm=lockdown,yama,bpf on"},
		{"lsm not called for another reason", Facts{LSMs: []string{"bpf"}}, map[Feature]error{LSM: errNotCalled}, LSM, "never calls it", ""},
		{"too old", Facts{Kernel: "6.1.0-18-amd64"}, map[Feature]error{TCXIngress: atLoad(ebpf.ErrNotSupported)}, TCXIngress, "came with Linux 6.6", "Linux 6.6 or newer"},
		{"backported but broken", Facts{Kernel: "6.12.1"}, map[Feature]error{TCXIngress: atLoad(unix.EINVAL)}, TCXIngress, "(EINVAL)", "CONFIG_NET_XGRESS=y"},
		{"not built", Facts{Kernel: "6.18.0", config: map[string]string{"BPF": "y"}}, map[Feature]error{"kprobe": atAttach(errNoPMU)}, "kprobe",
			"built without CONFIG_KPROBE_EVENTS", "a kernel built with CONFIG_KPROBE_EVENTS=y"},
		{"no tracepoint", Facts{Kernel: "6.1.0"}, map[Feature]error{TPCapable: &missingError{"tracepoint cap_capable"}}, TPCapable,
			"no tracepoint cap_capable: it came with Linux 6.13", "Linux 6.13 or newer"},
		{"no BTF", Facts{}, map[Feature]error{TPBTF: errNoBTF}, TPBTF, btfPath, "CONFIG_DEBUG_INFO_BTF=y"},
		{"no cgroup v2", Facts{}, map[Feature]error{Connect4: errNoCgroup2}, Connect4, "no cgroup v2", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"},
		{"only cgroup v1", Facts{Cgroup: CgroupFacts{Mode: "v1"}}, map[Feature]error{Connect4: errNoCgroup2}, Connect4, "no cgroup v2", "cgroup2 /sys/fs/cgroup/unified"},
		{"could not be tried", Facts{}, map[Feature]error{TCXIngress: &setupError{"make a network namespace", unix.EPERM}}, TCXIngress,
			"could not be tried", "CAP_SYS_ADMIN"},
		{"helper unknown", Facts{Kernel: "5.15.0"}, map[Feature]error{"bpf_loop": &refusedError{"helper bpf_loop", "invalid func unknown#181", unix.EINVAL}}, "bpf_loop",
			"does not offer helper bpf_loop", "Linux 5.17 or newer"},
		{"memory locked down", Facts{Lockdown: "confidentiality"},
			map[Feature]error{"bpf_probe_read_kernel": &refusedError{"helper bpf_probe_read_kernel", "unknown func bpf_probe_read_kernel#113", unix.EINVAL}},
			"bpf_probe_read_kernel", "locked down", "lockdown"},
		{"our own mistake", Facts{}, map[Feature]error{TPBTF: fmt.Errorf("marshal: out of registers")}, TPBTF, "the test itself failed: marshal", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := prober(c.facts, c.answers).result(c.feature)
			if r.Works || !strings.Contains(r.Cause, c.cause) {
				t.Errorf("works %v, cause %q; want it to say %q", r.Works, r.Cause, c.cause)
			}
			if !strings.Contains(r.Needs, c.needs) || c.needs == "" && r.Needs != "" {
				t.Errorf("needs %q; want it to say %q", r.Needs, c.needs)
			}
		})
	}
}

func TestVerifierWords(t *testing.T) {
	for line, refused := range map[string]bool{
		"unknown func bpf_d_path#147":                             true,
		"program of this type cannot use helper bpf_d_path#147":   true,
		"invalid func unknown#181":                                true,
		"helper call might sleep in a non-sleepable prog":         true,
		"calling kernel function bpf_sock_destroy is not allowed": true,
		"R1 !read_ok":                               false,
		"R1 type=ctx expected=map_ptr":              false,
		"arg#0 expected pointer to ctx, but got fp": false,
		"Unreleased reference id=1 alloc_insn=0":    false,
		"bpf_rcu_read_unlock is missing":            false,
		"BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock": false,
	} {
		if callRefused.MatchString(line) != refused || callAccepted.MatchString(line) == refused {
			t.Errorf("%q: refused %v, accepted %v", line, callRefused.MatchString(line), callAccepted.MatchString(line))
		}
	}
	if callAccepted.MatchString("R1=ctx(id=0,off=0,imm=0) R10=fp0") {
		t.Error("the verifier's state is taken for an answer")
	}
}

func TestLogTail(t *testing.T) {
	log := []string{"0: R1=ctx() R10=fp0", "0: (85) call bpf_d_path#147", "R2 !read_ok", "processed 1 insns (limit 1000000)", ""}
	if got := strings.Join(logTail(log, 2), "|"); got != "0: (85) call bpf_d_path#147|R2 !read_ok" {
		t.Errorf("tail %q", got)
	}
}
