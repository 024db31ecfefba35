// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"net/netip"
	"strings"
	"testing"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/model"
)

func TestProbesByKind(t *testing.T) {
	shell, script, _ := family()
	c := newConverter(newBackend(shell, script))
	base := model.Probe{Policy: "p", Message: "m", Tags: []string{"t"}, Action: "sigkill", Target: "/bin/app", Args: []model.ProbeArg{{Type: "int", Int: 1}}}
	convert := func(kind, hook string) *tg.GetEventsResponse {
		p := base
		p.Kind, p.Hook = kind, hook
		return c.event(probeOf(script, shell, p), false)
	}
	k := convert("kprobe", "security_file_open").GetProcessKprobe()
	if k.GetFunctionName() != "security_file_open" || k.GetPolicyName() != "p" || k.GetMessage() != "m" || k.GetTags()[0] != "t" ||
		k.GetAction() != tg.KprobeAction_KPROBE_ACTION_SIGKILL || len(k.GetArgs()) != 1 || k.GetProcess().GetTid().GetValue() != 201 ||
		k.GetParent().GetPid().GetValue() != 100 || k.GetReturn() != nil {
		t.Errorf("kprobe: %v", k)
	}
	if f := convert("kprobe", "sys_openat").GetProcessKprobe().GetFunctionName(); !strings.HasSuffix(f, "_sys_openat") || !strings.HasPrefix(f, "__") {
		t.Errorf("a system call is %q, want the architecture in front", f)
	}
	if convert("fentry", "tcp_connect").GetProcessKprobe().GetFunctionName() != "tcp_connect" {
		t.Error("fentry is not a kprobe")
	}
	tp := convert("tracepoint", "sched/sched_process_exec").GetProcessTracepoint()
	if tp.GetSubsys() != "sched" || tp.GetEvent() != "sched_process_exec" || tp.GetPolicyName() != "p" || len(tp.GetArgs()) != 1 {
		t.Errorf("tracepoint: %v", tp)
	}
	u := convert("uprobe", "main.run").GetProcessUprobe()
	if u.GetPath() != "/bin/app" || u.GetSymbol() != "main.run" || u.GetOffset() != 0 || u.GetPolicyName() != "p" {
		t.Errorf("uprobe: %v", u)
	}
	if u := convert("uprobe", "0x1234").GetProcessUprobe(); u.GetSymbol() != "" || u.GetOffset() != 0x1234 {
		t.Errorf("uprobe at an offset: %v", u)
	}
	usdt := convert("usdt", "libc/memory_sbrk_more").GetProcessUsdt()
	if usdt.GetPath() != "/bin/app" || usdt.GetProvider() != "libc" || usdt.GetName() != "memory_sbrk_more" || usdt.GetPolicyName() != "p" {
		t.Errorf("usdt: %v", usdt)
	}
	lsm := convert("lsm", "bprm_check_security").GetProcessLsm()
	if lsm.GetFunctionName() != "bprm_check_security" || lsm.GetPolicyName() != "p" || lsm.GetAction() != tg.KprobeAction_KPROBE_ACTION_SIGKILL {
		t.Errorf("lsm: %v", lsm)
	}
}

