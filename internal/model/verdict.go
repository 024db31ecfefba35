// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

// Verdict is what a policy decided about something that a process tried. Allowed is never reported.
type Verdict struct {
	Action VerdictAction
	Policy string // name of the policy
	// Rule is the field of the policy that decided: "files.deny[0]", or "processes.allow" when the list has no
	// entry for what was tried.
	Rule string
	// Hook is what carried the decision out: "lsm file_open", "fanotify OPEN_PERM", "cgroup connect4".
	Hook      string
	Guarantee Guarantee
	Operation Operation

	Path string // exec and files: the object
	// Protocol is tcp, udp, icmp, … of connect, send, bind, listen, accept and socket.
	Protocol      string
	Local, Remote netip.AddrPort
	RemoteName    string // the DNS name that a rule matched or that the process asked for
	// Subject is what has no path and no address: a capability ("CAP_SYS_ADMIN"), a socket's kind, a module.
	Subject string
}

// VerdictAction is what happened to what a policy does not allow.
type VerdictAction string

// The actions of a verdict.
const (
	VerdictDenied  VerdictAction = "denied"  // the call failed
	VerdictKilled  VerdictAction = "killed"  // the process was ended with SIGKILL
	VerdictAudited VerdictAction = "audited" // the policy only watches: it happened
)

// Guarantee says how strong a result is. These are the words that policies and reports use.
type Guarantee string

// The guarantees, strongest first.
const (
	DeniedBefore Guarantee = "denied before it happens"
	KilledBefore Guarantee = "killed before the first instruction"
	KilledAfter  Guarantee = "killed after the fact"
	SeenOnly     Guarantee = "seen only"
	NotAvailable Guarantee = "not available" // nothing of this kernel carries it, and it is not seen either
)

// Strength orders guarantees: more is stronger, 0 is an unknown one.
func (g Guarantee) Strength() int {
	switch g {
	case DeniedBefore:
		return 5
	case KilledBefore:
		return 4
	case KilledAfter:
		return 3
	case SeenOnly:
		return 2
	case NotAvailable:
		return 1
	}
	return 0
}

// Operation is what a process tried, in the words of policies.
type Operation string

// The operations that policies judge.
const (
	OpExec       Operation = "exec"
	OpRead       Operation = "read"   // open for reading
	OpWrite      Operation = "write"  // open for writing, or with creation; truncate by name
	OpModify     Operation = "modify" // rename, unlink, link, mkdir, mknod, symlink, chmod, chown
	OpConnect    Operation = "connect"
	OpSend       Operation = "send"    // a datagram to an address
	OpBind       Operation = "bind"    // to a port that was asked for
	OpListen     Operation = "listen"  // also on a port that the kernel chose
	OpAccept     Operation = "accept"  // a conversation that came in
	OpSocket     Operation = "socket"  // a socket of a kind that evades the network rules: raw, packet, …
	OpReceive    Operation = "receive" // a connected socket that another process passed on
	OpCapability Operation = "capability"
	OpPtrace     Operation = "ptrace"
	OpBPF        Operation = "bpf"
	OpMount      Operation = "mount"
	OpModule     Operation = "module"
)

// Operations lists every operation, in the order in which help texts show them.
func Operations() []Operation {
	return []Operation{OpExec, OpRead, OpWrite, OpModify, OpConnect, OpSend, OpBind, OpListen, OpAccept, OpSocket,
		OpReceive, OpCapability, OpPtrace, OpBPF, OpMount, OpModule}
}

// Alert is a detection that found something.
type Alert struct {
	Rule     string // id of the detection
	Title    string
	Severity Severity
	Tags     []string // MITRE ATT&CK techniques ("T1059.004") and others
	Message  string   // the detection's output, filled in
	Action   string   // alert or kill: what the detection did about it
	// EventType and EventSeq name the event that raised it.
	EventType Type
	EventSeq  uint64
	// Suppressed is how many alerts of this detection its rate limit held back since the last one that was raised.
	Suppressed uint64
}

// Severity says how bad an alert is.
type Severity string

// The severities, least first.
const (
	SeverityInfo     Severity = "info"
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Severities lists every severity, least first.
func Severities() []Severity {
	return []Severity{SeverityInfo, SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical}
}

// Probe is a hit of a hook that a TracingPolicy asked for.
type Probe struct {
	Policy    string
	Namespace string // of the policy; empty for a cluster-wide one and on a host
	Kind      string // kprobe, tracepoint, uprobe, usdt, lsm
	// Hook is the function ("sys_openat"), tracepoint ("sched/sched_process_exec"), symbol or security hook that was asked for.
	Hook string
	// Carrier is what carries it on this kernel where that is something else: "sys_exit", "tp_btf"; else empty.
	Carrier string
	Target  string // uprobe and usdt: path of the program
	Action  string // post, sigkill, signal, override, notify_enforcer, …: the strongest that was taken
	Message string
	Tags    []string
	Args    []ProbeArg
	Return  *ProbeArg
	// KernelStack and UserStack are addresses with symbols ("do_sys_openat2+0x4f"), innermost first.
	KernelStack, UserStack []string
}

// ProbeArg is one value that a probe read.
type ProbeArg struct {
	Label string
	Type  string // the type name of the TracingPolicy: int, string, char_buf, file, path, sock, cred, …
	Int   int64  // numbers of every kind, unsigned 64-bit ones by their bits
	Text  string // strings and paths
	Data  []byte // char_buf and its like
	// Truncated: Text or Data is the beginning of something longer.
	Truncated     bool
	Flags, Mode   uint32 // file and path: open flags and permission bits
	Protocol      string // sock and its like
	Local, Remote netip.AddrPort
	Cookie        uint64
	Creds         *Creds // cred
}
