// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// control says what a policy did, in the profile security_control.
func (s ocsf) control(o *object, e *model.Event) {
	var action, disposition int64
	switch {
	case e.Verdict != nil && e.Verdict.Action == model.VerdictAudited, e.Flow != nil && e.Flow.Verdict == model.FlowAudited:
		action, disposition = 1, 1 // allowed
	case e.Verdict != nil, e.Flow != nil && e.Flow.Verdict == model.FlowDenied && e.Flow.Policy != "":
		action, disposition = 2, 2 // denied, blocked
	default:
		return
	}
	o.number("action_id", action)
	o.number("disposition_id", disposition)
}

// parts writes what a class has beside what all have.
func (s ocsf) parts(o *object, e *model.Event, class int) {
	switch class {
	case ocsfProcess:
		s.processPart(o, e)
	case ocsfFile:
		s.filePart(o, e)
	case ocsfKernel:
		s.kernelPart(o, e)
	case ocsfDetection:
		s.finding(o, e)
	case ocsfNetwork, ocsfHTTP, ocsfDNS, ocsfDatastore:
		if c, ok := talk(e); ok {
			s.endpoints(o, c, class != ocsfDatastore)
			if class == ocsfNetwork || class == ocsfHTTP || class == ocsfDNS {
				s.traffic(o, c)
			}
		}
		switch class {
		case ocsfNetwork:
			if f := e.Flow; f != nil {
				o.millis("start_time", f.Start)
				o.millis("end_time", f.End)
			}
		case ocsfHTTP:
			s.http(o, e.Request)
		case ocsfDNS:
			s.dns(o, e)
		case ocsfDatastore:
			s.datastore(o, e.Request)
		}
	}
}

func (s ocsf) processPart(o *object, e *model.Event) {
	if e.Exit != nil {
		o.number("exit_code", int64(e.Exit.Code))
		o.some("duration", uint64(max(e.Exit.RunTime.Milliseconds(), 0)))
	}
	o.begin("process")
	switch t := e.Ptrace; {
	case t != nil && t.Target != nil:
		s.process(o, t.Target, nil)
	case t != nil:
		o.number("pid", int64(t.TargetPID))
	case e.ExecFailed != nil:
		o.text("path", e.ExecFailed.Path)
		o.text("name", base(e.ExecFailed.Path))
		o.text("cmd_line", commandLine(e.ExecFailed.Args))
		o.some("pid", uint64(e.Key.PID))
	case e.Process != nil:
		s.process(o, e.Process, e.Parent)
	default:
		o.number("pid", int64(e.Key.PID))
	}
	o.end()
}

func (s ocsf) filePart(o *object, e *model.Event) {
	write := func(field, path, kind string, uid uint64) {
		o.begin(field)
		o.text("name", base(path)+blank(path == "", "unknown"))
		o.text("path", path)
		o.number("type_id", fileType(kind))
		if uid != 0 {
			o.text("uid", strconv.FormatUint(uid, 10))
		}
		o.end()
	}
	if m := e.Mount; m != nil {
		write("file", m.Target, "directory", 0)
		return
	}
	write("file", e.File.Path, e.File.FileType, e.File.Inode)
	if e.File.NewPath != "" {
		write("file_result", e.File.NewPath, e.File.FileType, e.File.Inode)
	}
}

// fileType is OCSF's number of a kind of file.
func fileType(kind string) int64 {
	switch kind {
	case "regular":
		return 1
	case "directory":
		return 2
	case "device":
		return 3
	case "socket":
		return 4
	case "fifo":
		return 5
	case "symlink":
		return 6
	case "":
		return 0
	}
	return ocsfOther
}

// kernelPart names what of the kernel was used.
func (s ocsf) kernelPart(o *object, e *model.Event) {
	name, call := "", ""
	switch {
	case e.Capability != nil:
		name = e.Capability.Cap.String()
	case e.Namespace != nil:
		name, call = "namespaces "+strings.Join(e.Namespace.Flags, ","), e.Namespace.Call
	case e.BPF != nil:
		name, call = strings.TrimSpace("BPF program "+e.BPF.ProgName), "bpf"
	case e.Module != nil:
		name, call = strings.TrimSpace("module "+e.Module.Name), e.Module.Op
	case e.Probe != nil:
		name = e.Probe.Hook
	case e.Socket != nil:
		name = e.Socket.Path
	}
	o.begin("kernel")
	o.text("name", name+blank(name == "", string(e.Type)))
	o.number("type_id", 2*boolean(call != ""))
	o.text("system_call", call)
	o.end()
}

