// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// probed builds testdata/probed.c.
func probed(t *testing.T) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the program's probe is written for x86")
	}
	return build(t, "probed")
}

// build builds a program of testdata.
func build(t *testing.T, name string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler: ", err)
	}
	out := filepath.Join(t.TempDir(), name)
	if text, err := exec.Command(cc, "-O1", "-o", out, "testdata/"+name+".c").CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, text)
	}
	return out
}

// runs runs a program and returns what the policy "test" reported.
func (r *rig) runs(argv ...string) int {
	r.t.Helper()
	before := r.count("test")
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("run %q: %v", argv, err)
	}
	r.mark()
	return r.count("test") - before
}

func TestUprobe(t *testing.T) {
	exe := probed(t)
	r := newRig(t, nil)
	r.apply(fmt.Sprintf(`
  uprobes:
  - path: %s
    symbols: [sum, hit]
    args: [{index: 0, type: int}, {index: 1, type: string}, {index: 2, type: int64}]
    selectors:
    - matchArgs: [{index: 0, operator: Equal, values: ["42"]}, {index: 1, operator: Equal, values: ["42"]}]
`, exe))
	if got := r.runs(exe, "42"); got != 1 {
		t.Fatalf("%d probes, want one", got)
	}
	p := r.last("test")
	if p.Kind != "uprobe" || p.Hook != "sum" || p.Target != exe || p.Args[1].Text != "42" || p.Args[2].Int != -2 {
		t.Errorf("probe is %+v", p)
	}
	if got := r.runs(exe, "43"); got != 0 {
		t.Errorf("another argument was reported %d times", got)
	}
}

func TestUprobeReturn(t *testing.T) {
	exe := probed(t)
	r := newRig(t, nil)
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	r.apply(fmt.Sprintf(`
  uprobes:
  - path: %s
    binaryDigests: ["sha256:%x"]
    symbols: [sum]
    return: true
    args: [{index: 0, type: int}]
    returnArg: {index: 0, type: int64}
    selectors:
    - matchReturnArgs: [{operator: GT, values: ["10"]}]
`, exe, sha256.Sum256(b)))
	if got := r.runs(exe, "13"); got != 1 || r.last("test").Return.Int != 13 || r.last("test").Args[0].Int != 13 {
		t.Errorf("%d probes, the last %+v", got, r.last("test"))
	}
	if got := r.runs(exe, "9"); got != 0 {
		t.Errorf("another result was reported %d times", got)
	}
}

func TestStaticProbe(t *testing.T) {
	exe := probed(t)
	r := newRig(t, nil)
	r.apply(fmt.Sprintf(`
  usdts:
  - path: %s
    provider: vigie
    name: hit
    args: [{index: 0, type: int}, {index: 1, type: int}, {index: 2, type: int}, {index: 3, type: int}]
    selectors:
    - matchArgs: [{index: 1, operator: Equal, values: ["42"]}]
`, exe))
	if got := r.runs(exe, "42"); got != 1 {
		t.Fatalf("%d probes, want one: the semaphore, the place or an argument was not found", got)
	}
	p := r.last("test")
	for i, want := range []int64{42, 42, -5, 43} {
		if p.Args[i].Int != want {
			t.Errorf("argument %d is %d, want %d", i, p.Args[i].Int, want)
		}
	}
	if p.Kind != "usdt" || p.Hook != "vigie:hit" {
		t.Errorf("probe is %+v", p)
	}
	if got := r.runs(exe, "41"); got != 0 {
		t.Errorf("another argument was reported %d times", got)
	}
}

// TestCallsOf32Bit: a number means another call in the other ABI.
func TestCallsOf32Bit(t *testing.T) {
	exe := probed(t)
	r := newRig(t, nil)
	r.apply(onCall("sys_lseek", "[{index: 0, type: int}]", "matchArgs: [{index: 0, operator: Equal, values: [\"777\"]}]"))
	if got := r.runs(exe, "call", "syscall"); got != 1 {
		t.Errorf("a 64-bit call was reported %d times, want once", got)
	}
	if err := exec.Command(exe, "call", "int80").Run(); err != nil {
		t.Skip("needs a kernel that runs 32-bit calls (CONFIG_IA32_EMULATION): ", err)
	}
	if got := r.runs(exe, "call", "int80"); got != 0 {
		t.Errorf("a 32-bit call was reported %d times as another one", got)
	}
}

// TestNameThatNothingHasTouched: the kernel is the first to read it, so a program at the entry cannot.
func TestNameThatNothingHasTouched(t *testing.T) {
	exe := build(t, "untouched")
	r := newRig(t, nil)
	for _, spec := range []string{"Equal", "return"} {
		policy := onOpen("Equal", "/vt/untouched")
		if spec == "return" {
			policy += "      matchReturnArgs: [{operator: Equal, values: [\"-2\"]}]\n    return: true\n    returnArg: {index: 0, type: int}\n"
		}
		r.apply(policy)
		if got := r.runs(exe); got != 1 || r.last("test").Args[0].Text != "/vt/untouched" || r.last("test").Hook != "sys_openat" {
			t.Errorf("%s: the open was reported %d times, the last %+v", spec, got, r.last("test"))
		}
	}
	r.apply(killOpens)
	if err := exec.Command(exe).Run(); !killedBy(err, syscall.SIGKILL) {
		t.Errorf("the process ended with %v, want SIGKILL", err)
	}
	if err := r.host.ReadLosses(); err != nil {
		t.Fatal(err)
	}
	if n := r.losses.Counter("kernel", "probe event").Load(); n != 0 {
		t.Errorf("%d hits are lost", n)
	}
}

func TestProbeArgs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the registers are those of x86")
	}
	args, err := parseProbeArgs("-4@%edi 8@-16(%rbp) 8@8(%rax,%rdx,8) -1@$-7 2@%r10w 4@(%rsp)")
	if err != nil {
		t.Fatal(err)
	}
	if len(args) != 6 || args[0].size != -4 || args[1].value != -16 || args[2].scale != 8 || args[2].index == nil || args[3].value != -7 ||
		!args[3].constant || !args[5].indirect {
		t.Errorf("arguments are %+v", args)
	}
	for _, bad := range []string{"4@%xmm0", "9@%rax", "4@sym(%rip)"} {
		if _, err := parseProbeArgs(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
