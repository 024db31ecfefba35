// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// Feature is the name of one thing that a kernel may or may not let us do. Names are stable: they
// stand in the JSON output of `vigie doctor`.
type Feature string

// Kind says what a feature is.
type Kind string

// The kinds of feature.
const (
	KindProgram    Kind = "program"    // a program type with its way to attach
	KindTracepoint Kind = "tracepoint" // a tracepoint, attached to
	KindHook       Kind = "hook"       // one LSM hook or function to deny at
	KindMap        Kind = "map"
	KindHelper     Kind = "helper"
	KindKfunc      Kind = "kfunc"
	KindSystem     Kind = "system" // not BPF
)

// The features that the ladder is made of, or that other rooms ask for.
const (
	TPBTF           Feature = "tp_btf"
	RawTP           Feature = "raw_tp"
	Fentry          Feature = "fentry"
	Fexit           Feature = "fexit"
	FmodRet         Feature = "fmod_ret"
	LSM             Feature = "lsm"
	LSMCgroup       Feature = "lsm_cgroup"
	Freplace        Feature = "freplace"
	IterTask        Feature = "iter_task"
	IterTaskFile    Feature = "iter_task_file"
	IterTCP         Feature = "iter_tcp"
	IterUDP         Feature = "iter_udp"
	IterUnix        Feature = "iter_unix"
	SockCreate      Feature = "cgroup_sock_create"
	SockRelease     Feature = "cgroup_sock_release"
	PostBind4       Feature = "cgroup_post_bind4"
	PostBind6       Feature = "cgroup_post_bind6"
	Connect4        Feature = "cgroup_connect4"
	Connect6        Feature = "cgroup_connect6"
	ConnectUnix     Feature = "cgroup_connect_unix"
	Sendmsg4        Feature = "cgroup_sendmsg4"
	Sendmsg6        Feature = "cgroup_sendmsg6"
	Bind4           Feature = "cgroup_bind4"
	Bind6           Feature = "cgroup_bind6"
	Sockops         Feature = "cgroup_sockops"
	SKBIngress      Feature = "cgroup_skb_ingress"
	SKBEgress       Feature = "cgroup_skb_egress"
	TCXIngress      Feature = "tcx_ingress"
	TCXEgress       Feature = "tcx_egress"
	Ringbuf         Feature = "map_ringbuf"
	SKStorage       Feature = "map_sk_storage"
	SendSignal      Feature = "bpf_send_signal"
	SockDestroy     Feature = "bpf_sock_destroy"
	TPExec          Feature = "tracepoint_sched_process_exec"
	TPFork          Feature = "tracepoint_sched_process_fork"
	TPExit          Feature = "tracepoint_sched_process_exit"
	TPSysEnter      Feature = "tracepoint_sys_enter"
	TPSysExit       Feature = "tracepoint_sys_exit"
	TPSockState     Feature = "tracepoint_inet_sock_set_state"
	TPCapable       Feature = "tracepoint_cap_capable"
	HookExec        Feature = "lsm_bprm_check_security"
	HookFileOpen    Feature = "lsm_file_open"
	HookPathRename  Feature = "lsm_path_rename"
	HookInodeUnlink Feature = "lsm_inode_unlink"
	HookCapable     Feature = "lsm_capable"
	HookPtrace      Feature = "lsm_ptrace_access_check"
	HookBPF         Feature = "lsm_bpf"
	HookMount       Feature = "lsm_sb_mount"
	HookModule      Feature = "lsm_kernel_read_file"
	DenyExec        Feature = "fmod_ret_security_bprm_check"
	DenyFileOpen    Feature = "fmod_ret_security_file_open"
	DenyPathRename  Feature = "fmod_ret_security_path_rename"
	DenyInodeUnlink Feature = "fmod_ret_security_inode_unlink"
	DenyCapable     Feature = "fmod_ret_security_capable"
	DenyPtrace      Feature = "fmod_ret_security_ptrace_access_check"
	DenyBPF         Feature = "fmod_ret_security_bpf"
	DenyMount       Feature = "fmod_ret_security_sb_mount"
	DenyModule      Feature = "fmod_ret_security_kernel_read_file"
	FanotifyExec    Feature = "fanotify_open_exec_perm"
	FanotifyOpen    Feature = "fanotify_open_perm"
)

