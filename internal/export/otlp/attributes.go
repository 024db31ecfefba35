// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"path"
	"strconv"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"

	"github.com/vigie-io/vigie/internal/model"
)

// attributes are what an event says in the names of OpenTelemetry's semantic conventions 1.38
// (https://opentelemetry.io/docs/specs/semconv/), and, where these have none, under "vigie.".
type attributes []*common.KeyValue

func (a *attributes) text(key, value string) {
	if value != "" {
		*a = append(*a, &common.KeyValue{Key: key, Value: textValue(value)})
	}
}

func (a *attributes) texts(key string, values []string) {
	if len(values) == 0 {
		return
	}
	list := new(common.ArrayValue)
	for _, v := range values {
		list.Values = append(list.Values, textValue(v))
	}
	*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: list}}})
}

func (a *attributes) number(key string, value int64) {
	*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}})
}

// some is number for what is left out when it is zero.
func (a *attributes) some(key string, value uint64) {
	if value != 0 {
		a.number(key, int64(min(value, 1<<63-1)))
	}
}

func (a *attributes) flag(key string, value bool) {
	if value {
		*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: true}}})
	}
}

func textValue(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: strings.ToValidUTF8(s, "\ufffd")}}
}

// ofEvent are an event's attributes.
func ofEvent(e *model.Event, boot string) attributes {
	a := make(attributes, 0, 32)
	a.some("vigie.seq", e.Seq)
	if e.Count > 1 {
		a.number("vigie.count", int64(e.Count))
	}
	a.flag("vigie.pre_existing", e.PreExisting)
	switch {
	case e.Process != nil:
		a.process(e.Process)
	case !e.Key.IsZero():
		a.number("process.pid", int64(e.Key.PID))
		a.text("vigie.process.exec_id", e.Key.ExecID(boot))
	}
	a.parts(e)
	return a
}

func (a *attributes) process(p *model.Process) {
	a.number("process.pid", int64(p.Key.PID))
	a.text("vigie.process.exec_id", p.ExecID)
	a.some("process.parent_pid", uint64(p.ParentKey.PID))
	a.text("vigie.process.parent_exec_id", p.ParentExecID)
	a.text("process.executable.path", p.Binary)
	if p.Binary != "" {
		a.text("process.executable.name", path.Base(p.Binary))
	}
	a.texts("process.command_args", p.Args)
	a.text("process.working_directory", p.CWD)
	if !p.StartTime.IsZero() {
		a.text("process.creation.time", p.StartTime.UTC().Format(time.RFC3339Nano))
	}
	a.number("process.user.id", int64(p.Creds.EUID))
	a.number("process.real_user.id", int64(p.Creds.UID))
	a.flag("process.interactive", p.TTY != "")
	if p.Workload != nil {
		a.workload(p.Workload)
	}
}

func (a *attributes) workload(w *model.Workload) {
	a.text("vigie.workload.kind", string(w.Kind))
	a.text("vigie.workload.name", w.Name)
	a.text("process.linux.cgroup", w.Cgroup)
	switch w.Kind {
	case model.WorkloadPod:
		a.text("k8s.namespace.name", w.Namespace)
		a.text("k8s.pod.name", w.Name)
		a.text("k8s.pod.uid", w.PodUID)
		a.text("k8s.container.name", w.Container)
		a.text("k8s.node.name", w.Node)
		a.text("k8s.serviceaccount.name", w.ServiceAccount)
		a.controller(w.Controller)
	case model.WorkloadContainer:
		a.text("container.name", w.Name)
	default:
		return
	}
	a.text("container.id", w.ID)
	a.text("container.image.name", w.Image)
	a.text("container.runtime.name", w.Runtime)
}

// controller adds the attribute that the conventions have for its kind; kinds that they do not know are ours.
func (a *attributes) controller(c model.Controller) {
	switch c.Kind {
	case "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController":
		a.text("k8s."+strings.ToLower(c.Kind)+".name", c.Name)
	default:
		a.text("vigie.controller.kind", c.Kind)
		a.text("vigie.controller.name", c.Name)
	}
}

