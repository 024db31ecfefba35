// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"net/netip"

	"github.com/vigie-io/vigie/internal/model"
)

func verdictFields() map[string]field {
	local := func(v *model.Verdict) netip.AddrPort { return v.Local }
	remote := func(v *model.Verdict) netip.AddrPort { return v.Remote }
	return map[string]field{
		"action":         text(func(v *model.Verdict) model.VerdictAction { return v.Action }),
		"policy":         text(func(v *model.Verdict) string { return v.Policy }),
		"rule":           text(func(v *model.Verdict) string { return v.Rule }),
		"hook":           text(func(v *model.Verdict) string { return v.Hook }),
		"guarantee":      text(func(v *model.Verdict) model.Guarantee { return v.Guarantee }),
		"operation":      text(func(v *model.Verdict) model.Operation { return v.Operation }),
		"path":           text(func(v *model.Verdict) string { return v.Path }),
		"protocol":       text(func(v *model.Verdict) string { return v.Protocol }),
		"local_address":  address(local),
		"local_port":     port(local),
		"remote_address": address(remote),
		"remote_port":    port(remote),
		"remote_name":    text(func(v *model.Verdict) string { return v.RemoteName }),
		"subject":        text(func(v *model.Verdict) string { return v.Subject }),
	}
}

func alertFields() map[string]field {
	return map[string]field{
		"rule":       text(func(a *model.Alert) string { return a.Rule }),
		"title":      text(func(a *model.Alert) string { return a.Title }),
		"severity":   text(func(a *model.Alert) model.Severity { return a.Severity }),
		"tags":       texts(func(a *model.Alert) []string { return a.Tags }),
		"message":    text(func(a *model.Alert) string { return a.Message }),
		"action":     text(func(a *model.Alert) string { return a.Action }),
		"event_type": text(func(a *model.Alert) model.Type { return a.EventType }),
		"event_seq":  number(func(a *model.Alert) uint64 { return a.EventSeq }),
		"suppressed": number(func(a *model.Alert) uint64 { return a.Suppressed }),
	}
}

func probeFields() map[string]field {
	return map[string]field{
		"policy":    text(func(p *model.Probe) string { return p.Policy }),
		"namespace": text(func(p *model.Probe) string { return p.Namespace }),
		"kind":      text(func(p *model.Probe) string { return p.Kind }),
		"hook":      text(func(p *model.Probe) string { return p.Hook }),
		"carrier":   text(func(p *model.Probe) string { return p.Carrier }),
		"target":    text(func(p *model.Probe) string { return p.Target }),
		"action":    text(func(p *model.Probe) string { return p.Action }),
		"message":   text(func(p *model.Probe) string { return p.Message }),
		"tags":      texts(func(p *model.Probe) []string { return p.Tags }),
		"args": other("ProbeArg", []*model.ProbeArg(nil), func(p *model.Probe) any { return pointers(p.Args) },
			func(p *model.Probe) bool { return len(p.Args) > 0 }),
		"return":       part("ProbeArg", func(p *model.Probe) *model.ProbeArg { return p.Return }),
		"kernel_stack": texts(func(p *model.Probe) []string { return p.KernelStack }),
		"user_stack":   texts(func(p *model.Probe) []string { return p.UserStack }),
	}
}

func probeArgFields() map[string]field {
	local := func(a *model.ProbeArg) netip.AddrPort { return a.Local }
	remote := func(a *model.ProbeArg) netip.AddrPort { return a.Remote }
	return map[string]field{
		"label": text(func(a *model.ProbeArg) string { return a.Label }),
		"type":  text(func(a *model.ProbeArg) string { return a.Type }),
		"int":   signed(func(a *model.ProbeArg) int64 { return a.Int }),
		"text":  text(func(a *model.ProbeArg) string { return a.Text }),
		"data": other("", []byte(nil), func(a *model.ProbeArg) any { return a.Data },
			func(a *model.ProbeArg) bool { return len(a.Data) > 0 }),
		"truncated":      flag(func(a *model.ProbeArg) bool { return a.Truncated }),
		"flags":          number(func(a *model.ProbeArg) uint32 { return a.Flags }),
		"mode":           number(func(a *model.ProbeArg) uint32 { return a.Mode }),
		"protocol":       text(func(a *model.ProbeArg) string { return a.Protocol }),
		"local_address":  address(local),
		"local_port":     port(local),
		"remote_address": address(remote),
		"remote_port":    port(remote),
		"cookie":         number(func(a *model.ProbeArg) uint64 { return a.Cookie }),
		"creds":          part("Creds", func(a *model.ProbeArg) *model.Creds { return a.Creds }),
	}
}
