// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestReturnIsPaired(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  kprobes:
  - call: sys_read
    return: true
    args: [{index: 0, type: fd}, {index: 1, type: char_buf, returnCopy: true}, {index: 2, type: size_t}]
    returnArg: {index: 0, type: int}
    selectors:
    - matchArgs: [{index: 2, operator: Equal, values: ["100"]}]
      matchReturnArgs: [{operator: Equal, values: ["7"]}]
`)
	got := r.hits("read 7-bytes")
	if len(got) != 1 {
		t.Fatalf("%d probes, want one", len(got))
	}
	p := got[0]
	if p.Return == nil || p.Return.Int != 7 || string(p.Args[1].Data) != "7-bytes" || p.Args[2].Int != 100 || p.Carrier != "tp_btf/sys_enter + sys_exit" {
		t.Errorf("probe is %+v, return %+v", p, p.Return)
	}
	if got := r.hits("read 6-byte"); len(got) > 0 {
		t.Errorf("a call that returned something else was reported: %+v", got[0])
	}
}

func TestReturnActions(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  kprobes:
  - call: sys_openat
    return: true
    args: [{index: 1, type: string}]
    returnArg: {index: 0, type: int}
    selectors:
    - matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]
      matchReturnArgs: [{operator: Equal, values: ["-2"]}]
      matchReturnActions: [{action: Sigkill}]
`)
	pid, err := r.run("open /vt/none")
	if !killedBy(err, syscall.SIGKILL) {
		t.Errorf("the process ended with %v, want SIGKILL", err)
	}
	if got := r.await(pid, 1); got[0].Action != "sigkill" || got[0].Return.Int != -2 {
		t.Errorf("probe is %+v", got[0])
	}
}

func killedBy(err error, sig syscall.Signal) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == sig
}

func TestActions(t *testing.T) {
	tests := []struct {
		name, actions string
		signal        syscall.Signal
		want          []string // actions that are reported of three equal calls
	}{
		{"Post", "[{action: Post}]", 0, []string{"post", "post", "post"}},
		{"none", "[]", 0, []string{"post", "post", "post"}},
		{"NoPost", "[{action: NoPost}]", 0, nil},
		{"NoPost and Sigkill", "[{action: Sigkill}, {action: NoPost}]", syscall.SIGKILL, nil},
		{"Signal", "[{action: Signal, argSig: 15}]", syscall.SIGTERM, []string{"signal"}},
		{"rateLimit", "[{action: Post, rateLimit: 5m}]", 0, []string{"post"}},
		{"rateLimit of the process", "[{action: Post, rateLimit: 1h, rateLimitScope: process}]", 0, []string{"post"}},
		{"NotifyEnforcer", "[{action: NotifyEnforcer, argSig: 9}]", syscall.SIGKILL, []string{"notify_enforcer"}},
	}
	r := newRig(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.apply("  enforcers: [{calls: [sys_openat]}]\n" + onCall("sys_openat", "[{index: 1, type: string}]",
				"matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]\n      matchActions: "+test.actions))
			pid, err := r.run("opens 3 /vt/x")
			if test.signal != 0 && !killedBy(err, test.signal) || test.signal == 0 && err != nil {
				t.Errorf("the process ended with %v, want signal %v", err, test.signal)
			}
			var got []string
			for _, p := range r.probes(pid) {
				got = append(got, p.Action)
			}
			if test.signal != 0 && len(got) > 1 { // the signal comes when a call returns, to one of the threads
				got = got[:1]
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("reported %v, want %v", got, test.want)
			}
		})
	}
	r.t = t
}

func TestRateLimitIsByWhatWasSeen(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onCall("sys_openat", "[{index: 1, type: string}]",
		"matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]\n      matchActions: [{action: Post, rateLimit: 1m, rateLimitScope: global}]"))
	for _, c := range []struct {
		what string
		want int
	}{{"open /vt/a", 1}, {"open /vt/a", 0}, {"open /vt/b", 1}, {"open /vt/b", 0}} {
		if got := len(r.hits(c.what)); got != c.want {
			t.Errorf("%q was reported %d times, want %d", c.what, got, c.want)
		}
	}
}

func TestFirstSelectorThatMatchesActs(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onCall("sys_openat", "[{index: 1, type: string}, {index: 2, type: int}]", `matchArgs: [{index: 1, operator: Equal, values: [/vt/quiet]}]
      matchActions: [{action: NoPost}]
    - matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]`))
	if got := r.hits("open /vt/quiet"); len(got) > 0 {
		t.Errorf("the second selector acted: %+v", got[0])
	}
	if got := r.hits("open /vt/loud"); len(got) != 1 {
		t.Errorf("%d probes, want one", len(got))
	}
}

