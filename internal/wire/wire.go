// SPDX-License-Identifier: Apache-2.0

// Package wire turns the plain types of internal/model into the protobuf messages of the API and back.
// In: immutable events and processes from the hub, the store or the process table. Out: messages that
// share no memory with what writers may still change. Nothing is lost on the way but what the API does
// not carry: of an event's parent and of a ptrace target only exec_id, pid, binary and arguments.
package wire

import (
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// ToProto is the message for e. boot is the beginning of the boot id as exec_ids carry it; it is used
// only for an event whose process is not known.
func ToProto(e *model.Event, boot string) *pb.Event {
	m := &pb.Event{
		Type: text(string(e.Type)), Time: timestamp(e.Time), BootTimeNs: e.BootTime, Seq: e.Seq, Tid: e.TID,
		Count: e.Count, PreExisting: e.PreExisting, Node: text(e.Node),
		Exec: execToProto(e.Exec), ExecFailed: execFailedToProto(e.ExecFailed), Exit: exitToProto(e.Exit),
		Credential: credentialToProto(e.Credential), Namespace: namespaceToProto(e.Namespace),
		Ptrace: ptraceToProto(e.Ptrace), Module: moduleToProto(e.Module), Bpf: bpfToProto(e.BPF),
		Mount: mountToProto(e.Mount), Capability: capabilityToProto(e.Capability),
		File: fileToProto(e.File), Socket: socketToProto(e.Socket), Dns: dnsToProto(e.DNS), Flow: flowToProto(e.Flow), Request: requestToProto(e.Request),
		Verdict: verdictToProto(e.Verdict), Alert: alertToProto(e.Alert), Probe: probeToProto(e.Probe), Loss: lossToProto(e.Loss),
	}
	switch {
	case e.Process != nil:
		m.Process = ProcessToProto(e.Process)
		if e.Parent != nil {
			m.Process.Parent = refToProto(e.Parent)
		}
	case !e.Key.IsZero():
		m.Process = &pb.Process{ExecId: e.Key.ExecID(boot), Pid: e.Key.PID}
	}
	return m
}

// FromProto is the event that m stands for. It accepts anything: what can't be parsed is left unset.
func FromProto(m *pb.Event) *model.Event {
	e := &model.Event{
		Type: model.Type(m.GetType()), Time: moment(m.GetTime()), BootTime: m.GetBootTimeNs(), Seq: m.GetSeq(),
		TID: m.GetTid(), Count: m.GetCount(), PreExisting: m.GetPreExisting(), Node: m.GetNode(),
		Exec: execFromProto(m.GetExec()), ExecFailed: execFailedFromProto(m.GetExecFailed()),
		Exit: exitFromProto(m.GetExit()), Credential: credentialFromProto(m.GetCredential()),
		Namespace: namespaceFromProto(m.GetNamespace()), Ptrace: ptraceFromProto(m.GetPtrace()),
		Module: moduleFromProto(m.GetModule()), BPF: bpfFromProto(m.GetBpf()), Mount: mountFromProto(m.GetMount()),
		Capability: capabilityFromProto(m.GetCapability()), File: fileFromProto(m.GetFile()),
		Socket: socketFromProto(m.GetSocket()), DNS: dnsFromProto(m.GetDns()), Flow: flowFromProto(m.GetFlow()), Request: requestFromProto(m.GetRequest()),
		Verdict: verdictFromProto(m.GetVerdict()), Alert: alertFromProto(m.GetAlert()), Probe: probeFromProto(m.GetProbe()),
		Loss: lossFromProto(m.GetLoss()),
	}
	if p := m.GetProcess(); p != nil {
		e.Process = ProcessFromProto(p)
		e.Key = e.Process.Key
		// A parent of which nothing but the exec_id is known is no Parent, it stands in ParentExecID.
		if ref := p.GetParent(); ref.GetBinary() != "" || len(ref.GetArgs()) > 0 {
			e.Parent = refFromProto(ref)
		}
	}
	return e
}

// text returns s, made valid UTF-8 as model.CleanString does: one bad string would make the whole
// message unsendable.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return model.CleanString([]byte(s))
}

func texts(list []string) []string {
	for i := range list {
		if !utf8.ValidString(list[i]) {
			list = slices.Clone(list)
			for j := range list[i:] {
				list[i+j] = text(list[i+j])
			}
			break
		}
	}
	return list
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil || t.CheckValid() != nil {
		return time.Time{}
	}
	return t.AsTime()
}

// address splits an address and port; an unset one is "" and its port.
func address(ap netip.AddrPort) (string, uint32) {
	if !ap.Addr().IsValid() {
		return "", uint32(ap.Port())
	}
	return text(ap.Addr().String()), uint32(ap.Port())
}

func addrPort(addr string, port uint32) netip.AddrPort {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		a = netip.Addr{}
	}
	return netip.AddrPortFrom(a, uint16(port))
}

func device(dev uint32) string {
	if dev == 0 {
		return ""
	}
	return string(model.AppendDevice(nil, dev))
}

func mode(m uint32) string {
	if m == 0 {
		return ""
	}
	return string(model.AppendMode(nil, m))
}

func capSet(s model.CapSet) string {
	if s == 0 {
		return ""
	}
	return string(model.AppendCapSet(nil, s))
}

func capSetOf(names []string) model.CapSet {
	var set model.CapSet
	for _, name := range names {
		if c, ok := model.ParseCap(name); ok && c < 64 {
			set |= 1 << c
		}
	}
	return set
}

// unlessUnset is nil for the kernel's "no uid".
func unlessUnset(uid uint32) *uint32 {
	if uid == model.NoUID {
		return nil
	}
	return &uid
}

func orUnset(uid *uint32) uint32 {
	if uid == nil {
		return model.NoUID
	}
	return *uid
}