// finding tells of a verdict or an alert, with who did it as its evidence.
func (s ocsf) finding(o *object, e *model.Event) {
	o.begin("finding_info")
	o.text("uid", s.Host+blank(s.Host != "", "/")+s.Boot+"/"+strconv.FormatUint(e.Seq, 10))
	if a := e.Alert; a != nil {
		o.text("title", a.Title)
		o.text("desc", a.Message)
		o.begin("analytic")
		o.text("uid", a.Rule)
		o.text("name", a.Title)
		o.number("type_id", 1)
		o.end()
		o.beginList("attacks")
		for _, tag := range a.Tags {
			if technique(tag) {
				o.begin("")
				o.begin("technique")
				o.text("uid", tag)
				o.end()
				o.end()
			}
		}
		o.endList()
	} else {
		o.text("title", "policy "+e.Verdict.Policy+": "+string(e.Verdict.Operation)+" "+string(e.Verdict.Action))
		o.begin("analytic")
		o.text("uid", e.Verdict.Policy)
		o.text("name", e.Verdict.Rule)
		o.number("type_id", 1)
		o.end()
	}
	o.end()
	o.flag("is_alert", e.Alert != nil)
	o.beginList("evidences")
	o.begin("")
	if e.Process != nil {
		o.begin("process")
		s.process(o, e.Process, e.Parent)
		o.end()
	}
	if v := e.Verdict; v != nil && v.Path != "" {
		o.begin("file")
		o.text("name", base(v.Path))
		o.text("path", v.Path)
		o.number("type_id", 0)
		o.end()
	}
	if c, ok := talk(e); ok {
		s.endpoints(o, c, true)
	}
	o.end()
	o.endList()
}

// endpoints writes both ends of a conversation, and how they are connected where the class knows that.
func (s ocsf) endpoints(o *object, c conversation, connection bool) {
	for _, end := range []struct {
		name string
		*model.Endpoint
	}{{"src_endpoint", &c.source}, {"dst_endpoint", &c.destination}} {
		o.begin(end.name)
		o.text("ip", ip(end.Address))
		o.some("port", uint64(end.Address.Port()))
		o.text("hostname", end.Name)
		if !connection && !end.Address.IsValid() && (end.Workload == nil || end.Workload.Name == "") {
			o.text("name", "unknown") // the class wants both ends
		}
		if w := end.Workload; w != nil {
			o.text("name", w.Name)
			if w.Kind == model.WorkloadContainer || w.Kind == model.WorkloadPod {
				o.begin("container")
				s.container(o, w)
				o.end()
			}
		}
		o.end()
	}
	if !connection {
		return
	}
	o.begin("connection_info")
	o.number("direction_id", map[string]int64{"inbound": 1, "outbound": 2, "local": 3}[c.direction])
	o.text("protocol_name", c.protocol)
	o.some("protocol_num", map[string]uint64{"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}[c.protocol])
	o.some("protocol_ver_id", map[string]uint64{"ipv4": 4, "ipv6": 6}[c.family])
	o.end()
}

func (s ocsf) traffic(o *object, c conversation) {
	o.begin("traffic")
	o.some("bytes_out", c.counters.BytesSent)
	o.some("bytes_in", c.counters.BytesReceived)
	o.some("packets_out", c.counters.PacketsSent)
	o.some("packets_in", c.counters.PacketsReceived)
	o.end()
}

func (s ocsf) http(o *object, r *model.Request) {
	o.begin("http_request")
	o.text("http_method", r.Method)
	o.text("version", strings.TrimPrefix(r.Version, "HTTP/"))
	o.some("body_length", r.RequestBytes)
	o.begin("url")
	o.text("hostname", hostOf(r.Host))
	o.text("path", r.Path)
	o.end()
	o.end()
	if r.NoAnswer {
		return
	}
	code := int64(r.Status)
	if r.Protocol == "grpc" { // whose answers are all 200; its own status stands beside
		code = 200
	}
	o.begin("http_response")
	o.number("code", code)
	o.text("status", r.StatusText)
	o.some("latency", uint64(max(r.Latency.Milliseconds(), 0)))
	o.some("body_length", r.ResponseBytes)
	o.end()
}

func (s ocsf) dns(o *object, e *model.Event) {
	d := e.DNS
	o.begin("query")
	o.text("hostname", d.Name+blank(d.Name == "", "."))
	o.text("type", d.QType)
	o.end()
	o.beginList("answers")
	for _, a := range d.Answers {
		o.begin("")
		o.text("type", a.Type)
		o.text("rdata", a.Data+blank(a.Data == "", "-"))
		o.number("ttl", int64(a.TTL/time.Second))
		o.end()
	}
	o.endList()
	if d.RCode == "" {
		return
	}
	id := int64(ocsfOther)
	for i, name := range []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"} {
		if name == d.RCode {
			id = int64(i)
		}
	}
	o.number("rcode_id", id)
	o.text("rcode", d.RCode)
	o.millis("query_time", e.Time.Add(-max(d.Latency, 0)))
	o.millis("response_time", e.Time)
}

func (s ocsf) datastore(o *object, r *model.Request) {
	o.number("type_id", 1)
	o.begin("database")
	o.text("name", r.Resource+blank(r.Resource == "", r.Protocol))
	kind := int64(1) // relational
	if r.Protocol == "redis" {
		kind = ocsfOther
	}
	o.number("type_id", kind)
	o.end()
	o.begin("query_info")
	o.text("query_string", strings.TrimSpace(r.Method+" "+r.Resource)) // redacted: a kind and a name
	o.end()
}

// unmapped is what the schema has no place for, under vigie's names.
func (s ocsf) unmapped(o *object, e *model.Event) {
	o.begin("vigie")
	extras(o, e)
	o.end()
}

func blank(when bool, s string) string {
	if when {
		return s
	}
	return ""
}