func TestReturnsAndStacks(t *testing.T) {
	shell, script, _ := family()
	e := probeOf(script, shell, model.Probe{Kind: "kprobe", Hook: "vfs_read", Return: &model.ProbeArg{Type: "int", Int: -13},
		KernelStack: []string{"do_sys_openat2+0x4f", "0xffffffff81000000 entry_SYSCALL_64+0x10"}, UserStack: []string{"/usr/lib/libc.so.6+0x9d2a0", "0x7f00"}})
	k := newConverter(newBackend()).event(e, false).GetProcessKprobe()
	if k.GetReturn().GetIntArg() != -13 {
		t.Errorf("return %v", k.GetReturn())
	}
	want := []*tg.StackTraceEntry{{Symbol: "do_sys_openat2", Offset: 0x4f}, {Address: 0xffffffff81000000, Symbol: "entry_SYSCALL_64", Offset: 0x10},
		{Module: "/usr/lib/libc.so.6", Offset: 0x9d2a0}, {Address: 0x7f00}}
	got := append(k.GetKernelStackTrace(), k.GetUserStackTrace()...)
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("entry %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

func TestActions(t *testing.T) {
	for name, want := range map[string]tg.KprobeAction{"": tg.KprobeAction_KPROBE_ACTION_POST, "Post": tg.KprobeAction_KPROBE_ACTION_POST,
		"NoPost": tg.KprobeAction_KPROBE_ACTION_NOPOST, "signal": tg.KprobeAction_KPROBE_ACTION_SIGNAL, "override": tg.KprobeAction_KPROBE_ACTION_OVERRIDE,
		"NotifyEnforcer": tg.KprobeAction_KPROBE_ACTION_NOTIFYENFORCER, "notify_enforcer": tg.KprobeAction_KPROBE_ACTION_NOTIFYENFORCER,
		"track_sock": tg.KprobeAction_KPROBE_ACTION_TRACKSOCK, "UntrackSock": tg.KprobeAction_KPROBE_ACTION_UNTRACKSOCK,
		"CleanupEnforcerNotification": tg.KprobeAction_KPROBE_ACTION_CLEANUPENFORCERNOTIFICATION, "Set": tg.KprobeAction_KPROBE_ACTION_SET,
		"dance": tg.KprobeAction_KPROBE_ACTION_UNKNOWN} {
		if got := probeAction(name); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestArgumentsByType(t *testing.T) {
	local, remote := netip.MustParseAddrPort("[2001:db8::1]:1234"), netip.MustParseAddrPort("[2001:db8::2]:443")
	for _, c := range []struct {
		arg  model.ProbeArg
		want string // in Tetragon's JSON
	}{
		{model.ProbeArg{Type: "int", Int: -1, Label: "fd"}, `{"int_arg":-1,"label":"fd"}`},
		{model.ProbeArg{Type: "sint8", Int: -3}, `{"int_arg":-3}`},
		{model.ProbeArg{Type: "uint16", Int: 65535}, `{"uint_arg":65535}`},
		{model.ProbeArg{Type: "uint64", Int: -1}, `{"size_arg":"18446744073709551615"}`},
		{model.ProbeArg{Type: "size_t", Int: 5}, `{"size_arg":"5"}`},
		{model.ProbeArg{Type: "long", Int: -5}, `{"long_arg":"-5"}`},
		{model.ProbeArg{Type: "string", Text: "/tmp/x"}, `{"string_arg":"/tmp/x"}`},
		{model.ProbeArg{Type: "char_buf", Data: []byte("abc")}, `{"bytes_arg":"YWJj"}`},
		{model.ProbeArg{Type: "char_buf", Data: []byte("abc"), Truncated: true, Int: 900}, `{"truncated_bytes_arg":{"bytes_arg":"YWJj","orig_size":"900"}}`},
		{model.ProbeArg{Type: "char_iovec", Data: []byte("abc"), Truncated: true}, `{"truncated_bytes_arg":{"bytes_arg":"YWJj","orig_size":"4"}}`},
		{model.ProbeArg{Type: "file", Text: "/etc/passwd", Mode: 0o100644}, `{"file_arg":{"path":"/etc/passwd","permission":"-rw-r--r--"}}`},
		{model.ProbeArg{Type: "fd", Text: "/a", Truncated: true}, `{"file_arg":{"path":"/a","flags":"unresolvedPathComponents"}}`},
		{model.ProbeArg{Type: "path", Text: "/tmp", Mode: 0o41777}, `{"path_arg":{"path":"/tmp","permission":"drwxrwxrwt"}}`},
		{model.ProbeArg{Type: "linux_binprm", Text: "/bin/su", Mode: 0o104755}, `{"linux_binprm_arg":{"path":"/bin/su","permission":"-rwsr-xr-x"}}`},
		{model.ProbeArg{Type: "sock", Protocol: "tcp", Local: local, Remote: remote, Cookie: 9},
			`{"sock_arg":{"family":"AF_INET6","type":"SOCK_STREAM","protocol":"IPPROTO_TCP","saddr":"2001:db8::1","daddr":"2001:db8::2","sport":1234,"dport":443,"cookie":"9"}}`},
		{model.ProbeArg{Type: "skb", Protocol: "udp", Remote: netip.MustParseAddrPort("192.0.2.1:53")},
			`{"skb_arg":{"daddr":"192.0.2.1","dport":53,"protocol":"IPPROTO_UDP","family":"AF_INET"}}`},
		{model.ProbeArg{Type: "sock", Protocol: "132", Int: 1}, `{"sock_arg":{"family":"AF_UNIX","protocol":"132"}}`},
		{model.ProbeArg{Type: "sock", Int: 10, Remote: netip.MustParseAddrPort("192.0.2.1:80")}, `{"sock_arg":{"family":"AF_INET6","daddr":"192.0.2.1","dport":80}}`},
		{model.ProbeArg{Type: "sockaddr", Int: 99}, `{"sockaddr_arg":{"family":"99"}}`},
		{model.ProbeArg{Type: "sockaddr", Remote: remote}, `{"sockaddr_arg":{"family":"AF_INET6","addr":"2001:db8::2","port":443}}`},
		{model.ProbeArg{Type: "sockaddr_un", Text: "@x"}, `{"sockaddrun_arg":{"family":"AF_UNIX","path":"@x"}}`},
		{model.ProbeArg{Type: "capability", Int: 21}, `{"capability_arg":{"value":21,"name":"CAP_SYS_ADMIN"}}`},
		{model.ProbeArg{Type: "kernel_cap_t", Int: 3}, `{"kernel_cap_t_arg":"0000000000000003"}`},
		{model.ProbeArg{Type: "cap_effective", Int: 3}, `{"cap_effective_arg":"0000000000000003"}`},
		{model.ProbeArg{Type: "cap_permitted", Int: 3}, `{"cap_permitted_arg":"0000000000000003"}`},
		{model.ProbeArg{Type: "cap_inheritable", Int: 3}, `{"cap_inheritable_arg":"0000000000000003"}`},
		{model.ProbeArg{Type: "bpf_cmd", Int: 5}, `{"bpf_cmd_arg":"BPF_PROG_LOAD"}`},
		{model.ProbeArg{Type: "bpf_attr", Text: "prog"}, `{"bpf_attr_arg":{"ProgName":"prog"}}`},
		{model.ProbeArg{Type: "bpf_prog", Text: "prog"}, `{"bpf_prog_arg":{"ProgName":"prog"}}`},
		{model.ProbeArg{Type: "bpf_map", Text: "map"}, `{"bpf_map_arg":{"MapName":"map"}}`},
		{model.ProbeArg{Type: "perf_event", Text: "f"}, `{"perf_event_arg":{"KprobeFunc":"f"}}`},
		{model.ProbeArg{Type: "module", Text: "dm"}, `{"module_arg":{"name":"dm"}}`},
		{model.ProbeArg{Type: "net_device", Text: "eth0"}, `{"net_dev_arg":{"name":"eth0"}}`},
		{model.ProbeArg{Type: "user_namespace", Int: 7}, `{"user_ns_arg":{"ns":{"inum":7}}}`},
		{model.ProbeArg{Type: "error", Text: "EFAULT"}, `{"error_arg":{"Message":"EFAULT"}}`},
		{model.ProbeArg{Type: "nop", Label: "x"}, `{"label":"x"}`},
		{model.ProbeArg{Type: "of tomorrow", Text: "x"}, `{"string_arg":"x"}`},
		{model.ProbeArg{Type: "of tomorrow", Int: 4}, `{"long_arg":"4"}`},
	} {
		want := new(tg.KprobeArgument)
		if err := protojson.Unmarshal([]byte(c.want), want); err != nil {
			t.Fatalf("%s: %v", c.want, err)
		}
		if got := argument(&c.arg); !proto.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", c.arg, got, want)
		}
	}
	cred := argument(&model.ProbeArg{Type: "cred", Creds: &model.Creds{EUID: 5, CapEffective: 1}}).GetProcessCredentialsArg()
	if cred.GetEuid().GetValue() != 5 || len(cred.GetCaps().GetEffective()) != 1 {
		t.Errorf("cred: %v", cred)
	}
	if id := argument(&model.ProbeArg{Type: "syscall64", Int: 59}).GetSyscallId(); id.GetId() != 59 || id.GetAbi() == "" {
		t.Errorf("syscall64: %v", id)
	}
}
