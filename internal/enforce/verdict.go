// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// Status says how each policy in force is doing, by name.
func (e *Enforcer) Status() map[string]Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]Status, len(e.inForce))
	if e.subjects == nil {
		return out
	}
	processes, hits := e.processes(), e.allHits()
	for name, in := range e.inForce {
		s := Status{Hits: make([]uint64, len(in.Table.Rules)), Processes: processes[in.Number]}
		for i := range s.Hits {
			s.Hits[i] = hits[subject.HitKey{Table: in.Number, Rule: uint16(i)}]
			if before := e.carried[name]; before != nil {
				s.Hits[i] += before[hitName(in.Table, i)]
			}
		}
		out[name] = s
	}
	return out
}

// allHits reads how often the rules of all tables denied: there is an entry for those that ever did.
func (e *Enforcer) allHits() map[subject.HitKey]uint64 {
	out := make(map[subject.HitKey]uint64)
	var key subject.HitKey
	var n uint64
	for it := e.subjects.Hits.Iterate(); it.Next(&key, &n); {
		out[key] = n
	}
	return out
}

// processes counts the processes by the number of each table that judges them.
func (e *Enforcer) processes() map[uint16]uint32 {
	out := make(map[uint16]uint32)
	var pid uint32
	var entry subject.Entry
	for it := e.subjects.Subjects.Iterate(); it.Next(&pid, &entry); {
		for _, s := range entry.Slots[:min(entry.Count, subject.Slots)] {
			out[s.Table]++
		}
	}
	return out
}

// hitName is by what the hits of a rule are carried over to the policy's next table.
func hitName(t *policy.Table, rule int) string { return t.Rules[rule].Field() + "\x00" + t.Text(rule) }

// remember keeps the tables that verdicts may name: a retired one until its number is another's.
func (e *Enforcer) remember(tables map[string]*loaded) {
	known := maps.Clone(*e.known.Load())
	for _, in := range tables {
		known[in.Number] = in
	}
	e.known.Store(&known)
}

// hookNames are the names of enum vg_hook (bpf/policy.h). Those of the security hooks are completed by the operation.
var hookNames = [...]string{"", "sched_process_exec", "lsm", "fmod_ret", "cgroup connect", "cgroup sendmsg", "cgroup bind",
	"cgroup sock_create", "cgroup_skb ingress", "cgroup_skb egress", "sys_exit", "capability tracepoint", "fanotify OPEN_PERM",
	"fanotify OPEN_EXEC_PERM", "cut"}

// guarantee is what a hook carries.
func guarantee(hook int, action model.VerdictAction) model.Guarantee {
	switch {
	case action == model.VerdictAudited:
		return model.SeenOnly
	case hookNames[hook] == "sched_process_exec":
		return model.KilledBefore
	case hookNames[hook] == "sys_exit", hookNames[hook] == "capability tracepoint":
		return model.KilledAfter
	}
	return model.DeniedBefore
}

var actions = [...]model.VerdictAction{"", model.VerdictAudited, model.VerdictDenied, model.VerdictKilled}

// Decode makes the event of a verdict record. It implements sensor.Decode.
func (e *Enforcer) Decode(r kernel.Record, ev *model.Event) (bool, error) {
	v, tail, err := kernel.View[subject.Verdict](r)
	if err != nil {
		return false, err
	}
	path, _, err := kernel.Take(tail, int(v.PathLen))
	if err != nil {
		return false, err
	}
	if int(v.Hook) >= len(hookNames) || int(v.Action) >= len(actions) || int(v.Op) >= len(model.Operations()) {
		return false, fmt.Errorf("verdict with hook %d, action %d, operation %d", v.Hook, v.Action, v.Op)
	}
	out := &model.Verdict{Action: actions[v.Action], Hook: hookNames[v.Hook], Operation: model.Operations()[v.Op], Path: model.CleanString(path)}
	out.Guarantee = guarantee(int(v.Hook), out.Action)
	e.name(out, v.Table, int(v.Rule))
	out.Protocol = protocolName(v.Protocol)
	out.Local = kernel.AddrPortIfAny(v.Local, v.LocalPort)
	out.Remote = kernel.AddrPortIfAny(v.Remote, v.RemotePort)
	switch out.Operation {
	case model.OpCapability:
		out.Subject = model.Cap(v.Detail).String()
	case model.OpSocket:
		out.Subject = socketName(v.Detail)
	}
	ev.Type, ev.Verdict = model.TypeVerdict, out
	return true, nil
}

// name fills in which policy and rule it was.
func (e *Enforcer) name(v *model.Verdict, table uint16, rule int) {
	in := (*e.known.Load())[table]
	if in == nil || rule >= len(in.Table.Rules) {
		v.Policy, v.Rule = "unknown", fmt.Sprintf("table %d rule %d", table, rule)
		return
	}
	v.Policy, v.Rule = in.Table.Policy.Name, in.Table.Rules[rule].Field()
	if (v.Hook == "lsm" || v.Hook == "fmod_ret") && rule < len(in.carried) && in.carried[rule].Rung != "" {
		v.Hook = in.carried[rule].Rung
	}
}

func protocolName(p uint8) string {
	switch p {
	case 0:
		return ""
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return "icmp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", p)
}

// socketName is a family and type as vg_verdict.detail has them.
func socketName(detail uint32) string {
	families := map[uint32]string{unix.AF_INET: "inet", unix.AF_INET6: "inet6", unix.AF_PACKET: "packet", unix.AF_VSOCK: "vsock",
		unix.AF_XDP: "xdp", unix.AF_TIPC: "tipc", unix.AF_BLUETOOTH: "bluetooth", unix.AF_CAN: "can"}
	types := map[uint32]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "datagram", unix.SOCK_RAW: "raw",
		unix.SOCK_SEQPACKET: "seqpacket", unix.SOCK_PACKET: "packet"}
	family, kind := families[detail>>16], types[detail&0xf]
	if family == "" {
		family = fmt.Sprintf("family %d", detail>>16)
	}
	if kind == "" {
		kind = fmt.Sprintf("type %d", detail&0xf)
	}
	return family + " " + kind
}

// report takes a verdict of a back-end in user space.
func (e *Enforcer) report(r Report) {
	select {
	case e.reports <- r:
	default:
		e.overflow.Add(1)
	}
}

// Drain hands over the verdicts of back-ends in user space as events, and counts their hits. For the goroutine that
// decodes.
func (e *Enforcer) Drain(emit func(*model.Event)) {
	for {
		select {
		case r := <-e.reports:
			emit(e.event(r))
		default:
			return
		}
	}
}

func (e *Enforcer) event(r Report) *model.Event {
	v := &model.Verdict{Action: r.Action, Hook: r.Hook, Operation: r.Op, Path: r.Path}
	v.Guarantee = model.DeniedBefore
	if r.Action == model.VerdictAudited {
		v.Guarantee = model.SeenOnly
	}
	e.name(v, r.Table, r.Decision.Rule())
	ev := &model.Event{Type: model.TypeVerdict, TID: r.TID, Count: max(r.Count, 1), Verdict: v, Key: r.Key}
	if r.Guarantee != "" {
		v.Guarantee = r.Guarantee
	}
	v.Subject, v.Remote, v.Local, v.Protocol = r.Subject, r.Remote, r.Local, r.Protocol
	if now, err := e.options.Clock(); err == nil {
		ev.BootTime = now
	}
	return ev
}
