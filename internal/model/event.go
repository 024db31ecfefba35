// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"time"
)

// Type says what an event is about. It is the `type` of the JSON form.
type Type string

// The event types. Each names the part of Event that is set.
const (
	TypeExec       Type = "exec"        // Exec
	TypeExecFailed Type = "exec_failed" // ExecFailed
	TypeFork       Type = "fork"        // nothing but Process
	TypeExit       Type = "exit"        // Exit
	TypeCredential Type = "credential"  // Credential
	TypeNamespace  Type = "namespace"   // Namespace
	TypePtrace     Type = "ptrace"      // Ptrace
	TypeModule     Type = "module"      // Module
	TypeBPF        Type = "bpf"         // BPF
	TypeMount      Type = "mount"       // Mount
	TypeCapability Type = "capability"  // Capability
	TypeFile       Type = "file"        // File
	TypeConnect    Type = "connect"     // Socket
	TypeAccept     Type = "accept"      // Socket
	TypeListen     Type = "listen"      // Socket
	TypeClose      Type = "close"       // Socket
	TypeDNS        Type = "dns"         // DNS
	TypeFlow       Type = "flow"        // Flow
	TypeRequest    Type = "request"     // Request
	TypeVerdict    Type = "verdict"     // Verdict
	TypeAlert      Type = "alert"       // Alert
	TypeProbe      Type = "probe"       // Probe
	TypeLoss       Type = "loss"        // Loss
)

// Types lists every event type, in the order in which help texts show them.
func Types() []Type {
	return []Type{TypeExec, TypeExecFailed, TypeFork, TypeExit, TypeCredential, TypeNamespace,
		TypePtrace, TypeModule, TypeBPF, TypeMount, TypeCapability, TypeFile, TypeConnect,
		TypeAccept, TypeListen, TypeClose, TypeDNS, TypeFlow, TypeRequest, TypeVerdict, TypeAlert, TypeProbe, TypeLoss}
}

// Event is one thing that a process did or that happened to it. Exactly one of the pointers after
// Parent is set, the one that Type names.
type Event struct {
	Type Type
	Time time.Time // wall clock, from BootTime and the clock offset when the event was read
	// BootTime is nanoseconds since boot (CLOCK_BOOTTIME): orders events across clock steps.
	BootTime uint64
	Seq      uint64 // number of the event in this agent run, from 1, without gaps before fan-out

	Key     ProcessKey // who; zero for loss
	TID     uint32     // the thread
	Process *Process   // set by enrich; nil for loss
	Parent  *Process   // the parent's image; nil when unknown

	// Node is the name of the node that saw it, where a relay has said so; empty from an agent that speaks for itself.
	Node string

	// Count is how many identical things this event stands for: 1, or more when folded in the kernel.
	Count uint32
	// PreExisting: found by the start-up inventory, not seen happening.
	PreExisting bool

	Exec       *Exec
	ExecFailed *ExecFailed
	Exit       *Exit
	Credential *Credential
	Namespace  *Namespace
	Ptrace     *Ptrace
	Module     *Module
	BPF        *BPF
	Mount      *Mount
	Capability *Capability
	File       *File
	Socket     *Socket
	DNS        *DNS
	Flow       *Flow
	Request    *Request
	Verdict    *Verdict
	Alert      *Alert
	Probe      *Probe
	Loss       *Loss
}

// Exec is a new program image. What the image is stands in Event.Process; this is what only the
// moment of the exec knows.
type Exec struct {
	Previous string // exec_id of the image that was replaced
}

// ExecFailed is an execve or execveat that returned an error.
type ExecFailed struct {
	Path  string // as given by the caller
	Args  []string
	Error Errno
}

// Exit is the end of a thread group.
type Exit struct {
	Code    int32         // exit status, 0 when ended by a signal
	Signal  uint32        // signal number, 0 when it exited by itself
	Core    bool          // a core was dumped
	RunTime time.Duration // from the start of the thread group to its end
}

// Credential is a change of a process's credentials other than by exec.
type Credential struct {
	Call     string // setuid, setresuid, capset, …
	Old, New Creds
	Error    Errno
}

// Namespace is unshare, setns or clone with new namespaces.
type Namespace struct {
	Call     string   // unshare, setns, clone
	Flags    []string // "mnt", "net", "pid", …
	Old, New Namespaces
	Error    Errno
}

