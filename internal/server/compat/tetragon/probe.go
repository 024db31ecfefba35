// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/model"
)

// probe puts the hit of a TracingPolicy's hook into out.
func probe(out *tg.GetEventsResponse, p *model.Probe, a actors) {
	args, action := make([]*tg.KprobeArgument, len(p.Args)), probeAction(p.Action)
	for i := range p.Args {
		args[i] = argument(&p.Args[i])
	}
	switch p.Kind {
	case "tracepoint":
		subsystem, name, _ := strings.Cut(p.Hook, "/")
		out.Event = &tg.GetEventsResponse_ProcessTracepoint{ProcessTracepoint: &tg.ProcessTracepoint{Process: a.process, Parent: a.parent,
			Ancestors: a.ancestors, Subsys: subsystem, Event: name, Args: args, PolicyName: p.Policy, Action: action, Message: p.Message, Tags: p.Tags}}
	case "uprobe":
		u := &tg.ProcessUprobe{Process: a.process, Parent: a.parent, Ancestors: a.ancestors, Path: p.Target, Symbol: p.Hook,
			Args: args, PolicyName: p.Policy, Action: action, Message: p.Message, Tags: p.Tags}
		if offset, err := strconv.ParseUint(p.Hook, 0, 64); err == nil {
			u.Symbol, u.Offset = "", offset // the policy gave the place as a number
		}
		out.Event = &tg.GetEventsResponse_ProcessUprobe{ProcessUprobe: u}
	case "usdt":
		provider, name := cutLast(p.Hook, "/:")
		out.Event = &tg.GetEventsResponse_ProcessUsdt{ProcessUsdt: &tg.ProcessUsdt{Process: a.process, Parent: a.parent, Ancestors: a.ancestors,
			Path: p.Target, Provider: provider, Name: name, Args: args, PolicyName: p.Policy, Action: action, Message: p.Message, Tags: p.Tags}}
	case "lsm":
		out.Event = &tg.GetEventsResponse_ProcessLsm{ProcessLsm: &tg.ProcessLsm{Process: a.process, Parent: a.parent, Ancestors: a.ancestors,
			FunctionName: p.Hook, Args: args, PolicyName: p.Policy, Action: action, Message: p.Message, Tags: p.Tags}}
	default:
		k := &tg.ProcessKprobe{Process: a.process, Parent: a.parent, Ancestors: a.ancestors, FunctionName: function(p.Hook), Args: args,
			PolicyName: p.Policy, Action: action, Message: p.Message, Tags: p.Tags,
			KernelStackTrace: stack(p.KernelStack), UserStackTrace: stack(p.UserStack)}
		if p.Return != nil {
			k.Return = argument(p.Return)
		}
		out.Event = &tg.GetEventsResponse_ProcessKprobe{ProcessKprobe: k}
	}
}

// cutLast cuts s at the last of the separators; before is empty when there is none.
func cutLast(s, separators string) (before, after string) {
	i := strings.LastIndexAny(s, separators)
	return s[:max(i, 0)], s[i+1:]
}

// function is a kernel function by the name that Tetragon reports: a system call's has the architecture in front.
func function(hook string) string {
	prefixes := map[string]string{"amd64": "__x64_", "arm64": "__arm64_"}
	if strings.HasPrefix(hook, "sys_") {
		return prefixes[runtime.GOARCH] + hook
	}
	return hook
}

// probeAction is an action by its name in a TracingPolicy, in any spelling: "NotifyEnforcer", "notify_enforcer".
func probeAction(name string) tg.KprobeAction {
	switch strings.ToLower(strings.ReplaceAll(name, "_", "")) {
	case "", "post":
		return tg.KprobeAction_KPROBE_ACTION_POST
	case "nopost":
		return tg.KprobeAction_KPROBE_ACTION_NOPOST
	case "sigkill":
		return tg.KprobeAction_KPROBE_ACTION_SIGKILL
	case "signal":
		return tg.KprobeAction_KPROBE_ACTION_SIGNAL
	case "override":
		return tg.KprobeAction_KPROBE_ACTION_OVERRIDE
	case "notifyenforcer":
		return tg.KprobeAction_KPROBE_ACTION_NOTIFYENFORCER
	case "cleanupenforcernotification":
		return tg.KprobeAction_KPROBE_ACTION_CLEANUPENFORCERNOTIFICATION
	case "tracksock":
		return tg.KprobeAction_KPROBE_ACTION_TRACKSOCK
	case "untracksock":
		return tg.KprobeAction_KPROBE_ACTION_UNTRACKSOCK
	case "set":
		return tg.KprobeAction_KPROBE_ACTION_SET
	}
	return tg.KprobeAction_KPROBE_ACTION_UNKNOWN
}

