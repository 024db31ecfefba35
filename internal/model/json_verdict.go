// SPDX-License-Identifier: Apache-2.0

package model

import "encoding/base64"

func (v *Verdict) appendField(dst []byte) []byte {
	dst = append(dst, `"verdict":{`...)
	dst = jsonText(dst, "action", string(v.Action))
	dst = jsonText(dst, "policy", v.Policy)
	dst = jsonText(dst, "rule", v.Rule)
	dst = jsonText(dst, "hook", v.Hook)
	dst = jsonText(dst, "guarantee", string(v.Guarantee))
	dst = jsonText(dst, "operation", string(v.Operation))
	dst = jsonText(dst, "path", v.Path)
	dst = jsonText(dst, "protocol", v.Protocol)
	dst = jsonAddrPort(dst, "local_address", "local_port", v.Local)
	dst = jsonAddrPort(dst, "remote_address", "remote_port", v.Remote)
	dst = jsonText(dst, "remote_name", v.RemoteName)
	dst = jsonText(dst, "subject", v.Subject)
	return append(jsonClose(dst), ',')
}

func (a *Alert) appendField(dst []byte) []byte {
	dst = append(dst, `"alert":{`...)
	dst = jsonText(dst, "rule", a.Rule)
	dst = jsonText(dst, "title", a.Title)
	dst = jsonText(dst, "severity", string(a.Severity))
	dst = jsonTexts(dst, "tags", a.Tags)
	dst = jsonText(dst, "message", a.Message)
	dst = jsonText(dst, "action", a.Action)
	dst = jsonText(dst, "event_type", string(a.EventType))
	dst = jsonUint(dst, "event_seq", a.EventSeq)
	dst = jsonUint(dst, "suppressed", a.Suppressed)
	return append(jsonClose(dst), ',')
}

func (p *Probe) appendField(dst []byte) []byte {
	dst = append(dst, `"probe":{`...)
	dst = jsonText(dst, "policy", p.Policy)
	dst = jsonText(dst, "namespace", p.Namespace)
	dst = jsonText(dst, "kind", p.Kind)
	dst = jsonText(dst, "hook", p.Hook)
	dst = jsonText(dst, "carrier", p.Carrier)
	dst = jsonText(dst, "target", p.Target)
	dst = jsonText(dst, "action", p.Action)
	dst = jsonText(dst, "message", p.Message)
	dst = jsonTexts(dst, "tags", p.Tags)
	if len(p.Args) > 0 {
		dst = append(dst, `"args":[`...)
		for i := range p.Args {
			dst = append(p.Args[i].appendJSON(dst), ',')
		}
		dst[len(dst)-1] = ']'
		dst = append(dst, ',')
	}
	if p.Return != nil {
		dst = append(dst, `"return":`...)
		dst = append(p.Return.appendJSON(dst), ',')
	}
	dst = jsonTexts(dst, "kernel_stack", p.KernelStack)
	dst = jsonTexts(dst, "user_stack", p.UserStack)
	return append(jsonClose(dst), ',')
}

func (a *ProbeArg) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonText(dst, "label", a.Label)
	dst = jsonText(dst, "type", a.Type)
	if a.Int != 0 {
		dst = jsonIntAlways(dst, "int", a.Int)
	}
	dst = jsonText(dst, "text", a.Text)
	if len(a.Data) > 0 {
		dst = append(jsonName(dst, "data"), '"')
		dst = append(base64.StdEncoding.AppendEncode(dst, a.Data), '"', ',')
	}
	dst = jsonBool(dst, "truncated", a.Truncated)
	dst = jsonUint(dst, "flags", uint64(a.Flags))
	dst = jsonUint(dst, "mode", uint64(a.Mode))
	dst = jsonText(dst, "protocol", a.Protocol)
	dst = jsonAddrPort(dst, "local_address", "local_port", a.Local)
	dst = jsonAddrPort(dst, "remote_address", "remote_port", a.Remote)
	dst = jsonUint(dst, "cookie", a.Cookie)
	if a.Creds != nil {
		dst = append(dst, `"creds":`...)
		dst = append(a.Creds.appendJSON(dst), ',')
	}
	return jsonClose(dst)
}