// Ptrace is one process taking hold of another: ptrace attach or seize, or process_vm_writev and its like.
type Ptrace struct {
	Request string // attach, seize, traceme, process_vm_readv, process_vm_writev
	// TargetPID is a number of the root pid namespace; of traceme the caller's own. 0: the caller is in another pid
	// namespace and its number could not be translated (before Linux 6.14).
	TargetPID uint32
	Target    *Process // set by enrich when known
	Error     Errno
}

// Module is a kernel module that was loaded or unloaded.
type Module struct {
	Op    string // load, unload
	Name  string
	Taint uint64 // module taint flags
	Error Errno
}

// BPF is a BPF program load.
type BPF struct {
	Op       string // prog_load
	ProgType string // kprobe, xdp, lsm, …; a number when the name is not known here
	ProgName string
	ProgID   uint32
	Insns    uint32 // number of instructions as given by the caller
	Error    Errno
}

// Mount is a mount, bind mount, move or unmount.
type Mount struct {
	Op     string // mount, umount, move_mount, pivot_root
	Source string
	Target string
	FSType string
	Flags  uint64 // MS_* or UMOUNT_* or MOVE_MOUNT_* as given by the caller
	Error  Errno
}

// Capability is the use of a capability, folded per image and capability.
type Capability struct {
	Cap     Cap
	Granted bool
}

// File is the use of a file by the object that was opened or changed.
type File struct {
	Op      FileOp
	Path    string
	NewPath string // rename and link: the new name
	// PathFrom says where Path comes from: "object" (the kernel's own object, no race) or "argument"
	// (what the caller passed, resolved against its directory).
	PathFrom string
	Inode    uint64
	Device   uint32 // kernel dev_t: major<<20 | minor
	Flags    uint32 // open flags (O_*) of the first of the folded opens
	Mode     uint32 // chmod: the new mode; create: the mode asked for
	UID, GID uint32 // chown: the new owner, NoUID where unchanged
	FileType string // regular, directory, device, fifo, socket, symlink, other
	Error    Errno
}

// FileOp is what was done to a file.
type FileOp string

// The file operations.
const (
	FileRead     FileOp = "read"   // opened for reading
	FileWrite    FileOp = "write"  // opened for writing (or both)
	FileCreate   FileOp = "create" // opened with O_CREAT and made by this open, also mkdir, mknod, symlink
	FileTruncate FileOp = "truncate"
	FileRename   FileOp = "rename"
	FileLink     FileOp = "link"
	FileUnlink   FileOp = "unlink" // also rmdir
	FileChmod    FileOp = "chmod"
	FileChown    FileOp = "chown"
)

// Socket is a connection attempt, an accepted connection, a listener or the end of one of them.
type Socket struct {
	Protocol string         // tcp, udp, unix
	Family   string         // ipv4, ipv6, unix
	Local    netip.AddrPort // unset for unix
	Remote   netip.AddrPort
	// RemoteName is the DNS name by which this process asked for the remote address; empty if it did not.
	RemoteName string
	Path       string // unix: the socket's path, abstract names with a leading '@'
	Cookie     uint64 // socket cookie: the same in all events of one socket
	NetNS      uint32 // network namespace inode number
	PeerPID    uint32 // unix: the listener's process
	Backlog    uint32 // listen

	Latency time.Duration // connect: until established or failed
	Error   Errno         // connect and close

	// Of close:
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	Retransmits                  uint32
	SRTT                         time.Duration // smoothed round-trip time
	Duration                     time.Duration // since the socket was connected, accepted or bound
	Direction                    string        // outbound, inbound, listener; empty when never connected
}

// DNS is one question with its answer, or without one when none came in time.
type DNS struct {
	Name      string // the question, lower case, without the final dot
	QType     string // A, AAAA, …
	RCode     string // NOERROR, NXDOMAIN, …; empty without an answer
	Answers   []DNSAnswer
	Latency   time.Duration
	Server    netip.AddrPort
	Protocol  string // udp, tcp
	Timeout   bool   // no answer was seen
	Truncated bool   // the answer had the TC bit or was longer than what was captured
}

// DNSAnswer is one record of an answer.
type DNSAnswer struct {
	Type string
	Data string // address, target name, or the text form of the record
	TTL  time.Duration
}

// Loss is something that was not seen or not delivered. It is itself an event, so that nothing is
// missing silently.
type Loss struct {
	Stage  string // kernel, decode, enrich, pipeline, subscriber, export, …
	Reason string
	Count  uint64 // since the last loss event of this stage and reason
	Total  uint64 // since the agent started
}
