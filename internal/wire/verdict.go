// SPDX-License-Identifier: Apache-2.0

package wire

import (
	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

func verdictToProto(x *model.Verdict) *pb.Verdict {
	if x == nil {
		return nil
	}
	m := &pb.Verdict{Action: text(string(x.Action)), Policy: text(x.Policy), Rule: text(x.Rule), Hook: text(x.Hook),
		Guarantee: text(string(x.Guarantee)), Operation: text(string(x.Operation)), Path: text(x.Path),
		Protocol: text(x.Protocol), RemoteName: text(x.RemoteName), Subject: text(x.Subject)}
	m.LocalAddress, m.LocalPort = address(x.Local)
	m.RemoteAddress, m.RemotePort = address(x.Remote)
	return m
}

func verdictFromProto(m *pb.Verdict) *model.Verdict {
	if m == nil {
		return nil
	}
	return &model.Verdict{Action: model.VerdictAction(m.GetAction()), Policy: m.GetPolicy(), Rule: m.GetRule(), Hook: m.GetHook(),
		Guarantee: model.Guarantee(m.GetGuarantee()), Operation: model.Operation(m.GetOperation()), Path: m.GetPath(),
		Protocol: m.GetProtocol(), Local: addrPort(m.GetLocalAddress(), m.GetLocalPort()),
		Remote: addrPort(m.GetRemoteAddress(), m.GetRemotePort()), RemoteName: m.GetRemoteName(), Subject: m.GetSubject()}
}

func alertToProto(x *model.Alert) *pb.Alert {
	if x == nil {
		return nil
	}
	return &pb.Alert{Rule: text(x.Rule), Title: text(x.Title), Severity: text(string(x.Severity)), Tags: texts(x.Tags),
		Message: text(x.Message), Action: text(x.Action), EventType: text(string(x.EventType)), EventSeq: x.EventSeq,
		Suppressed: x.Suppressed}
}

func alertFromProto(m *pb.Alert) *model.Alert {
	if m == nil {
		return nil
	}
	return &model.Alert{Rule: m.GetRule(), Title: m.GetTitle(), Severity: model.Severity(m.GetSeverity()), Tags: m.GetTags(),
		Message: m.GetMessage(), Action: m.GetAction(), EventType: model.Type(m.GetEventType()), EventSeq: m.GetEventSeq(),
		Suppressed: m.GetSuppressed()}
}

func probeToProto(x *model.Probe) *pb.Probe {
	if x == nil {
		return nil
	}
	m := &pb.Probe{Policy: text(x.Policy), Namespace: text(x.Namespace), Kind: text(x.Kind), Hook: text(x.Hook),
		Carrier: text(x.Carrier), Target: text(x.Target), Action: text(x.Action), Message: text(x.Message), Tags: texts(x.Tags),
		Return: probeArgToProto(x.Return), KernelStack: texts(x.KernelStack), UserStack: texts(x.UserStack)}
	for i := range x.Args {
		m.Args = append(m.Args, probeArgToProto(&x.Args[i]))
	}
	return m
}

func probeFromProto(m *pb.Probe) *model.Probe {
	if m == nil {
		return nil
	}
	x := &model.Probe{Policy: m.GetPolicy(), Namespace: m.GetNamespace(), Kind: m.GetKind(), Hook: m.GetHook(),
		Carrier: m.GetCarrier(), Target: m.GetTarget(), Action: m.GetAction(), Message: m.GetMessage(), Tags: m.GetTags(),
		Return: probeArgFromProto(m.GetReturn()), KernelStack: m.GetKernelStack(), UserStack: m.GetUserStack()}
	for _, a := range m.GetArgs() {
		x.Args = append(x.Args, *probeArgFromProto(a))
	}
	return x
}

func probeArgToProto(a *model.ProbeArg) *pb.ProbeArg {
	if a == nil {
		return nil
	}
	m := &pb.ProbeArg{Label: text(a.Label), Type: text(a.Type), Int: a.Int, Text: text(a.Text), Data: a.Data,
		Truncated: a.Truncated, Flags: a.Flags, Mode: a.Mode, Protocol: text(a.Protocol), Cookie: a.Cookie}
	if a.Creds != nil {
		m.Creds = credsToProto(a.Creds)
	}
	m.LocalAddress, m.LocalPort = address(a.Local)
	m.RemoteAddress, m.RemotePort = address(a.Remote)
	return m
}

func probeArgFromProto(m *pb.ProbeArg) *model.ProbeArg {
	if m == nil {
		return nil
	}
	a := &model.ProbeArg{Label: m.GetLabel(), Type: m.GetType(), Int: m.GetInt(), Text: m.GetText(), Data: m.GetData(),
		Truncated: m.GetTruncated(), Flags: m.GetFlags(), Mode: m.GetMode(), Protocol: m.GetProtocol(),
		Local: addrPort(m.GetLocalAddress(), m.GetLocalPort()), Remote: addrPort(m.GetRemoteAddress(), m.GetRemotePort()),
		Cookie: m.GetCookie()}
	if m.GetCreds() != nil {
		c := credsFromProto(m.GetCreds())
		a.Creds = &c
	}
	return a
}
