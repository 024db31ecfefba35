// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// applyBy takes a policy into force by one way to carry it, and skips the test where the kernel does not have it.
func (r *rig) applyBy(carrier, spec string) {
	r.t.Helper()
	r.only = carrier
	defer func() { r.only = "" }()
	err := r.Apply(context.Background(), r.parse(spec)...)
	if err != nil && strings.Contains(err.Error(), "cannot be carried on this kernel") {
		r.t.Skipf("needs a kernel that carries hooks by %s: %v", carrier, err)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if got := r.List()[0].Hooks[0].Carrier; !strings.HasPrefix(got, carrier) {
		r.t.Fatalf("the hook is carried by %s, want %s", got, carrier)
	}
}

// secret is a file that nobody else opens.
func secret(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "vigie-secret")
	if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestKernelFunction: every way to watch a function that is no system call.
func TestKernelFunction(t *testing.T) {
	for _, carrier := range []string{"fentry", "lsm", "kprobe"} {
		t.Run(carrier, func(t *testing.T) {
			r := newRig(t, nil)
			name := secret(t)
			r.applyBy(carrier, fmt.Sprintf(`
  kprobes:
  - call: security_file_open
    syscall: false
    args: [{index: 0, type: file}, {index: 0, type: uint32, resolve: f_flags, label: flags}]
    selectors: [{matchArgs: [{index: 0, operator: Equal, values: [%s]}, {index: 0, operator: FileType, values: [reg]}]}]
`, name))
			got := r.hits("open " + name)
			if len(got) != 1 || got[0].Args[0].Text != name || got[0].Hook != "security_file_open" || got[0].Args[1].Label != "flags" {
				t.Errorf("probes are %+v", got)
			}
			if got := r.hits("open /dev/null"); len(got) > 0 {
				t.Errorf("another file was reported: %+v", got[0])
			}
		})
	}
}

// TestKernelFunctionReturn: what a function returns, with what it was given.
func TestKernelFunctionReturn(t *testing.T) {
	for _, carrier := range []string{"fexit", "kprobe + kretprobe"} {
		t.Run(carrier, func(t *testing.T) {
			r := newRig(t, nil)
			r.applyBy(carrier, `
  kprobes:
  - call: do_mkdirat
    syscall: false
    return: true
    args: [{index: 1, type: filename}]
    returnArg: {index: 0, type: int}
    selectors:
    - matchArgs: [{index: 1, operator: Prefix, values: [/nowhere/]}]
      matchReturnArgs: [{operator: Equal, values: ["-2"]}]
`)
			got := r.hits("mkdir /nowhere/x")
			if len(got) != 1 || got[0].Args[0].Text != "/nowhere/x" || got[0].Return == nil || got[0].Return.Int != -2 {
				t.Errorf("probes are %+v", got)
			}
		})
	}
}

// TestOverride: a call fails with the policy's error, and only in mode enforce.
func TestOverride(t *testing.T) {
	tests := []struct{ name, carrier, call, args, match, tail string }{
		{"system call", "fmod_ret", "sys_openat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Equal, values: [%s]}]", ""},
		{"system call with its return", "fmod_ret + tp_btf/sys_exit", "sys_openat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Equal, values: [%s]}]", "    return: true\n    returnArg: {index: 0, type: int}\n"},
		{"security function", "fmod_ret", "security_file_open", "[{index: 0, type: file}]", "matchArgs: [{index: 0, operator: Equal, values: [%s]}]", "    syscall: false\n"},
		{"security module", "lsm", "security_file_open", "[{index: 0, type: file}]", "matchArgs: [{index: 0, operator: Equal, values: [%s]}]", "    syscall: false\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, nil)
			name := secret(t)
			r.applyBy(test.carrier, onCall(test.call, test.args, fmt.Sprintf(test.match, name)+"\n      matchActions: [{action: Override, argError: -55}]")+test.tail)
			pid, err := r.run("open " + name)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != int(syscall.Errno(55)) {
				t.Errorf("the open ended with %v, want error 55", err)
			}
			if got := r.probes(pid); len(got) != 1 || got[0].Action != "override" {
				t.Errorf("probes are %+v", got)
			}
			if _, err := r.run("open /dev/null"); err != nil {
				t.Errorf("another file: %v", err)
			}
			if err := r.SetMode(testKey, ModeMonitor); err != nil {
				t.Fatal(err)
			}
			if _, err := r.run("open " + name); err != nil {
				t.Errorf("while the policy only monitors: %v", err)
			}
		})
	}
}

// TestOverrideOfACallIsRefusedWithTheReason: only kernels with CONFIG_FUNCTION_ERROR_INJECTION let the result of a system call be
// changed; the others say so, and what does it there.
func TestOverrideOfACallIsRefusedWithTheReason(t *testing.T) {
	r := newRig(t, nil)
	err := r.Apply(context.Background(), r.parse(onCall("sys_openat", "[{index: 1, type: string}]",
		"matchArgs: [{index: 1, operator: Equal, values: [/nowhere]}]\n      matchActions: [{action: Override, argError: -55}]"))...)
	if err == nil {
		t.Skip("this kernel lets the results of system calls be changed; the test is for those that do not")
	}
	for _, want := range []string{"spec.kprobes[0]: sys_openat with Override", "fmod_ret: ", "security_*", "WorkloadPolicy"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	if !strings.Contains(err.Error(), "EPERM") && !strings.Contains(err.Error(), "CONFIG_FUNCTION_ERROR_INJECTION") {
		t.Errorf("error does not say why: %v", err)
	}
}

// TestSecurityHook: lsmhooks.
func TestSecurityHook(t *testing.T) {
	r := newRig(t, nil)
	name := secret(t)
	r.applyBy("lsm", fmt.Sprintf(`
  lsmhooks:
  - hook: file_open
    args: [{index: 0, type: file}]
    selectors:
    - matchArgs: [{index: 0, operator: Equal, values: [%s]}]
      matchActions: [{action: Override, argError: -13}]
`, name))
	pid, err := r.run("open " + name)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != int(syscall.EACCES) {
		t.Errorf("the open ended with %v, want %v", err, syscall.EACCES)
	}
	if got := r.probes(pid); len(got) != 1 || got[0].Kind != "lsm" || got[0].Hook != "file_open" {
		t.Errorf("probes are %+v", got)
	}
}

// TestRefusalNamesEveryWay: where no trampoline and no kprobe is, a function of the kernel is refused with both reasons.
func TestRefusalNamesEveryWay(t *testing.T) {
	r := newRig(t, nil)
	err := r.Apply(context.Background(), r.parse("  kprobes: [{call: security_file_open, syscall: false, args: [{index: 0, type: file}]}]\n")...)
	if err == nil {
		t.Skip("this kernel carries functions; the test is for those that do not")
	}
	for _, want := range []string{"spec.kprobes[0]", "security_file_open", "fentry:", "lsm:", "kprobe:", "vigie doctor"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}