func TestStacks(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onCall("sys_openat", "[{index: 1, type: string}]", `matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]
      matchActions: [{action: Post, kernelStackTrace: true, userStackTrace: true}]`))
	got := r.hits("open /vt/x")
	if len(got) != 1 || len(got[0].KernelStack) == 0 || len(got[0].UserStack) == 0 {
		t.Fatalf("probes are %+v, want one with both stacks", got)
	}
	if !slices.ContainsFunc(got[0].KernelStack, func(s string) bool { return strings.Contains(s, "syscall") || strings.HasPrefix(s, "0x") }) {
		t.Errorf("the kernel's stack is %q", got[0].KernelStack)
	}
}

func TestRawTracepoint(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  tracepoints:
  - subsystem: sched
    event: sched_process_exec
    raw: true
    args:
    - {index: 2, type: linux_binprm}
    - {index: 0, type: auto, resolve: comm, label: comm}
    - {index: 2, type: path, resolve: file.f_path, label: path}
    - {index: 2, type: dentry, resolve: file.f_path.dentry}
    - {index: 0, type: cred, resolve: real_cred}
    selectors:
    - matchArgs: [{index: 2, operator: Postfix, values: [/true]}]
`)
	truth, err := exec.LookPath("true")
	if err != nil {
		t.Skip("needs a program called true: ", err)
	}
	before := r.count("test")
	r.run("exec " + truth)
	if got := r.count("test") - before; got != 1 {
		t.Fatalf("%d probes, want one", got)
	}
	p := r.last("test")
	if len(p.Args) != 5 || !strings.HasSuffix(p.Args[0].Text, "/true") || p.Args[1].Text != "true" || p.Args[2].Text != p.Args[0].Text ||
		!strings.HasSuffix(p.Args[3].Text, "/true") || p.Args[4].Creds == nil || p.Args[4].Creds.UID != uint32(os.Getuid()) || p.Args[0].Mode&0o111 == 0 {
		t.Errorf("arguments are %+v", p.Args)
	}
}

// last is the last probe of a policy.
func (r *rig) last(policy string) *model.Probe {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.events) {
		if e.Probe.Policy == policy {
			return e.Probe
		}
	}
	return nil
}

func TestTracepointByItsFormat(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  tracepoints:
  - {subsystem: sched, event: sched_process_exec, args: [{index: 4, type: data_loc, label: file}, {index: 5, type: int}],
     selectors: [{matchArgs: [{index: 4, operator: Postfix, values: [/true]}]}]}
  - {subsystem: syscalls, event: sys_enter_lseek, args: [{index: 5, type: auto}, {index: 6, type: int64}],
     selectors: [{matchArgs: [{index: 5, operator: Equal, values: ["777"]}]}]}
  - {subsystem: raw_syscalls, event: sys_enter, args: [{index: 4, type: syscall64}],
     selectors: [{matchArgs: [{index: 4, operator: InMap, values: ["list:dirs"]}]}]}
  lists: [{name: dirs, type: syscalls, values: [sys_mkdirat, sys_fchdir]}]
`)
	if got := r.hits("seek 777 -3"); len(got) != 1 || got[0].Args[1].Int != -3 || got[0].Hook != "syscalls/sys_enter_lseek" || got[0].Kind != "tracepoint" {
		t.Errorf("lseek was reported as %+v", got)
	}
	if got := r.hits("seek 778 -3"); len(got) != 0 {
		t.Errorf("another lseek was reported: %+v", got[0])
	}
	if got := r.hits("mkdir /nowhere/x"); len(got) != 1 || got[0].Args[0].Int != int64(syscallNumbers()["mkdirat"]) {
		t.Errorf("mkdirat was reported as %+v", got)
	}
	before := r.count("test")
	r.run("exec /bin/true")
	if p := r.last("test"); r.count("test") == before || !strings.HasSuffix(p.Args[0].Text, "/true") {
		t.Errorf("the exec was reported as %+v", p)
	}
}

