// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

const ocsfVersion = "1.7.0"

// The classes of OCSF in use, by class_uid.
const (
	ocsfBase      = 0
	ocsfFile      = 1001
	ocsfKernel    = 1003
	ocsfProcess   = 1007
	ocsfDetection = 2004
	ocsfNetwork   = 4001
	ocsfHTTP      = 4002
	ocsfDNS       = 4003
	ocsfDatastore = 6005
)

// ocsfOther is the activity and kind that the schema has no number for.
const ocsfOther = 99

// ocsf encodes in the form of the Open Cybersecurity Schema Framework (https://schema.ocsf.io).
type ocsf struct{ Options }

func (s ocsf) encode(dst []byte, e *model.Event) []byte {
	class, activity, name := ocsfActivity(e)
	o := &object{append(dst, '{')}
	o.number("category_uid", int64(class/1000))
	o.number("class_uid", int64(class))
	o.number("activity_id", int64(activity))
	o.number("type_uid", int64(class*100+activity))
	if activity == ocsfOther {
		o.text("activity_name", name)
	}
	o.number("time", e.Time.UnixMilli())
	if e.Count > 1 {
		o.number("count", int64(e.Count))
	}
	s.severity(o, e)
	if why := failure(e); class != ocsfDetection {
		o.number("status_id", 1+boolean(why != ""))
		o.text("status_code", why)
	}
	s.metadata(o, e)
	s.device(o)
	s.actor(o, e, class)
	s.control(o, e)
	s.parts(o, e, class)
	o.begin("unmapped")
	s.unmapped(o, e)
	o.end()
	return o.close()
}

// ocsfActivity is the class that an event belongs to and what happened in it; the name is of what has no number.
func ocsfActivity(e *model.Event) (class, activity int, name string) {
	switch {
	case e.Verdict != nil, e.Alert != nil:
		return ocsfDetection, 1, ""
	case e.File != nil:
		switch e.File.Op {
		case model.FileCreate:
			return ocsfFile, 1, ""
		case model.FileRead:
			return ocsfFile, 2, ""
		case model.FileWrite, model.FileTruncate:
			return ocsfFile, 3, ""
		case model.FileUnlink:
			return ocsfFile, 4, ""
		case model.FileRename:
			return ocsfFile, 5, ""
		case model.FileChmod, model.FileChown:
			return ocsfFile, 7, ""
		}
		return ocsfFile, ocsfOther, string(e.File.Op)
	case e.Mount != nil:
		if e.Mount.Op == "umount" {
			return ocsfFile, 13, ""
		}
		return ocsfFile, 12, ""
	case e.Socket != nil && e.Socket.Family == "unix":
		return ocsfKernel, ocsfOther, "unix socket " + string(e.Type)
	case e.Socket != nil, e.Flow != nil:
		return ocsfNetwork, networkActivity(e), ""
	case e.DNS != nil:
		if e.DNS.RCode != "" {
			return ocsfDNS, 6, "" // both the question and its answer
		}
		return ocsfDNS, 1, ""
	case e.Request != nil:
		return requestActivity(e.Request)
	}
	switch e.Type {
	case model.TypeExec, model.TypeExecFailed, model.TypeFork:
		return ocsfProcess, 1, ""
	case model.TypeExit:
		return ocsfProcess, 2, ""
	case model.TypePtrace:
		return ocsfProcess, 4, ""
	case model.TypeCredential:
		return ocsfProcess, 5, ""
	case model.TypeNamespace, model.TypeCapability, model.TypeBPF, model.TypeModule, model.TypeProbe:
		return ocsfKernel, 4, ""
	}
	return ocsfBase, ocsfOther, string(e.Type)
}

func networkActivity(e *model.Event) int {
	if f := e.Flow; f != nil {
		switch {
		case f.State == model.FlowOpen && f.Report <= 1:
			return 1
		case f.State == model.FlowOpen:
			return 6
		case f.Close == model.CloseRefused, f.Close == model.CloseDenied:
			return 5
		case f.Close == model.CloseReset:
			return 3
		case f.Verdict == model.FlowFailed:
			return 4
		}
		return 2
	}
	switch {
	case e.Type == model.TypeListen:
		return 7
	case e.Type == model.TypeClose:
		return 2
	case e.Socket.Error != 0:
		return 4
	}
	return 1
}

