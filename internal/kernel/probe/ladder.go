// SPDX-License-Identifier: Apache-2.0

package probe

import "github.com/vigie-io/vigie/internal/model"

// Guarantee says how strong a result is.
type Guarantee = model.Guarantee

// The guarantees, strongest first.
const (
	Denied       = model.DeniedBefore
	KilledBefore = model.KilledBefore
	KilledAfter  = model.KilledAfter
	SeenOnly     = model.SeenOnly
	NotAvailable = model.NotAvailable
	// Seen is the guarantee of the rows that are about seeing.
	Seen Guarantee = "seen"
)

// Row is one job of vigie and the ways to do it, best first.
type Row struct {
	Name  string `json:"name"`  // stable: see_processes, deny_exec, …
	Title string `json:"title"` // for people
	// InUse is the number of the rung in use, from 1; 0 when none works here.
	InUse     int       `json:"in_use"`
	Guarantee Guarantee `json:"guarantee"` // of the rung in use
	Rungs     []Rung    `json:"rungs"`

	// sees is the row that carries "seen only" when no rung of this row works.
	sees string
}

// Rung is one way to do a job.
type Rung struct {
	Title     string    `json:"title"`
	Guarantee Guarantee `json:"guarantee"`
	Works     bool      `json:"works"`
	// Cause and Needs are those of the first feature that the rung lacks.
	Cause string `json:"cause,omitempty"`
	Needs string `json:"needs,omitempty"`
	// Limits say what this rung does not cover here.
	Limits []string `json:"limits,omitempty"`
	// Features are what the rung is made of.
	Features []Feature `json:"features"`

	partial []part
}

// part is a feature that a rung can do without, and what is then not covered.
type part struct {
	feature Feature
	without string
}

// Rung returns the rung in use, or nil.
func (r *Row) Rung() *Rung {
	if r.InUse == 0 {
		return nil
	}
	return &r.Rungs[r.InUse-1]
}

// climb finds the best rung of each row that the results carry.
func climb(rows []Row, results map[Feature]Result) []Row {
	blind := make(map[string]bool)
	for i := range rows {
		row := &rows[i]
		for j := range row.Rungs {
			rung := &row.Rungs[j]
			rung.judge(results)
			if rung.Works && row.InUse == 0 {
				row.InUse = j + 1
				row.Guarantee = rung.Guarantee
			}
		}
		blind[row.Name] = row.InUse == 0
		if row.InUse == 0 && blind[row.sees] {
			row.Guarantee = NotAvailable
		}
	}
	return rows
}

func (r *Rung) judge(results map[Feature]Result) {
	r.Works = true
	for _, name := range r.Features {
		if result := results[name]; !result.Works {
			r.Works, r.Cause, r.Needs = false, result.Cause, result.Needs
			return
		}
	}
	for _, p := range r.partial {
		if !results[p.feature].Works {
			r.Limits = append(r.Limits, p.without)
		}
	}
}

