// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

// IsVerdict tells the verdicts of this package from those about single processes.
func IsVerdict(r kernel.Record) bool {
	v, _, err := kernel.View[bpfVgNpVerdict](r)
	return err == nil && v.Zero == 0
}

// hookNames are the names of enum vg_np_hook.
var hookNames = [...]string{"cgroup_skb egress", "cgroup_skb ingress", "netfilter"}

// Decode makes the event of a verdict record. It implements sensor.Decode.
func (e *Enforcer) Decode(r kernel.Record, ev *model.Event) (bool, error) {
	v, _, err := kernel.View[bpfVgNpVerdict](r)
	if err != nil {
		return false, err
	}
	if int(v.Hook) >= len(hookNames) {
		return false, fmt.Errorf("verdict on a pod with hook %d", v.Hook)
	}
	out := &model.Verdict{Action: model.VerdictDenied, Guarantee: model.DeniedBefore, Hook: hookNames[v.Hook], Operation: model.OpConnect,
		Protocol: protocolName(v.Protocol), Local: kernel.AddrPortIfAny(v.Local, v.LocalPort), Remote: kernel.AddrPortIfAny(v.Remote, v.RemotePort)}
	if v.Denied == 0 {
		out.Action, out.Guarantee = model.VerdictAudited, model.SeenOnly
	}
	switch {
	case netpol.Direction(v.Direction) == netpol.Ingress:
		out.Operation = model.OpAccept
	case v.Protocol == unix.IPPROTO_UDP:
		out.Operation = model.OpSend
	}
	known := e.forVerdict.Load()
	out.Policy, out.Rule = "unknown", fmt.Sprintf("table %d rule %d", v.Table, v.Rule)
	if t := known.tables[v.Table]; t != nil && int(v.Rule) < len(t.Rules) {
		out.Policy, out.Rule = t.Rules[v.Rule].Policy.ID(), t.Rules[v.Rule].Field
	}
	if pod := known.pods[v.Cgroup]; pod != nil {
		out.Subject = pod.Namespace + "/" + pod.Name
	}
	ev.Type, ev.Verdict = model.TypeVerdict, out
	return true, nil
}

func protocolName(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", p)
}

// keepHits adds up the hits of a table that goes.
func (e *Enforcer) keepHits(t *netpol.Table, in *table) {
	for i := range t.Rules {
		key := bpfVgNpHitKey{Table: in.number, Rule: uint32(i)}
		var n uint64
		if err := e.objs.VgNpHits.Lookup(&key, &n); err == nil {
			e.hits[hitName(t.Rules[i])] += n
			_ = e.objs.VgNpHits.Delete(&key)
		}
	}
}

func hitName(r netpol.RuleRef) string { return r.Policy.ID() + "\x00" + r.Field }

// Hits are how often the rules of a policy denied, or would have, by their fields.
func (e *Enforcer) Hits() map[string]map[string]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]map[string]uint64)
	add := func(id, field string, n uint64) {
		if out[id] == nil {
			out[id] = make(map[string]uint64)
		}
		out[id][field] += n
	}
	for name, n := range e.hits {
		for i := range len(name) {
			if name[i] == 0 {
				add(name[:i], name[i+1:], n)
			}
		}
	}
	if !e.loaded {
		return out
	}
	numbers := make(map[uint32]*netpol.Table, len(e.tables))
	for t, in := range e.tables {
		numbers[in.number] = t
	}
	var key bpfVgNpHitKey
	var n uint64
	for it := e.objs.VgNpHits.Iterate(); it.Next(&key, &n); {
		if t := numbers[key.Table]; t != nil && int(key.Rule) < len(t.Rules) {
			add(t.Rules[key.Rule].Policy.ID(), t.Rules[key.Rule].Field, n)
		}
	}
	return out
}