// stack reads entries like "do_sys_openat2+0x4f", "/usr/lib/libc.so.6+0x9d2a0" and "0xffffffff81234567", also an
// address with one of the others after it.
func stack(lines []string) []*tg.StackTraceEntry {
	var out []*tg.StackTraceEntry
	for _, line := range lines {
		entry := &tg.StackTraceEntry{}
		for word := range strings.FieldsSeq(line) {
			name, rest := word, ""
			if i := strings.LastIndex(word, "+0x"); i >= 0 {
				name, rest = word[:i], word[i+1:]
			}
			if offset, err := strconv.ParseUint(rest, 0, 64); err == nil {
				entry.Offset = offset
			}
			address, err := strconv.ParseUint(name, 0, 64)
			switch {
			case err == nil && strings.HasPrefix(name, "0x"):
				entry.Address = address
			case strings.Contains(name, "/"):
				entry.Module = name
			default:
				entry.Symbol = name
			}
		}
		out = append(out, entry)
	}
	return out
}

// verdict is what a policy of this agent decided, as the hit of the security hook that stands for it: who
// enforces looks there for what was blocked.
func verdict(v *model.Verdict, a actors) *tg.ProcessLsm {
	out := &tg.ProcessLsm{Process: a.process, Parent: a.parent, Ancestors: a.ancestors, FunctionName: securityHook(v),
		PolicyName: v.Policy, Message: fmt.Sprintf("%s: %s of %s through %s", v.Guarantee, v.Action, v.Rule, v.Hook),
		Tags: []string{"vigie." + string(v.Action), "vigie." + string(v.Operation)}}
	switch v.Action {
	case model.VerdictDenied:
		out.Action = tg.KprobeAction_KPROBE_ACTION_OVERRIDE
	case model.VerdictKilled:
		out.Action = tg.KprobeAction_KPROBE_ACTION_SIGKILL
	default:
		out.Action = tg.KprobeAction_KPROBE_ACTION_POST
	}
	add := func(arg *model.ProbeArg) { out.Args = append(out.Args, argument(arg)) }
	switch {
	case v.Operation == model.OpExec:
		add(&model.ProbeArg{Type: "linux_binprm", Text: v.Path})
	case v.Path != "":
		add(&model.ProbeArg{Type: "file", Text: v.Path})
	}
	if v.Local.IsValid() || v.Remote.IsValid() {
		add(&model.ProbeArg{Type: "sock", Protocol: v.Protocol, Local: v.Local, Remote: v.Remote})
	}
	if v.RemoteName != "" {
		add(&model.ProbeArg{Type: "string", Label: "name", Text: v.RemoteName})
	}
	if c, ok := model.ParseCap(v.Subject); ok {
		add(&model.ProbeArg{Type: "capability", Int: int64(c)})
	} else if v.Subject != "" {
		add(&model.ProbeArg{Type: "string", Label: "subject", Text: v.Subject})
	}
	return out
}

// securityHook is the LSM hook that decided, or that judges such an operation in Linux when something else did.
func securityHook(v *model.Verdict) string {
	if hook, ok := strings.CutPrefix(v.Hook, "lsm "); ok {
		return hook
	}
	switch v.Operation {
	case model.OpExec:
		return "bprm_check_security"
	case model.OpRead, model.OpWrite:
		return "file_open"
	case model.OpModify:
		return "inode_permission" // to write in the directory
	case model.OpConnect:
		return "socket_connect"
	case model.OpSend:
		return "socket_sendmsg"
	case model.OpBind:
		return "socket_bind"
	case model.OpListen:
		return "socket_listen"
	case model.OpAccept:
		return "socket_accept"
	case model.OpSocket:
		return "socket_create"
	case model.OpReceive:
		return "file_receive"
	case model.OpCapability:
		return "capable"
	case model.OpPtrace:
		return "ptrace_access_check"
	case model.OpBPF:
		return "bpf"
	case model.OpMount:
		return "sb_mount"
	case model.OpModule:
		return "kernel_read_file"
	}
	return string(v.Operation)
}
