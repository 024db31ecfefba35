// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

const ecsVersion = "9.4.0"

// ecs encodes in the form of the Elastic Common Schema (https://www.elastic.co/docs/reference/ecs).
type ecs struct{ Options }

func (s ecs) encode(dst []byte, e *model.Event) []byte {
	o := &object{append(dst, '{')}
	o.time("@timestamp", e.Time)
	if e.Alert != nil {
		o.text("message", e.Alert.Message)
	}
	o.begin("ecs")
	o.text("version", ecsVersion)
	o.end()
	s.event(o, e)
	o.begin("agent")
	o.text("type", "vigie")
	o.text("version", s.Version)
	o.text("name", s.Host)
	o.end()
	s.host(o)
	s.process(o, e)
	s.file(o, e)
	s.network(o, e)
	s.rule(o, e)
	if why := failure(e); why != "" {
		o.begin("error")
		o.text("code", why)
		o.end()
	}
	o.begin("vigie")
	extras(o, e)
	o.end()
	return o.close()
}

// event writes how the schema classifies what happened.
func (s ecs) event(o *object, e *model.Event) {
	category, kinds := ecsKind(e)
	o.begin("event")
	kind := "event"
	if e.Alert != nil {
		kind = "alert"
	}
	o.text("kind", kind)
	if category != "" {
		o.texts("category", []string{category})
	}
	o.texts("type", kinds)
	o.text("action", string(e.Type))
	switch {
	case e.Verdict != nil && e.Verdict.Action == model.VerdictAudited, e.Alert != nil, e.Loss != nil:
	case e.Verdict != nil, failure(e) != "":
		o.text("outcome", "failure")
	default:
		o.text("outcome", "success")
	}
	o.text("module", "vigie")
	o.text("dataset", "vigie.events")
	o.text("provider", "vigie")
	o.some("sequence", e.Seq)
	if e.Alert != nil {
		for i, x := range model.Severities() {
			if x == e.Alert.Severity {
				o.number("severity", int64(i+1))
			}
		}
	}
	switch {
	case e.Verdict != nil:
		o.text("reason", "policy "+e.Verdict.Policy+", "+e.Verdict.Rule)
	case e.Flow != nil:
		o.text("reason", e.Flow.Reason)
		o.time("start", e.Flow.Start)
		o.time("end", e.Flow.End)
		if !e.Flow.End.IsZero() {
			o.some("duration", uint64(max(e.Flow.End.Sub(e.Flow.Start), 0)))
		}
	case e.Request != nil:
		o.some("duration", uint64(max(e.Request.Duration, e.Request.Latency, 0)))
	case e.DNS != nil:
		o.some("duration", uint64(max(e.DNS.Latency, 0)))
	case e.Socket != nil:
		o.some("duration", uint64(max(e.Socket.Duration, 0)))
	case e.Exit != nil:
		o.some("duration", uint64(max(e.Exit.RunTime, 0)))
	}
	o.end()
}

// ecsKind is the schema's category of an event and its types, of which each category has its own.
func ecsKind(e *model.Event) (category string, kinds []string) {
	switch e.Type {
	case model.TypeExec, model.TypeFork, model.TypeExecFailed:
		return "process", []string{"start"}
	case model.TypeExit:
		return "process", []string{"end"}
	case model.TypeCredential, model.TypeNamespace, model.TypePtrace, model.TypeCapability, model.TypeProbe:
		return "process", []string{"change"}
	case model.TypeModule, model.TypeBPF:
		return "driver", []string{"start"}
	case model.TypeMount:
		return "configuration", []string{"change"}
	case model.TypeFile:
		switch e.File.Op {
		case model.FileRead:
			return "file", []string{"access"}
		case model.FileCreate, model.FileLink:
			return "file", []string{"creation"}
		case model.FileUnlink:
			return "file", []string{"deletion"}
		}
		return "file", []string{"change"}
	case model.TypeConnect, model.TypeAccept:
		return "network", []string{"connection", "start"}
	case model.TypeClose:
		return "network", []string{"connection", "end"}
	case model.TypeListen:
		return "network", []string{"info"}
	case model.TypeDNS:
		return "network", []string{"protocol"}
	case model.TypeFlow:
		kinds = []string{"connection"}
		switch {
		case e.Flow.Verdict == model.FlowDenied:
			kinds = append(kinds, "denied")
		case e.Flow.State == model.FlowClosed:
			kinds = append(kinds, "end")
		case e.Flow.Report <= 1:
			kinds = append(kinds, "start")
		}
		return "network", kinds
	case model.TypeRequest:
		switch e.Request.Protocol {
		case "http", "grpc":
			return "web", []string{"access"}
		case "kafka":
			return "network", []string{"protocol"}
		}
		return "database", []string{"access"}
	case model.TypeVerdict:
		switch e.Verdict.Operation {
		case model.OpRead, model.OpWrite, model.OpModify:
			category = "file"
		case model.OpConnect, model.OpSend, model.OpBind, model.OpListen, model.OpAccept, model.OpSocket, model.OpReceive:
			category = "network"
		default:
			category = "process"
		}
		if e.Verdict.Action == model.VerdictAudited {
			return category, []string{"info"}
		}
		if category == "network" {
			return category, []string{"denied"}
		}
		return category, []string{"info"}
	case model.TypeAlert:
		return "intrusion_detection", []string{"info"}
	}
	return "host", []string{"info"}
}

