// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// extras are what neither schema has a field for, and a reader of vigie's events would miss.
func extras(o *object, e *model.Event) {
	o.text("type", string(e.Type))
	o.some("boot_time_ns", e.BootTime)
	if e.Count > 1 {
		o.number("count", int64(e.Count))
	}
	if e.PreExisting {
		o.flag("pre_existing", true)
	}
	if p := e.Process; p != nil && p.Workload != nil {
		workloadExtras(o, "workload", p.Workload)
	}
	switch {
	case e.Exit != nil:
		o.some("signal", uint64(e.Exit.Signal))
	case e.Credential != nil:
		o.text("call", e.Credential.Call)
		o.number("old_euid", int64(e.Credential.Old.EUID))
		o.number("new_euid", int64(e.Credential.New.EUID))
	case e.Ptrace != nil:
		o.text("request", e.Ptrace.Request)
	case e.Mount != nil:
		o.text("op", e.Mount.Op)
		o.text("source", e.Mount.Source)
		o.text("fs_type", e.Mount.FSType)
	case e.Module != nil:
		o.text("op", e.Module.Op)
	case e.BPF != nil:
		o.text("prog_type", e.BPF.ProgType)
	case e.File != nil:
		o.text("op", string(e.File.Op))
		o.text("new_path", e.File.NewPath)
		o.text("path_from", e.File.PathFrom)
	case e.Socket != nil:
		o.some("cookie", e.Socket.Cookie)
		o.some("srtt_ns", uint64(max(e.Socket.SRTT, 0)))
		o.some("retransmits", uint64(e.Socket.Retransmits))
		o.text("path", e.Socket.Path)
	case e.Flow != nil:
		flowExtras(o, e.Flow)
	case e.Request != nil:
		o.text("protocol", e.Request.Protocol)
		o.text("role", e.Request.Role)
		o.text("resource", e.Request.Resource)
		o.text("tls", e.Request.TLS)
		o.some("latency_ns", uint64(max(e.Request.Latency, 0)))
		o.text("trace_id", e.Request.TraceID)
		o.text("parent_span_id", e.Request.ParentSpanID)
	case e.Verdict != nil:
		o.text("action", string(e.Verdict.Action))
		o.text("policy", e.Verdict.Policy)
		o.text("rule", e.Verdict.Rule)
		o.text("hook", e.Verdict.Hook)
		o.text("guarantee", string(e.Verdict.Guarantee))
		o.text("operation", string(e.Verdict.Operation))
		o.text("subject", e.Verdict.Subject)
	case e.Alert != nil:
		o.texts("tags", e.Alert.Tags)
		o.text("action", e.Alert.Action)
		o.some("event_seq", e.Alert.EventSeq)
		o.some("suppressed", e.Alert.Suppressed)
	case e.Probe != nil:
		o.text("policy", e.Probe.Policy)
		o.text("hook", e.Probe.Hook)
		o.text("action", e.Probe.Action)
	case e.Loss != nil:
		o.text("stage", e.Loss.Stage)
		o.text("reason", e.Loss.Reason)
		o.number("lost", int64(e.Loss.Count))
		o.number("total", int64(e.Loss.Total))
	}
}

func flowExtras(o *object, f *model.Flow) {
	o.some("flow_id", f.ID)
	o.some("report", uint64(f.Report))
	o.text("state", string(f.State))
	o.text("verdict", string(f.Verdict))
	o.text("reason", f.Reason)
	o.text("policy", f.Policy)
	o.text("rule", f.Rule)
	o.text("close", string(f.Close))
	o.some("srtt_ns", uint64(max(f.SRTT, 0)))
	o.some("latency_ns", uint64(max(f.Latency, 0)))
	o.some("retransmits", uint64(f.Total.Retransmits))
	for _, end := range []struct {
		name string
		*model.Endpoint
	}{{"source", &f.Source}, {"destination", &f.Destination}} {
		o.begin(end.name)
		if end.Workload != nil {
			workloadExtras(o, "workload", end.Workload)
		}
		if p := end.Process; p != nil {
			o.text("exec_id", p.ExecID)
			o.text("binary", p.Binary)
		}
		o.end()
	}
}

func workloadExtras(o *object, name string, w *model.Workload) {
	o.begin(name)
	o.text("kind", string(w.Kind))
	o.text("name", w.Name)
	o.text("namespace", w.Namespace)
	o.end()
}

// technique reports whether a tag is one of MITRE ATT&CK: T1059, T1059.004.
func technique(tag string) bool {
	digits, ok := strings.CutPrefix(tag, "T")
	return ok && len(digits) >= 4 && strings.Trim(digits, "0123456789.") == ""
}