// test is how one feature is tried, and what is known of it for the case that it does not work.
type test struct {
	name  Feature
	kind  Kind
	about string
	// since is the first mainline release that has it; empty when that is older than 5.15, the oldest
	// kernel that vigie supports. Used only to explain a failure: distributions backport.
	since  string
	config string // the build options it takes, without CONFIG_; space-separated
	caps   []model.Cap
	// trampoline: the kernel attaches it by generating code, which some kernels refuse altogether.
	trampoline bool
	run        func(*env) error
}

// Capabilities that bpf() asks for.
const (
	capNetAdmin model.Cap = unix.CAP_NET_ADMIN
	capSysAdmin model.Cap = unix.CAP_SYS_ADMIN
	capPerfmon  model.Cap = unix.CAP_PERFMON
	capBPF      model.Cap = unix.CAP_BPF
)

// Features lists the names of all tests in the order of a report.
func Features() []Feature {
	var names []Feature
	for _, t := range tests() {
		names = append(names, t.name)
	}
	return names
}

func tests() []*test {
	return slices.Concat(tracingTests(), iteratorTests(), cgroupTests(), networkTests(), otherTests(),
		tracepointTests(), hookTests(), mapTests(), helperTests(), kfuncTests(), systemTests())
}

func tracingTests() []*test {
	list := []*test{
		{name: TPBTF, about: "typed tracepoints: processes, sockets, system calls", run: tpBTF("sched_process_exec")},
		{name: RawTP, about: "the same on kernels without BTF", run: rawTP("sched_process_exec")},
		{name: "tracepoint_perf", about: "classic tracepoints", run: perfTracepoint},
		{name: "kprobe", about: "any kernel function (vigie does not need it)", config: "KPROBE_EVENTS", run: kprobe},
		{name: "kprobe_multi", about: "many kernel functions at once (vigie does not need it)", since: "5.18", config: "FPROBE", run: kprobeMulti},
		{name: "uprobe", about: "functions of user programs", config: "UPROBE_EVENTS",
			caps: []model.Cap{capBPF, capPerfmon, capSysAdmin}, run: uprobe},
		{name: "uprobe_multi", about: "many functions of user programs at once", since: "6.6", config: "UPROBES", run: uprobeMulti},
		{name: Fentry, about: "entry of a kernel function", trampoline: true, run: traced(ebpf.AttachTraceFEntry)},
		{name: Fexit, about: "return of a kernel function", trampoline: true, run: traced(ebpf.AttachTraceFExit)},
		{name: FmodRet, about: "refuse in a kernel function", trampoline: true, run: traced(ebpf.AttachModifyReturn)},
		{name: LSM, about: "refuse in a security hook", config: "BPF_LSM", trampoline: true, run: lsm},
		{name: "lsm_sleepable", about: "security hooks that may read user memory", config: "BPF_LSM", trampoline: true, run: lsmSleepable},
		{name: LSMCgroup, about: "security hooks for one cgroup", since: "6.0", config: "BPF_LSM", trampoline: true, run: lsmCgroup},
		{name: Freplace, about: "replace a function of another program", trampoline: true, run: freplace},
	}
	return with(list, KindProgram, capBPF, capPerfmon)
}