func TestDataOfTheTask(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  kprobes:
  - call: sys_openat
    args: [{index: 1, type: string}]
    data: [{index: 0, type: uint32, source: current_task, resolve: cred.uid.val}, {index: 1, type: string, source: current_task, resolve: comm}]
    selectors:
    - matchArgs: [{index: 1, operator: Equal, values: [/vt/x]}]
      matchData: [{index: 0, operator: Equal, values: ["65534"]}]
`)
	got := r.hits("nocaps open /vt/x")
	if len(got) != 1 || len(got[0].Args) != 3 || got[0].Args[1].Int != 65534 || got[0].Args[2].Text == "" {
		t.Errorf("probes are %+v", got)
	}
	if got := r.hits("open /vt/x"); len(got) > 0 {
		t.Errorf("another user was reported: %+v", got[0])
	}
}

func TestCapabilityTypes(t *testing.T) {
	r := newRig(t, nil)
	err := r.Apply(context.Background(), r.parse(`
  tracepoints:
  - {subsystem: capability, event: cap_capable, raw: true,
     args: [{index: 0, type: cred}, {index: 0, type: cap_effective}, {index: 1, type: user_namespace}, {index: 3, type: capability}],
     selectors: [{matchArgs: [{index: 3, operator: Equal, values: [CAP_SYS_NICE]}]}]}
`)[0])
	if err != nil {
		t.Skip("needs the tracepoint cap_capable (Linux 6.13): ", err)
	}
	got := r.hits("nocaps nice")
	if len(got) == 0 || got[0].Args[0].Creds == nil || got[0].Args[0].Creds.UID != 65534 || got[0].Args[1].Int != 0 || got[0].Args[3].Int != 23 {
		t.Fatalf("probes are %+v", got)
	}
	if want := strings.Trim(strings.TrimPrefix(readlink(t, "/proc/self/ns/user"), "user:"), "[]"); fmt.Sprint(got[0].Args[2].Int) != want {
		t.Errorf("the user namespace is %d, want %s", got[0].Args[2].Int, want)
	}
}

func TestPacketsAndDevices(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  tracepoints:
  - {subsystem: net, event: net_dev_queue, raw: true, args: [{index: 0, type: skb}, {index: 0, type: net_device, resolve: dev}],
     selectors: [{matchArgs: [{index: 0, operator: DAddr, values: [127.7.7.7]}, {index: 0, operator: Protocol, values: [IPPROTO_UDP]}]}]}
`)
	before := r.count("test")
	r.run("send 127.7.7.7:1234")
	if r.count("test") == before {
		t.Fatal("the packet was not reported")
	}
	p := r.last("test")
	if p.Args[0].Remote.String() != "127.7.7.7:1234" || p.Args[0].Protocol != "udp" || p.Args[1].Text != "lo" {
		t.Errorf("arguments are %+v", p.Args)
	}
	before = r.count("test")
	if r.run("send 127.7.7.8:1234"); r.count("test") > before {
		t.Errorf("another packet was reported: %+v", r.last("test"))
	}
}

// TestTrackSock: what happens on a socket is its owner's, whoever closes it.
func TestTrackSock(t *testing.T) {
	r := newRig(t, nil)
	state := func(name, number, actions string) string {
		return fmt.Sprintf(`
  - {subsystem: sock, event: inet_sock_set_state, raw: true, message: %s, args: [{index: 0, type: sock}, {index: 2, type: int}],
     selectors: [{matchArgs: [{index: 2, operator: Equal, values: ["%s"]}, {index: 0, operator: DPort, values: ["45125"]}], matchActions: %s}]}`, name, number, actions)
	}
	const synSent, finWait1 = "2", "4"
	r.apply("  tracepoints:" + state("tracked", synSent, "[{action: TrackSock, argSock: 0}]") + state("seen", finWait1, "[]") + "\n")
	pid, err := r.run("pass 127.0.0.1:45125")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range r.probes(pid) {
		got = append(got, p.Message+" "+p.Action)
	}
	if !slices.Equal(got, []string{"tracked track_sock", "seen post"}) {
		t.Errorf("of the socket's owner was reported %v", got)
	}
	if p := r.last("test"); p.Args[0].Cookie == 0 && p.Args[0].Remote.Port() != 45125 {
		t.Errorf("the socket is %+v", p.Args[0])
	}
}

func TestUnixAddress(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onCall("sys_connect", "[{index: 1, type: sockaddr_un}]", "matchArgs: [{index: 1, operator: Family, values: [AF_UNIX]}, {index: 1, operator: Prefix, values: [/nowhere/vt, \"@vt\"]}]"))
	for _, name := range []string{"/nowhere/vt-1", "@vt-2"} {
		if got := r.hits("connect-unix " + name); len(got) != 1 || got[0].Args[0].Text != name || got[0].Args[0].Int != 1 {
			t.Errorf("%s was reported as %+v", name, got)
		}
	}
	for _, other := range []string{"connect-unix /nowhere/other", "connect 127.0.0.1:9"} {
		if got := r.hits(other); len(got) > 0 {
			t.Errorf("%q was reported: %+v", other, got[0])
		}
	}
}
