// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// explain says why a test failed and what it would take, from the kernel's answer first and from
// the host's facts second. It says nothing that it does not know: the library that loads our
// programs blames a memory limit for any EPERM, which on kernels since 5.11 is never the reason.
func (p *Prober) explain(t *test, err error) (cause, needs string) {
	var refused *refusedError
	var missing *missingError
	var setup *setupError
	switch {
	case errors.Is(err, errNoBTF):
		return "the kernel does not show its types in " + btfPath, "a kernel built with CONFIG_DEBUG_INFO_BTF=y"
	case errors.Is(err, errNoCgroup2):
		return "no cgroup v2 hierarchy is mounted", cgroupMount(p.facts.Cgroup.Mode)
	case errors.As(err, &setup):
		return p.explainSetup(setup)
	case errors.Is(err, errNotCalled):
		return p.explainNotCalled(t)
	case errors.Is(err, errNoPMU):
		return p.explainAbsent(t, "the kernel offers no event source for it")
	case errors.As(err, &missing):
		return p.explainAbsent(t, missing.Error())
	case errors.As(err, &refused):
		return p.explainRefused(t, refused)
	}
	switch errnoOf(err) {
	case model.Errno(unix.EPERM), model.Errno(unix.EACCES):
		return p.explainDenied(t, err)
	case model.Errno(unix.EINVAL), model.Errno(unix.E2BIG), model.Errno(unix.ENOSYS), model.Errno(unix.EOPNOTSUPP),
		model.Errno(enotsupp), model.Errno(unix.ENOENT), model.Errno(unix.ENODEV):
		return p.explainAbsent(t, "the kernel does not know it"+answer(err))
	}
	if errors.Is(err, ebpf.ErrNotSupported) { // the library asked the kernel in our place
		return p.explainAbsent(t, "the kernel does not know it")
	}
	if errnoOf(err) == 0 {
		return "the test itself failed: " + err.Error(), ""
	}
	return "the kernel refuses it" + answer(err), ""
}

// cgroupMount is the command that mounts cgroup v2 where it belongs: alone, or beside the v1 controllers.
func cgroupMount(mode string) string {
	if mode == "v1" {
		const dir = "/sys/fs/cgroup/unified"
		return "mkdir -p " + dir + " && mount -t cgroup2 cgroup2 " + dir
	}
	return "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
}

// explainSetup is for what could not be tried. All that the tests make for themselves takes one capability.
func (p *Prober) explainSetup(err *setupError) (cause, needs string) {
	cause = "it could not be tried: " + err.what + answer(err)
	if !p.facts.Capabilities.has(capSysAdmin) {
		needs = capSysAdmin.String()
	}
	return cause, needs
}

// explainDenied is for EPERM and EACCES: who is it that says no?
func (p *Prober) explainDenied(t *test, err error) (cause, needs string) {
	f := &p.facts
	if missing := f.missing(t.caps); len(missing) > 0 {
		return "the agent lacks " + strings.Join(missing, " and "), strings.Join(missing, " and ")
	}
	switch {
	case f.UserNamespace:
		return "the agent runs in a user namespace of its own, whose capabilities the kernel does not accept for this",
			"the host's user namespace"
	case t.trampoline && p.trampolinesRefused():
		return "this kernel refuses every program that attaches through a trampoline (fentry, fexit, fmod_ret, lsm): permission denied at load",
			"a kernel that allows BPF trampolines"
	case f.Seccomp:
		return "permission denied although no capability is missing; a seccomp filter is on, as container runtimes set one",
			"a container without a seccomp filter on bpf() and perf_event_open()"
	case f.Lockdown == "confidentiality":
		return "permission denied although no capability is missing; the kernel is locked down (confidentiality)",
			"a kernel without lockdown=confidentiality"
	}
	return "the kernel refuses it" + answer(err) + " although no capability is missing", ""
}