func (s ecs) host(o *object) {
	o.begin("host")
	o.text("hostname", s.Host)
	o.text("name", s.Host)
	o.begin("os")
	o.text("type", "linux")
	o.text("kernel", s.Kernel)
	o.end()
	o.end()
}

func (s ecs) process(o *object, e *model.Event) {
	p := e.Process
	if p == nil {
		if !e.Key.IsZero() {
			o.begin("process")
			o.number("pid", int64(e.Key.PID))
			o.text("entity_id", e.Key.ExecID(s.Boot))
			o.end()
		}
		return
	}
	o.begin("process")
	s.image(o, p)
	o.time("start", p.StartTime)
	o.time("end", p.EndTime)
	o.text("working_directory", p.CWD)
	if p.TTY != "" {
		o.flag("interactive", true)
	}
	if e.Exit != nil {
		o.number("exit_code", int64(e.Exit.Code))
	}
	if e.TID != 0 {
		o.begin("thread")
		o.number("id", int64(e.TID))
		o.end()
	}
	ids := func(name string, id uint32) {
		o.begin(name)
		o.text("id", strconv.Itoa(int(id)))
		o.end()
	}
	ids("user", p.Creds.EUID)
	ids("real_user", p.Creds.UID)
	ids("group", p.Creds.EGID)
	ids("real_group", p.Creds.GID)
	switch {
	case e.Parent != nil:
		o.begin("parent")
		s.image(o, e.Parent)
		o.end()
	case p.ParentExecID != "":
		o.begin("parent")
		o.some("pid", uint64(p.ParentKey.PID))
		o.text("entity_id", p.ParentExecID)
		o.end()
	}
	o.end()
	o.begin("user")
	o.text("id", strconv.Itoa(int(p.Creds.EUID)))
	o.end()
	if w := p.Workload; w != nil {
		s.workload(o, w)
	}
}

func (s ecs) image(o *object, p *model.Process) {
	o.number("pid", int64(p.Key.PID))
	o.text("entity_id", p.ExecID)
	o.text("executable", p.Binary)
	o.text("name", base(p.Binary))
	o.texts("args", p.Args)
	if len(p.Args) > 0 {
		o.number("args_count", int64(len(p.Args)))
		o.text("command_line", commandLine(p.Args))
	}
}

func (s ecs) workload(o *object, w *model.Workload) {
	if w.Kind != model.WorkloadContainer && w.Kind != model.WorkloadPod {
		return
	}
	o.begin("container")
	o.text("id", w.ID)
	if w.Kind == model.WorkloadPod {
		o.text("name", w.Container)
	} else {
		o.text("name", w.Name)
	}
	if w.Image != "" {
		o.begin("image")
		o.text("name", w.Image)
		o.end()
	}
	o.text("runtime", w.Runtime)
	o.end()
	if w.Kind != model.WorkloadPod {
		return
	}
	o.begin("orchestrator")
	o.text("type", "kubernetes")
	o.text("namespace", w.Namespace)
	o.begin("resource")
	o.text("type", "pod")
	o.text("name", w.Name)
	o.text("id", w.PodUID)
	if w.Controller.Name != "" {
		o.begin("parent")
		o.text("type", w.Controller.Kind)
		o.end()
	}
	o.end()
	o.end()
}

func (s ecs) file(o *object, e *model.Event) {
	file, target := e.File, ""
	switch {
	case file != nil:
		target = file.NewPath
	case e.Verdict != nil && e.Verdict.Path != "":
		file = &model.File{Path: e.Verdict.Path}
	case e.ExecFailed != nil:
		file = &model.File{Path: e.ExecFailed.Path}
	default:
		return
	}
	o.begin("file")
	o.text("path", file.Path)
	o.text("name", base(file.Path))
	if i := strings.LastIndexByte(file.Path, '/'); i > 0 {
		o.text("directory", file.Path[:i])
	}
	o.text("target_path", target)
	if file.Inode != 0 {
		o.text("inode", strconv.FormatUint(file.Inode, 10))
	}
	if file.Mode != 0 {
		o.text("mode", string(model.AppendMode(nil, file.Mode)))
	}
	switch file.FileType {
	case "regular":
		o.text("type", "file")
	case "directory":
		o.text("type", "dir")
	default:
		o.text("type", file.FileType)
	}
	o.end()
}

func (s ecs) rule(o *object, e *model.Event) {
	o.begin("rule")
	switch {
	case e.Alert != nil:
		o.text("id", e.Alert.Rule)
		o.text("name", e.Alert.Title)
	case e.Verdict != nil:
		o.text("name", e.Verdict.Rule)
		o.text("ruleset", e.Verdict.Policy)
	case e.Flow != nil:
		o.text("name", e.Flow.Rule)
		o.text("ruleset", e.Flow.Policy)
	}
	o.end()
	if e.Alert == nil {
		return
	}
	var techniques []string
	for _, tag := range e.Alert.Tags {
		if technique(tag) {
			techniques = append(techniques, tag)
		}
	}
	o.begin("threat")
	if len(techniques) > 0 {
		o.text("framework", "MITRE ATT&CK")
		o.begin("technique")
		o.texts("id", techniques)
		o.end()
	}
	o.end()
}