func requestActivity(r *model.Request) (class, activity int, name string) {
	switch r.Protocol {
	case "http", "grpc":
		methods := []string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH"}
		method := r.Method
		if r.Protocol == "grpc" {
			method = "POST"
		}
		for i, m := range methods {
			if m == method {
				return ocsfHTTP, i + 1, ""
			}
		}
		return ocsfHTTP, ocsfOther, r.Method
	case "kafka":
		return ocsfNetwork, 6, ""
	}
	switch verb := strings.ToUpper(r.Method); verb {
	case "SELECT", "GET", "MGET", "HGET", "HGETALL":
		return ocsfDatastore, 1, ""
	case "UPDATE":
		return ocsfDatastore, 2, ""
	case "INSERT", "SET", "MSET", "HSET", "COPY":
		return ocsfDatastore, 5, ""
	case "CREATE":
		return ocsfDatastore, 6, ""
	case "DELETE", "DEL":
		return ocsfDatastore, 7, ""
	}
	return ocsfDatastore, 4, ""
}

func (s ocsf) severity(o *object, e *model.Event) {
	id := int64(1)
	switch {
	case e.Alert != nil:
		for i, x := range model.Severities() {
			if x == e.Alert.Severity {
				id = int64(i + 1)
			}
		}
	case e.Verdict != nil && e.Verdict.Action != model.VerdictAudited:
		id = 3
	case e.Verdict != nil, e.Loss != nil:
		id = 2
	}
	o.number("severity_id", id)
}

func (s ocsf) metadata(o *object, e *model.Event) {
	o.begin("metadata")
	o.text("version", ocsfVersion)
	o.begin("product")
	o.text("name", "vigie")
	o.text("vendor_name", "vigie")
	o.text("version", s.Version)
	o.end()
	o.text("event_code", string(e.Type))
	o.some("sequence", e.Seq)
	profiles := []string{"host"}
	if e.Verdict != nil || e.Flow != nil && e.Flow.Policy != "" {
		profiles = append(profiles, "security_control")
	}
	o.texts("profiles", profiles)
	o.end()
}

func (s ocsf) device(o *object) {
	o.begin("device")
	o.number("type_id", 0)
	o.text("hostname", s.Host)
	o.begin("os")
	o.text("name", "Linux")
	o.number("type_id", 200)
	o.text("kernel_release", s.Kernel)
	o.end()
	o.end()
}

// actor is who did it: the process, or, of one that came to be or ended, its parent.
func (s ocsf) actor(o *object, e *model.Event, class int) {
	p, parent := e.Process, e.Parent
	if class == ocsfProcess && e.Type != model.TypePtrace && e.Type != model.TypeCredential {
		p, parent = e.Parent, nil
	}
	o.begin("actor")
	switch {
	case p != nil:
		o.begin("process")
		s.process(o, p, parent)
		o.end()
	case class == ocsfProcess && e.Process != nil && e.Process.ParentExecID != "":
		o.begin("process")
		o.some("pid", uint64(e.Process.ParentKey.PID))
		o.text("uid", e.Process.ParentExecID)
		o.end()
	case !e.Key.IsZero() && e.Process == nil:
		o.begin("process")
		o.number("pid", int64(e.Key.PID))
		o.text("uid", e.Key.ExecID(s.Boot))
		o.end()
	default:
		o.text("app_name", "vigie") // the schema wants an actor; this one only saw
	}
	o.end()
}

// process writes what is known of a process.
func (s ocsf) process(o *object, p, parent *model.Process) {
	o.number("pid", int64(p.Key.PID))
	o.text("uid", p.ExecID)
	o.text("name", base(p.Binary))
	o.text("path", p.Binary)
	o.text("cmd_line", commandLine(p.Args))
	o.text("working_directory", p.CWD)
	o.millis("created_time", p.StartTime)
	o.millis("terminated_time", p.EndTime)
	if p.Binary != "" {
		o.begin("file")
		o.text("name", base(p.Binary))
		o.text("path", p.Binary)
		o.number("type_id", 1)
		o.end()
	}
	if p.CgroupID != 0 || p.Workload != nil || !p.StartTime.IsZero() { // of a short form nothing is known
		o.begin("user")
		o.text("uid", strconv.Itoa(int(p.Creds.EUID)))
		o.end()
	}
	if w := p.Workload; w != nil && (w.Kind == model.WorkloadContainer || w.Kind == model.WorkloadPod) {
		o.begin("container")
		s.container(o, w)
		o.end()
	}
	if parent != nil {
		o.begin("parent_process")
		s.process(o, parent, nil)
		o.end()
	}
}

func (s ocsf) container(o *object, w *model.Workload) {
	o.text("uid", w.ID)
	o.text("name", w.Name)
	if w.Kind == model.WorkloadPod {
		o.text("orchestrator", "kubernetes")
		o.text("pod_uuid", w.PodUID)
	}
	o.text("runtime", w.Runtime)
	if w.Image != "" {
		o.begin("image")
		o.text("uid", w.Image)
		o.text("name", w.Image)
		o.end()
	}
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
