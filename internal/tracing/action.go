// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// actionInfo is an action and what is said of it when it was taken.
type actionInfo struct {
	name  string // in policies
	event string // as model.Probe.Action
	// enforces: it changes what happens, and is left out while the policy only monitors.
	enforces bool
}

// actions are those that can be taken, weakest first. The place is the bit in a record.
func actions() []actionInfo {
	return []actionInfo{{"Post", "post", false}, {"NoPost", "no_post", false}, {"TrackSock", "track_sock", false},
		{"UntrackSock", "untrack_sock", false}, {"CleanupEnforcerNotification", "cleanup_enforcer_notification", false},
		{"NotifyEnforcer", "notify_enforcer", true}, {"Signal", "signal", true}, {"Override", "override", true}, {"Sigkill", "sigkill", true}}
}

func actionBit(name string) int {
	for i, a := range actions() {
		if a.name == name {
			return i
		}
	}
	return -1
}

// The counters of a policy (vg_tally): events, then of each action how often it was carried out and left out.
const tallyPosts = 0

func tallyEnforced(bit int) int32  { return int32(1 + 2*bit) }
func tallyMonitored(bit int) int32 { return int32(2 + 2*bit) }
func tallies() uint32              { return uint32(1 + 2*len(actions())) }

// offReturn is where, on the stack, the program keeps what it returns.
const offReturn = -32

// act writes what is done when selector i matches.
func (c *compiler) act(i int, done string) {
	s := &c.hook.selectors[i]
	c.emit(asm.StoreImm(regScratch, offSelect, int64(i), asm.Byte))
	c.actions(s.path+".matchActions", s.MatchActions)
	for _, v := range c.hook.args {
		if !v.used && !v.late {
			c.read(v)
		}
	}
	for _, v := range c.hook.data {
		if !v.used {
			c.read(v)
		}
	}
	c.reported(i, done)
	if c.hook.returns {
		c.emit(asm.Mov.Reg(asm.R1, regScratch))
		c.loadMap(asm.R2, c.stash())
		c.call("vg_stash")
	} else {
		c.post(done)
	}
	c.jump(done)
}

// reported writes what the Post actions of selector i ask for.
func (c *compiler) reported(i int, done string) {
	s := &c.hook.selectors[i]
	for k := range s.MatchActions {
		if a := &s.MatchActions[k]; a.Action == "Post" {
			c.limit(fmt.Sprintf("%s.matchActions[%d]", s.path, k), a, done)
			c.stacks(a)
		}
	}
}

// actions writes those that are more than reporting.
func (c *compiler) actions(path string, list []Action) {
	for k := range list {
		a := &list[k]
		bit := actionBit(a.Action)
		if bit < 0 {
			continue // refused by validate
		}
		skip := c.label("monitored")
		if actions()[bit].enforces {
			c.enforced(bit, skip)
		}
		switch a.Action {
		case "Sigkill":
			c.signal(uint32(unix.SIGKILL))
		case "Signal":
			c.signal(a.ArgSig)
		case "NotifyEnforcer":
			c.signal(a.ArgSig)
		case "Override":
			c.override(fmt.Sprintf("%s[%d]", path, k), a)
		case "TrackSock", "UntrackSock":
			c.trackArg(fmt.Sprintf("%s[%d].argSock", path, k), a)
		}
		c.emit(asm.LoadMem(asm.R1, regScratch, offActions, asm.Word), asm.Or.Imm(asm.R1, 1<<bit), asm.StoreMem(regScratch, offActions, asm.R1, asm.Word))
		c.place(skip)
	}
}

// enforced goes on where the policy enforces; where it monitors, it says so in the record and jumps to skip. The agent itself is
// left alone: a policy that is too wide must not end who can take it back.
func (c *compiler) enforced(bit int, skip string) {
	act := c.label("enforce")
	c.emit(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.JEq.Imm(asm.R0, int32(c.env.self), skip))
	mode := c.shared["mode"]
	c.maps[mode.Name] = mode
	c.emit(asm.LoadMapValue(asm.R1, 0, 0).WithReference(mode.Name), asm.LoadMem(asm.R1, asm.R1, 0, asm.Word), asm.JNE.Imm(asm.R1, 0, act))
	c.emit(asm.StoreImm(regScratch, offMonitor, 1, asm.Byte))
	c.tally(tallyMonitored(bit))
	c.jump(skip)
	c.place(act)
	c.tally(tallyEnforced(bit))
}

func (c *compiler) tally(which int32) {
	c.loadMap(asm.R1, c.shared["tally"])
	c.emit(asm.Mov.Imm(asm.R2, which))
	c.call("vg_tally")
}