func tracepointTests() []*test {
	names := []struct{ name, since, about string }{
		{"sched_process_exec", "", "a new program image"},
		{"sched_process_fork", "", "a new process or thread"},
		{"sched_process_exit", "", "the end of a thread"},
		{"sys_enter", "", "system calls with their arguments"},
		{"sys_exit", "", "system calls with their results"},
		{"inet_sock_set_state", "", "state of TCP connections"},
		{"tcp_retransmit_skb", "", "TCP retransmits"},
		{"module_load", "", "kernel modules"},
		{"cap_capable", "6.13", "use of a capability"},
	}
	var list []*test
	for _, n := range names {
		t := &test{name: Feature("tracepoint_" + n.name), about: n.about, since: n.since, run: tracepoint(n.name)}
		if n.name == "module_load" {
			t.config = "MODULES"
		}
		list = append(list, t)
	}
	return with(list, KindTracepoint, capBPF, capPerfmon)
}

func hookTests() []*test {
	var list []*test
	for _, hook := range []struct{ lsm, function, about string }{
		{"bprm_check_security", "security_bprm_check", "refuse an exec"},
		{"file_open", "security_file_open", "refuse to open a file"},
		{"path_rename", "security_path_rename", "refuse a rename by path"},
		{"inode_unlink", "security_inode_unlink", "refuse an unlink"},
		{"capable", "security_capable", "refuse a capability"},
		{"ptrace_access_check", "security_ptrace_access_check", "refuse ptrace"},
		{"bpf", "security_bpf", "refuse bpf()"},
		{"sb_mount", "security_sb_mount", "refuse a mount"},
		{"kernel_read_file", "security_kernel_read_file", "refuse a kernel module"},
	} {
		config := ""
		if hook.lsm == "path_rename" {
			config = " SECURITY_PATH"
		}
		list = append(list,
			&test{name: Feature("lsm_" + hook.lsm), about: hook.about, config: "BPF_LSM" + config, trampoline: true, run: lsmHook(hook.lsm)},
			&test{name: Feature("fmod_ret_" + hook.function), about: hook.about, config: config, trampoline: true, run: fmodRet(hook.function)})
	}
	return with(list, KindHook, capBPF, capPerfmon)
}

func iteratorTests() []*test {
	list := []*test{
		{name: IterTask, about: "processes that ran before the agent", run: iterator("task", 0)},
		{name: "iter_task_sleepable", about: "their command lines", since: "6.0", run: iterator("task", sleepable)},
		{name: IterTaskFile, about: "their open files and sockets", run: iterator("task_file", 0)},
		{name: IterTCP, about: "TCP sockets that were open before the agent", run: iterator("tcp", 0)},
		{name: IterUDP, about: "UDP sockets that were open before the agent", run: iterator("udp", 0)},
		{name: IterUnix, about: "unix sockets that were open before the agent", run: iterator("unix", 0)},
	}
	return with(list, KindProgram, capBPF, capPerfmon)
}

