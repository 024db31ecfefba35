// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// securityColumns keep ten types that are rare and have little in common: whole as JSON, and beside it what is asked for.
func securityColumns() []Column {
	return []Column{
		object("detail", func(r *row) string { return r.detail }, decodeDetail, assignDetail,
			"What the type has, as in docs/events.md: {\"verdict\":{…}}"),
		repeated("policy", "Of verdict and probe", func(e *model.Event) string {
			switch {
			case e.Verdict != nil:
				return e.Verdict.Policy
			case e.Probe != nil:
				return e.Probe.Policy
			}
			return ""
		}),
		repeated("rule", "Of verdict the policy's rule, of alert the detection", func(e *model.Event) string {
			switch {
			case e.Verdict != nil:
				return e.Verdict.Rule
			case e.Alert != nil:
				return e.Alert.Rule
			}
			return ""
		}),
		repeated("action", "Of verdict denied, killed or audited; of alert alert or kill; of probe what was done", func(e *model.Event) string {
			switch {
			case e.Verdict != nil:
				return string(e.Verdict.Action)
			case e.Alert != nil:
				return e.Alert.Action
			case e.Probe != nil:
				return e.Probe.Action
			}
			return ""
		}),
		repeated("severity", "Of alert", func(e *model.Event) string {
			if e.Alert != nil {
				return string(e.Alert.Severity)
			}
			return ""
		}),
		repeated("message", "Of alert and probe", func(e *model.Event) string {
			switch {
			case e.Alert != nil:
				return e.Alert.Message
			case e.Probe != nil:
				return e.Probe.Message
			}
			return ""
		}),
		repeated("operation", "Of verdict what was tried; of the others the call or kind", operationOf),
		repeated("target", "What it was about: path, address, name, capability, module", targetOf),
		repeated("hook", "Of verdict and probe", func(e *model.Event) string {
			switch {
			case e.Verdict != nil:
				return e.Verdict.Hook
			case e.Probe != nil:
				return e.Probe.Hook
			}
			return ""
		}),
		repeated("error", "Symbolic error name; NULL on success", errorOf),
	}
}

// repeated is a derived column that is only written: who rebuilds an event reads detail.
func repeated(name, doc string, of func(*model.Event) string) Column {
	return Column{Name: name, Doc: doc, kind: kindText, derived: true,
		write: func(r *row) parquet.Value { return textValue(of(r.Event)) }}
}

func assignDetail(e *model.Event, shared any) {
	d := shared.(*model.Event)
	e.Credential, e.Namespace, e.Ptrace, e.Module, e.BPF, e.Mount, e.Capability = d.Credential, d.Namespace, d.Ptrace, d.Module, d.BPF, d.Mount, d.Capability
	e.Verdict, e.Alert, e.Probe = d.Verdict, d.Alert, d.Probe
}

func operationOf(e *model.Event) string {
	switch {
	case e.Verdict != nil:
		return string(e.Verdict.Operation)
	case e.Credential != nil:
		return e.Credential.Call
	case e.Namespace != nil:
		return e.Namespace.Call
	case e.Ptrace != nil:
		return e.Ptrace.Request
	case e.Module != nil:
		return e.Module.Op
	case e.BPF != nil:
		return e.BPF.Op
	case e.Mount != nil:
		return e.Mount.Op
	case e.Probe != nil:
		return e.Probe.Kind
	}
	return ""
}

func targetOf(e *model.Event) string {
	switch v := e.Verdict; {
	case v != nil && v.Path != "":
		return v.Path
	case v != nil && v.RemoteName != "":
		return v.RemoteName
	case v != nil && v.Remote.IsValid():
		return v.Remote.String()
	case v != nil && v.Local.IsValid():
		return v.Local.String()
	case v != nil:
		return v.Subject
	case e.Ptrace != nil && e.Ptrace.Target != nil:
		return e.Ptrace.Target.Binary
	case e.Module != nil:
		return e.Module.Name
	case e.BPF != nil:
		return e.BPF.ProgName
	case e.Mount != nil:
		return e.Mount.Target
	case e.Capability != nil:
		return e.Capability.Cap.String()
	case e.Probe != nil:
		return e.Probe.Target
	}
	return ""
}

func errorOf(e *model.Event) string {
	switch {
	case e.Credential != nil:
		return e.Credential.Error.String()
	case e.Namespace != nil:
		return e.Namespace.Error.String()
	case e.Ptrace != nil:
		return e.Ptrace.Error.String()
	case e.Module != nil:
		return e.Module.Error.String()
	case e.BPF != nil:
		return e.BPF.Error.String()
	case e.Mount != nil:
		return e.Mount.Error.String()
	}
	return ""
}