func (c *compiler) signal(number uint32) {
	if number != 0 {
		c.emit(asm.Mov.Imm(asm.R1, int32(number)), asm.FnSendSignal.Call())
	}
}

// override makes the call fail.
func (c *compiler) override(path string, a *Action) {
	switch c.deny {
	case denyReturn:
		c.emit(asm.Mov.Imm(asm.R1, a.ArgError), asm.StoreMem(asm.RFP, offReturn, asm.R1, asm.DWord))
	case denyOverride:
		c.emit(asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, a.ArgError), asm.FnOverrideReturn.Call())
	default:
		c.fail(path+".action", "what carries this hook here cannot change the result of the call")
	}
}

// trackArg begins or ends to say whose a socket is.
func (c *compiler) trackArg(path string, a *Action) {
	for _, v := range c.hook.args {
		if v.arg.Index != a.ArgSock || (v.arg.Type != "sock" && v.arg.Type != "socket") {
			continue
		}
		if !v.used {
			c.read(v)
			v.used = true
		}
		c.emit(asm.LoadMem(asm.R2, regScratch, slotValue(v.slot), asm.DWord))
		c.track(a.Action)
		return
	}
	c.fail(path, "no argument of type sock has the index %d", a.ArgSock)
}

// track is called with the socket in R2.
func (c *compiler) track(action string) {
	if action == "TrackSock" {
		c.emit(asm.Mov.Reg(asm.R1, regScratch))
		c.call("vg_track")
		return
	}
	c.emit(asm.Mov.Reg(asm.R1, asm.R2))
	c.call("vg_untrack")
}

// trackReturned is returnArgAction.
func (c *compiler) trackReturned() {
	if c.hook.track == "" {
		return
	}
	c.emit(asm.LoadMem(asm.R2, regScratch, slotValue(c.hook.result), asm.DWord))
	c.track(c.hook.track)
}

// limit leaves out what was reported a short time ago.
func (c *compiler) limit(path string, a *Action, done string) {
	if a.RateLimit == "" {
		return
	}
	window, err := parseWindow(a.RateLimit)
	if err != nil {
		c.fail(path+".rateLimit", "%v", err)
		return
	}
	// 64 bytes each. Full: the least recently used goes, and what it stands for is reported once more.
	m := &ebpf.MapSpec{Name: c.prefix + "_rate", Type: ebpf.LRUHash, KeySize: 16, ValueSize: 8, MaxEntries: 8192}
	switch a.RateLimitScope {
	case "global":
		c.emit(asm.Mov.Imm(asm.R4, 0))
	case "process":
		c.emit(asm.FnGetCurrentPidTgid.Call(), asm.Mov.Reg(asm.R4, asm.R0), asm.RSh.Imm(asm.R4, 32))
	default:
		c.emit(asm.FnGetCurrentPidTgid.Call(), asm.Mov.Reg(asm.R4, asm.R0))
	}
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	c.loadMap(asm.R2, m)
	c.imm(asm.R3, uint64(window))
	c.call("vg_limited")
	c.emit(asm.JNE.Imm(asm.R0, 0, done))
}

// parseWindow reads a rate limit: seconds, or a number with s, m or h.
func parseWindow(s string) (time.Duration, error) {
	unit := time.Second
	digits := s
	switch {
	case strings.HasSuffix(s, "s"):
		digits = s[:len(s)-1]
	case strings.HasSuffix(s, "m"):
		digits, unit = s[:len(s)-1], time.Minute
	case strings.HasSuffix(s, "h"):
		digits, unit = s[:len(s)-1], time.Hour
	}
	n, err := strconv.ParseUint(digits, 10, 20)
	if err != nil {
		return 0, fmt.Errorf("%q is no time: write seconds, or a number with s, m or h", s)
	}
	return time.Duration(n) * unit, nil
}

func (c *compiler) stacks(a *Action) {
	for user, wanted := range []bool{a.KernelStackTrace, a.UserStackTrace} {
		if wanted {
			c.emit(asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Reg(asm.R2, regScratch), asm.Mov.Imm(asm.R3, int32(user)))
			c.call("vg_stack")
		}
	}
}

// post reports what is in the scratch space, unless an action says that it is not wanted.
func (c *compiler) post(done string) {
	c.emit(asm.LoadMem(asm.R1, regScratch, offActions, asm.Word))
	c.emit(asm.And.Imm(asm.R1, 1<<actionBit("NoPost")), asm.JNE.Imm(asm.R1, 0, done))
	c.tally(tallyPosts)
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	c.call("vg_emit")
}