func cgroupTests() []*test {
	const addr, sock = ebpf.CGroupSockAddr, ebpf.CGroupSock
	list := []*test{
		{name: SKBIngress, about: "packets that arrive: DNS, byte counts, drop", run: onCgroup(ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress})},
		{name: SKBEgress, about: "packets that leave: DNS, byte counts, drop", run: onCgroup(ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress})},
		{name: SockCreate, about: "owner of a socket", run: onCgroup(ebpf.ProgramSpec{Type: sock, AttachType: ebpf.AttachCGroupInetSockCreate})},
		{name: SockRelease, about: "close of a socket", run: onCgroup(ebpf.ProgramSpec{Type: sock, AttachType: ebpf.AttachCgroupInetSockRelease})},
		{name: PostBind4, about: "bound IPv4 sockets", run: onCgroup(ebpf.ProgramSpec{Type: sock, AttachType: ebpf.AttachCGroupInet4PostBind})},
		{name: PostBind6, about: "bound IPv6 sockets", run: onCgroup(ebpf.ProgramSpec{Type: sock, AttachType: ebpf.AttachCGroupInet6PostBind})},
		{name: Connect4, about: "see and refuse connect, IPv4", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupInet4Connect})},
		{name: Connect6, about: "see and refuse connect, IPv6", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupInet6Connect})},
		{name: ConnectUnix, about: "see and refuse connect, unix sockets", since: "6.7", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCgroupUnixConnect})},
		{name: Sendmsg4, about: "see and refuse UDP send, IPv4", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupUDP4Sendmsg})},
		{name: Sendmsg6, about: "see and refuse UDP send, IPv6", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupUDP6Sendmsg})},
		{name: "cgroup_sendmsg_unix", about: "see and refuse send, unix sockets", since: "6.7", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCgroupUnixSendmsg})},
		{name: "cgroup_recvmsg4", about: "UDP receive, IPv4", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupUDP4Recvmsg})},
		{name: "cgroup_recvmsg6", about: "UDP receive, IPv6", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupUDP6Recvmsg})},
		{name: Bind4, about: "see and refuse bind, IPv4", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupInet4Bind})},
		{name: Bind6, about: "see and refuse bind, IPv6", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCGroupInet6Bind})},
		{name: "cgroup_getpeername4", about: "peer address as told to the program, IPv4", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCgroupInet4GetPeername})},
		{name: "cgroup_getpeername6", about: "peer address as told to the program, IPv6", run: onCgroup(ebpf.ProgramSpec{Type: addr, AttachType: ebpf.AttachCgroupInet6GetPeername})},
		{name: Sockops, about: "life of a TCP connection", run: onCgroup(ebpf.ProgramSpec{Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps})},
		{name: "cgroup_device", about: "refuse the use of a device", run: onCgroup(ebpf.ProgramSpec{Type: ebpf.CGroupDevice, AttachType: ebpf.AttachCGroupDevice})},
	}
	for _, t := range list {
		if t.config == "" {
			t.config = "CGROUP_BPF"
		}
	}
	return with(list, KindProgram, capBPF, capNetAdmin)
}

func networkTests() []*test {
	list := []*test{
		{name: TCXIngress, about: "packets of an interface, arriving", since: "6.6", config: "NET_XGRESS", run: tcx(ebpf.AttachTCXIngress)},
		{name: TCXEgress, about: "packets of an interface, leaving", since: "6.6", config: "NET_XGRESS", run: tcx(ebpf.AttachTCXEgress)},
		{name: "xdp", about: "packets before the network stack", run: onNetns(ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: returning(2)}, attachXDP)},
		{name: "sk_lookup", about: "choose the socket of a new connection",
			run: onNetns(ebpf.ProgramSpec{Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, Instructions: returning(1)}, attachSkLookup)},
		{name: "netfilter", about: "netfilter hooks", since: "6.4", config: "NETFILTER_BPF_LINK",
			run: onNetns(ebpf.ProgramSpec{Type: ebpf.Netfilter, AttachType: ebpf.AttachNetfilter, Instructions: returning(1)}, attachNetfilter)},
		{name: "sk_msg", about: "what a socket sends", config: "NET_SOCK_MSG", run: onSockmap(ebpf.SkMsg, ebpf.AttachSkMsgVerdict)},
		{name: "sk_skb", about: "what a socket receives", config: "NET_SOCK_MSG", run: onSockmap(ebpf.SkSKB, ebpf.AttachSkSKBStreamVerdict)},
	}
	return with(list, KindProgram, capBPF, capNetAdmin)
}

func otherTests() []*test {
	list := []*test{
		{name: "struct_ops", about: "methods of kernel structures", config: "BPF_JIT DEBUG_INFO_BTF", trampoline: true,
			caps: []model.Cap{capBPF, capPerfmon, capNetAdmin}, run: structOps},
		{name: "syscall", about: "programs that the agent runs itself", caps: []model.Cap{capBPF}, run: syscallProgram},
	}
	return with(list, KindProgram)
}

