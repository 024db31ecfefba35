// SPDX-License-Identifier: Apache-2.0

package model

import (
	"strconv"
	"time"
)

// ProcessKey names one program image on one host for one boot. The kernel keeps all three parts
// itself (task_struct.tgid, the group leader's start_boottime, task_struct.self_exec_id), so the key
// needs no state of ours and survives a restart of the agent.
type ProcessKey struct {
	PID   uint32 // thread-group id in the root pid namespace
	Start uint64 // start of the thread group, nanoseconds since boot (CLOCK_BOOTTIME)
	Exec  uint32 // how many execs led to this image; a fork inherits its parent's number
}

// IsZero reports whether the key names no process.
func (k ProcessKey) IsZero() bool { return k == ProcessKey{} }

// AppendExecID appends the exec_id of k to dst: "boot-pid-start-exec", boot being the first eight
// hexadecimal digits of the boot id, the rest hexadecimal numbers.
func (k ProcessKey) AppendExecID(dst []byte, boot string) []byte {
	dst = append(dst, boot...)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, uint64(k.PID), 16)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, k.Start, 16)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, uint64(k.Exec), 16)
}

// ExecID is AppendExecID as a string.
func (k ProcessKey) ExecID(boot string) string {
	return string(k.AppendExecID(make([]byte, 0, 48), boot))
}

// Process is one program image of one process. A fork inherits its parent's image under its own
// PID; an exec makes a new Process.
type Process struct {
	Key       ProcessKey
	ExecID    string
	ParentKey ProcessKey
	// ParentExecID is the exec_id of the parent's image at the time of the fork; empty when unknown.
	ParentExecID string

	StartTime time.Time // start of the thread group (not of the image), wall clock
	EndTime   time.Time // when its last thread ended; zero while it runs
	Binary    string    // path of the executable file as seen from its mount namespace's root
	Args      []string  // argv, argv[0] included; see ArgsTruncated
	// ArgsTruncated: argv was longer than the sensor's limit, Args holds its beginning.
	ArgsTruncated bool
	CWD           string
	TTY           string // "pts/0"; empty without a controlling terminal

	Creds      Creds
	Namespaces Namespaces
	File       ExecFile

	CgroupID        uint64 // kernfs node id of its cgroup
	CgroupHierarchy uint32 // 0 is cgroup v2, else the v1 hierarchy whose cgroup stands in for it
	Workload        *Workload

	// PreExisting: the process was there before the agent and comes from the start-up inventory.
	PreExisting bool
	// Forked: the process shares its parent's image and has not called exec itself.
	Forked bool
	// KernelThread: the process has no user memory and no binary.
	KernelThread bool
}

// Creds are the credentials of a process, as numbers of the root user namespace.
type Creds struct {
	UID, GID, EUID, EGID, SUID, SGID, FSUID, FSGID uint32
	LoginUID                                       uint32 // audit login uid; NoUID when unset

	CapPermitted, CapEffective, CapInheritable, CapBounding, CapAmbient CapSet
}

// NoUID is the kernel's (uid_t)-1: no login uid was set.
const NoUID = ^uint32(0)

// Namespaces are the inode numbers of a process's namespaces, as /proc/PID/ns shows them; 0 when
// unknown.
type Namespaces struct {
	UTS, IPC, Mnt, PID, Net, Cgroup, User, Time uint32
}

// ExecFile says what is peculiar about the executable file of an image.
type ExecFile struct {
	Inode  uint64
	Device uint32 // kernel dev_t: major<<20 | minor
	Mode   uint16 // st_mode
	UID    uint32 // owner
	GID    uint32

	Memfd        bool // an anonymous memory file
	Deleted      bool // no name is left (link count 0)
	OverlayUpper bool // written in the container after its image was made

	Script      string // the script as named by exec, when an interpreter runs it
	Interpreter string // the interpreter that the script's first line names

	SetuidGained bool   // effective uid or gid changed by this exec
	CapsGained   CapSet // permitted capabilities that this exec added
	SecureExec   bool   // the kernel set AT_SECURE
}