// parts adds what the event's own part says.
func (a *attributes) parts(e *model.Event) {
	switch {
	case e.Exec != nil:
		a.text("vigie.exec.previous", e.Exec.Previous)
	case e.ExecFailed != nil:
		a.text("file.path", e.ExecFailed.Path)
		a.text("error.type", e.ExecFailed.Error.String())
	case e.Exit != nil:
		a.number("process.exit.code", int64(e.Exit.Code))
		a.some("vigie.exit.signal", uint64(e.Exit.Signal))
	case e.File != nil:
		a.text("vigie.file.op", string(e.File.Op))
		a.text("file.path", e.File.Path)
		a.text("vigie.file.new_path", e.File.NewPath)
		if e.File.Inode != 0 {
			a.text("file.inode", strconv.FormatUint(e.File.Inode, 10))
		}
		a.text("error.type", e.File.Error.String())
	case e.Socket != nil:
		a.socket(e.Socket)
	case e.DNS != nil:
		a.dns(e.DNS)
	case e.Flow != nil:
		a.flow(e.Flow)
	case e.Request != nil:
		a.request(e.Request)
	case e.Verdict != nil:
		a.verdict(e.Verdict)
	case e.Alert != nil:
		a.text("security_rule.name", e.Alert.Rule)
		a.text("security_rule.description", e.Alert.Title)
		a.text("vigie.alert.severity", string(e.Alert.Severity))
		a.texts("vigie.alert.tags", e.Alert.Tags)
		a.text("vigie.alert.action", e.Alert.Action)
		a.some("vigie.alert.event_seq", e.Alert.EventSeq)
	case e.Loss != nil:
		a.text("vigie.loss.stage", e.Loss.Stage)
		a.text("vigie.loss.reason", e.Loss.Reason)
		a.number("vigie.loss.count", int64(e.Loss.Count))
	case e.Probe != nil:
		a.text("vigie.policy", e.Probe.Policy)
		a.text("vigie.probe.hook", e.Probe.Hook)
		a.text("vigie.probe.action", e.Probe.Action)
	default:
		a.privilege(e)
	}
}

func (a *attributes) privilege(e *model.Event) {
	switch {
	case e.Credential != nil:
		a.text("vigie.call", e.Credential.Call)
		a.text("error.type", e.Credential.Error.String())
	case e.Namespace != nil:
		a.text("vigie.call", e.Namespace.Call)
		a.texts("vigie.namespace.flags", e.Namespace.Flags)
		a.text("error.type", e.Namespace.Error.String())
	case e.Ptrace != nil:
		a.text("vigie.call", e.Ptrace.Request)
		a.some("vigie.ptrace.target_pid", uint64(e.Ptrace.TargetPID))
		a.text("error.type", e.Ptrace.Error.String())
	case e.Module != nil:
		a.text("vigie.call", e.Module.Op)
		a.text("vigie.module.name", e.Module.Name)
		a.text("error.type", e.Module.Error.String())
	case e.BPF != nil:
		a.text("vigie.call", e.BPF.Op)
		a.text("vigie.bpf.program_type", e.BPF.ProgType)
		a.text("vigie.bpf.program_name", e.BPF.ProgName)
		a.text("error.type", e.BPF.Error.String())
	case e.Mount != nil:
		a.text("vigie.call", e.Mount.Op)
		a.text("vigie.mount.source", e.Mount.Source)
		a.text("file.path", e.Mount.Target)
		a.text("error.type", e.Mount.Error.String())
	case e.Capability != nil:
		a.text("vigie.capability", e.Capability.Cap.String())
		a.flag("vigie.capability.granted", e.Capability.Granted)
	}
}

func (a *attributes) verdict(v *model.Verdict) {
	a.text("vigie.verdict", string(v.Action))
	a.text("vigie.policy", v.Policy)
	a.text("vigie.policy.rule", v.Rule)
	a.text("vigie.policy.guarantee", string(v.Guarantee))
	a.text("vigie.operation", string(v.Operation))
	a.text("file.path", v.Path)
	a.text("network.transport", v.Protocol)
	a.address("network.local", v.Local)
	a.address("network.peer", v.Remote)
	a.text("server.address", v.RemoteName)
	a.text("vigie.subject", v.Subject)
}