func mapTests() []*test {
	arena := ebpf.MapSpec{Type: ebpf.Arena, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE}
	list := []*test{
		{name: Ringbuf, about: "events to the agent", run: creates(ring(ebpf.RingBuf))},
		{name: "map_user_ringbuf", about: "messages from the agent", since: "6.1", run: creates(ring(ebpf.UserRingbuf))},
		{name: "map_lru_hash", about: "folding of repeated events", run: creates(ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 8, ValueSize: 8, MaxEntries: 64})},
		{name: "map_lpm_trie", about: "policies with address ranges",
			run: creates(ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 64, Flags: unix.BPF_F_NO_PREALLOC})},
		{name: SKStorage, about: "owner of a socket, held in the socket", run: creates(storage(ebpf.SkStorage))},
		{name: "map_task_storage", about: "state of a process, held in the task", run: creates(storage(ebpf.TaskStorage))},
		{name: "map_inode_storage", about: "state of a file, held in the inode", config: "BPF_LSM", run: creates(storage(ebpf.InodeStorage))},
		{name: "map_cgroup_storage", about: "identity of a workload, held in the cgroup", since: "6.2", run: creates(storage(ebpf.CgroupStorage))},
		{name: "map_arena", about: "memory shared with the agent", since: "6.9", run: creates(arena)},
	}
	return with(list, KindMap, capBPF)
}

func helperTests() []*test {
	cgroupAddr := ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect}
	cgroupSKB := ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress}
	type h struct {
		name  string
		fn    asm.BuiltinFunc
		in    ebpf.ProgramSpec
		since string
		about string
	}
	list := []h{
		{"bpf_get_current_task_btf", asm.FnGetCurrentTaskBtf, inTracepoint(), "", "the current task, typed"},
		{"bpf_probe_read_kernel", asm.FnProbeReadKernel, inTracepoint(), "", "read kernel memory"},
		{"bpf_probe_read_user_str", asm.FnProbeReadUserStr, inTracepoint(), "", "read user memory"},
		{"bpf_ktime_get_boot_ns", asm.FnKtimeGetBootNs, inTracepoint(), "", "time since boot"},
		{"bpf_get_current_cgroup_id", asm.FnGetCurrentCgroupId, inTracepoint(), "", "cgroup of the current task"},
		{"bpf_send_signal", asm.FnSendSignal, inTracepoint(), "", "kill the current process"},
		{"bpf_loop", asm.FnLoop, inTracepoint(), "5.17", "long loops"},
		{"bpf_for_each_map_elem", asm.FnForEachMapElem, inTracepoint(), "", "walk a map"},
		{"bpf_strncmp", asm.FnStrncmp, inTracepoint(), "5.17", "compare strings"},
		{"bpf_ringbuf_reserve_dynptr", asm.FnRingbufReserveDynptr, inTracepoint(), "5.19", "events of variable size"},
		{"bpf_ringbuf_query", asm.FnRingbufQuery, inTracepoint(), "", "fill of a ring buffer"},
		{"bpf_task_storage_get", asm.FnTaskStorageGet, inTracepoint(), "", "state of a process"},
		{"bpf_sk_storage_get_tracing", asm.FnSkStorageGet, inTracepoint(), "", "owner of a socket, in tracepoints"},
		{"bpf_sk_storage_get_sock_addr", asm.FnSkStorageGet, cgroupAddr, "", "owner of a socket, at connect"},
		{"bpf_sk_storage_get_skb", asm.FnSkStorageGet, cgroupSKB, "", "owner of a socket, on the packet path"},
		{"bpf_get_current_task_btf_sock_addr", asm.FnGetCurrentTaskBtf, cgroupAddr, "", "the current task, at connect"},
		{"bpf_get_socket_cookie_tracing", asm.FnGetSocketCookie, inTracepoint(), "", "number of a socket, in tracepoints"},
		{"bpf_d_path", asm.FnDPath, inIterator("task_file", 0), "", "path of an open file, in iterators"},
		{"bpf_d_path_lsm", asm.FnDPath, inLSM("file_open", sleepable), "", "path of a file, in security hooks"},
		{"bpf_copy_from_user_task", asm.FnCopyFromUserTask, inIterator("task", sleepable), "5.18", "user memory of another process"},
		{"bpf_timer_init", asm.FnTimerInit, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, "", "timers"},
		{"bpf_skb_load_bytes", asm.FnSkbLoadBytes, cgroupSKB, "", "contents of a packet"},
		{"bpf_sock_ops_cb_flags_set", asm.FnSockOpsCbFlagsSet, ebpf.ProgramSpec{Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps}, "", "which moments of a connection to see"},
	}
	var out []*test
	for _, h := range list {
		caps := []model.Cap{capBPF, capPerfmon}
		if h.in.Type == ebpf.CGroupSockAddr || h.in.Type == ebpf.CGroupSKB || h.in.Type == ebpf.SchedCLS || h.in.Type == ebpf.SockOps {
			caps = append(caps, capNetAdmin)
		}
		out = append(out, &test{name: Feature(h.name), about: h.about, since: h.since, caps: caps,
			trampoline: h.in.Type == ebpf.LSM, run: helper(h.fn, h.name, h.in)})
	}
	return with(out, KindHelper)
}