// ladder is the table of docs/ARCHITECTURE.md: what kernels offer for each job, best first.
func ladder() []Row {
	openOnly := []string{"covers open; rename, unlink, chmod and the like are not refused"}
	return []Row{
		{Name: "see_processes", Title: "see exec, fork, exit", Guarantee: NotAvailable, Rungs: []Rung{
			{Title: "tp_btf, typed tracepoints", Guarantee: Seen, Features: []Feature{TPBTF, TPExec, TPFork, TPExit}},
			{Title: "raw tracepoints", Guarantee: Seen, Features: []Feature{RawTP, TPExec, TPFork, TPExit}},
		}},
		{Name: "see_files", Title: "see file use", Guarantee: NotAvailable, Rungs: []Rung{
			{Title: "lsm file_open and its like", Guarantee: Seen, Features: []Feature{LSM, HookFileOpen}},
			{Title: "fentry on security_file_*", Guarantee: Seen, Features: []Feature{Fentry}},
			{Title: "tracepoint sys_exit: the opened object", Guarantee: Seen, Features: []Feature{TPSysExit}},
		}},
		{Name: "see_sockets", Title: "see sockets", Guarantee: NotAvailable, Rungs: []Rung{
			{Title: "cgroup hooks, sockops, cgroup_skb, tracepoint", Guarantee: Seen,
				Features: []Feature{SockCreate, SockRelease, Connect4, Connect6, Sockops, TPSockState, SKBIngress, SKBEgress},
				partial:  []part{{SKStorage, "the owner of a socket is looked up by its number, not held in the socket"}}},
		}},
		{Name: "deny_exec", Title: "deny exec", Guarantee: SeenOnly, sees: "see_processes", Rungs: []Rung{
			{Title: "lsm bprm_check_security", Guarantee: Denied, Features: []Feature{LSM, HookExec}},
			{Title: "fmod_ret security_bprm_check", Guarantee: Denied, Features: []Feature{FmodRet, DenyExec}},
			{Title: "fanotify OPEN_EXEC_PERM", Guarantee: Denied, Features: []Feature{FanotifyExec}},
			{Title: "SIGKILL at sched_process_exec", Guarantee: KilledBefore, Features: []Feature{TPExec, SendSignal}},
		}},
		{Name: "deny_files", Title: "deny file access", Guarantee: SeenOnly, sees: "see_files", Rungs: []Rung{
			{Title: "lsm file_open, path_*, inode_*", Guarantee: Denied, Features: []Feature{LSM, HookFileOpen, HookInodeUnlink},
				partial: []part{{HookPathRename, "rules match by inode: this kernel has no path hooks"}}},
			{Title: "fmod_ret security_file_open and its like", Guarantee: Denied, Features: []Feature{FmodRet, DenyFileOpen, DenyInodeUnlink},
				partial: []part{{DenyPathRename, "rules match by inode: this kernel has no path hooks"}}},
			{Title: "fanotify OPEN_PERM", Guarantee: Denied, Features: []Feature{FanotifyOpen}, Limits: openOnly},
			{Title: "SIGKILL after the call, where the rule allows it", Guarantee: KilledAfter, Features: []Feature{TPSysExit, SendSignal}},
		}},
		{Name: "deny_network", Title: "deny connect, bind, send", Guarantee: SeenOnly, sees: "see_sockets", Rungs: []Rung{
			{Title: "cgroup connect, sendmsg, bind", Guarantee: Denied,
				Features: []Feature{Connect4, Connect6, Sendmsg4, Sendmsg6, Bind4, Bind6},
				partial:  []part{{ConnectUnix, "unix sockets are not covered"}}},
			{Title: "cgroup_skb", Guarantee: Denied, Features: []Feature{SKBIngress, SKBEgress},
				Limits: []string{"drops packets: connect times out instead of failing"}},
			{Title: "tcx", Guarantee: Denied, Features: []Feature{TCXIngress, TCXEgress},
				Limits: []string{"knows the interface, not the process"}},
		}},
		{Name: "deny_privileged", Title: "deny capability, ptrace, bpf, mount, module", Guarantee: SeenOnly, sees: "see_processes", Rungs: []Rung{
			{Title: "lsm capable, ptrace_access_check, bpf, sb_mount, kernel_read_file", Guarantee: Denied,
				Features: []Feature{LSM, HookCapable, HookPtrace, HookBPF, HookMount, HookModule}},
			{Title: "fmod_ret security_*", Guarantee: Denied,
				Features: []Feature{FmodRet, DenyCapable, DenyPtrace, DenyBPF, DenyMount, DenyModule}},
			{Title: "SIGKILL after the call, where the rule allows it", Guarantee: KilledAfter, Features: []Feature{TPSysExit, SendSignal}},
		}},
		{Name: "cut_open", Title: "cut what is already open", Guarantee: SeenOnly, sees: "see_sockets", Rungs: []Rung{
			{Title: "bpf_sock_destroy", Guarantee: Denied, Features: []Feature{SockDestroy, IterTCP, IterUDP}},
			{Title: "drop in cgroup_skb", Guarantee: Denied, Features: []Feature{SKBIngress, SKBEgress}},
		}},
	}
}