// trampolinesRefused says whether the kernel refuses the whole family with EPERM while it takes a
// tracing program that needs no trampoline. It asks the kernel for each when that has not been done.
func (p *Prober) trampolinesRefused() bool {
	for _, name := range []Feature{Fentry, Fexit, FmodRet, LSM} {
		err := p.outcome(name)
		if errnoOf(err) != model.Errno(unix.EPERM) || stepOf(err) != "load" {
			return false
		}
	}
	return p.outcome(TPBTF) == nil
}

func (p *Prober) explainNotCalled(t *test) (cause, needs string) {
	const what = "the program attaches, but the kernel never calls it"
	if p.lsmInactive(t) {
		return what + ": bpf is not among the active security modules", p.lsmParameter()
	}
	return what, ""
}

// lsmInactive says whether a test is about lsm programs and bpf is known not to be an active module.
func (p *Prober) lsmInactive(t *test) bool {
	return slices.Contains(strings.Fields(t.config), "BPF_LSM") && p.facts.LSMs != nil && !slices.Contains(p.facts.LSMs, "bpf")
}

// lsmParameter is what makes bpf active beside the modules that are: "capability" always is, and is
// not named there.
func (p *Prober) lsmParameter() string {
	modules := slices.DeleteFunc(slices.Clone(p.facts.LSMs), func(m string) bool { return m == "capability" })
	return "lsm=" + strings.Join(append(modules, "bpf"), ",") + " on the kernel's command line"
}

func (p *Prober) explainRefused(t *test, err *refusedError) (cause, needs string) {
	if err.is("unknown func", "invalid func") {
		if p.facts.Lockdown == "confidentiality" && strings.Contains(err.what, "probe_read") {
			return "the kernel is locked down (confidentiality) and lets no program read its memory", "a kernel without lockdown=confidentiality"
		}
		return p.explainAbsent(t, "the kernel does not offer "+err.what+" to this kind of program")
	}
	return "the verifier does not let this kind of program call " + err.what, p.needs(t)
}

func (e *refusedError) is(phrases ...string) bool {
	return slices.ContainsFunc(phrases, func(s string) bool { return strings.Contains(e.line, s) })
}

// explainAbsent is for what the kernel does not have: it is too old, or built without it.
func (p *Prober) explainAbsent(t *test, what string) (cause, needs string) {
	f := &p.facts
	if t.since != "" && f.olderThan(t.since) {
		return fmt.Sprintf("%s: it came with Linux %s", what, t.since), p.needs(t)
	}
	if p.lsmInactive(t) {
		return what + ": bpf is not among the active security modules", p.lsmParameter()
	}
	if off := f.notBuilt(t.config); off != "" {
		return fmt.Sprintf("%s: it was built without %s", what, off), "a kernel built with " + off + "=y"
	}
	return what, p.needs(t)
}

// needs is what a test takes as far as that is known without asking the kernel.
func (p *Prober) needs(t *test) string {
	if t.since != "" && p.facts.olderThan(t.since) {
		return "Linux " + t.since + " or newer"
	}
	var options []string
	for _, option := range strings.Fields(t.config) {
		if p.facts.config[option] != "y" {
			options = append(options, "CONFIG_"+option+"=y")
		}
	}
	if len(options) == 0 {
		return ""
	}
	return "a kernel built with " + strings.Join(options, " and ")
}

// notBuilt is the first of the options that the kernel is known to be built without.
func (f *Facts) notBuilt(options string) string {
	if f.config == nil {
		return ""
	}
	for _, option := range strings.Fields(options) {
		if value := f.config[option]; value != "y" && value != "m" {
			return "CONFIG_" + option
		}
	}
	return ""
}

// missing lists by name those of the capabilities that the agent does not hold.
func (f *Facts) missing(caps []model.Cap) []string {
	var names []string
	for _, c := range caps {
		if !f.Capabilities.hasFor(c) {
			names = append(names, c.String())
		}
	}
	return names
}

// answer is the kernel's errno in brackets, or nothing when there is none.
func answer(err error) string {
	switch e := errnoOf(err); e {
	case 0:
		return ""
	case model.Errno(enotsupp):
		return " (ENOTSUPP)"
	default:
		return " (" + e.String() + ")"
	}
}