func kfuncTests() []*test {
	list := []*test{
		{name: "bpf_task_work_schedule", about: "a callback that may read user memory", since: "6.18",
			run: kfunc(inTracepoint(), "bpf_task_work_schedule_signal", "bpf_task_work_schedule_signal_impl")},
		{name: "bpf_cgroup_read_xattr", about: "identity of a pod, from its cgroup", since: "6.17", run: kfunc(inTracepoint(), "bpf_cgroup_read_xattr")},
		{name: "bpf_cgroup_from_id", about: "a cgroup by its number", since: "6.4", run: kfunc(inTracepoint(), "bpf_cgroup_from_id")},
		{name: "bpf_cgroup_ancestor", about: "the cgroups above a cgroup", since: "6.2", run: kfunc(inTracepoint(), "bpf_cgroup_ancestor")},
		{name: "bpf_task_from_pid", about: "a process by its number", since: "6.2", run: kfunc(inTracepoint(), "bpf_task_from_pid")},
		{name: "bpf_rcu_read_lock", about: "safe walks over kernel structures", since: "6.2", run: kfunc(inTracepoint(), "bpf_rcu_read_lock")},
		{name: "bpf_send_signal_task", about: "kill another process", since: "6.13", run: kfunc(inTracepoint(), "bpf_send_signal_task")},
		{name: SockDestroy, about: "end a connection that is open", since: "6.5", run: kfunc(inIterator("tcp", 0), "bpf_sock_destroy")},
		{name: "bpf_get_task_exe_file", about: "executable of a process, in security hooks", since: "6.12", trampoline: true, config: "BPF_LSM",
			run: kfunc(inLSM("file_open", 0), "bpf_get_task_exe_file")},
		{name: "bpf_path_d_path", about: "path of a file, in security hooks", since: "6.12", trampoline: true, config: "BPF_LSM",
			run: kfunc(inLSM("file_open", 0), "bpf_path_d_path")},
		{name: "bpf_sock_addr_set_sun_path", about: "path of a unix socket, at connect", since: "6.7",
			caps: []model.Cap{capBPF, capNetAdmin},
			run:  kfunc(ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCgroupUnixConnect}, "bpf_sock_addr_set_sun_path")},
	}
	for _, t := range list {
		if t.caps == nil {
			t.caps = []model.Cap{capBPF, capPerfmon}
		}
	}
	return with(list, KindKfunc)
}

func systemTests() []*test {
	list := []*test{
		{name: FanotifyExec, about: "refuse an exec from user space", config: "FANOTIFY_ACCESS_PERMISSIONS", run: fanotifyMark(unix.FAN_OPEN_EXEC_PERM)},
		{name: FanotifyOpen, about: "refuse to open a file from user space", config: "FANOTIFY_ACCESS_PERMISSIONS", run: fanotifyDenies},
	}
	return with(list, KindSystem, capSysAdmin)
}

// with fills in what the tests of a list have in common.
func with(list []*test, kind Kind, caps ...model.Cap) []*test {
	for _, t := range list {
		t.kind = kind
		if t.caps == nil {
			t.caps = caps
		}
	}
	return list
}
