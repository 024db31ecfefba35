// SPDX-License-Identifier: Apache-2.0

// Package encoding puts events into words that others understand: JSON objects in vigie's own form, in that of the Open
// Cybersecurity Schema Framework (OCSF 1.7.0) and in that of the Elastic Common Schema (ECS 9.4.0). In: an event. Out: one
// line of JSON. docs/exports.md has the tables; what a schema has no word for stands beside its fields under "vigie".
package encoding

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
)

// The encodings.
const (
	Vigie = "vigie"
	OCSF  = "ocsf"
	ECS   = "ecs"
)

// Names lists the encodings.
func Names() []string { return []string{Vigie, OCSF, ECS} }

// Options say of which agent the events are.
type Options struct {
	Boot    string // the beginning of the boot id, as exec_ids carry it
	Host    string
	Kernel  string // release
	Version string
}

// New returns the encoder of that name; vigie's own when it is empty.
func New(name string, o Options) (export.Encoder, error) {
	switch name {
	case "", Vigie:
		return func(dst []byte, e *model.Event) []byte { return e.AppendJSON(dst, o.Boot) }, nil
	case OCSF:
		return ocsf{o}.encode, nil
	case ECS:
		return ecs{o}.encode, nil
	}
	return nil, fmt.Errorf("%q is no encoding; use %s", name, strings.Join(Names(), ", "))
}

// object writes one JSON object. Names are not escaped. What is empty or zero is left out, but for number, texts and flag.
type object struct{ b []byte }

func (o *object) name(name string) {
	if name != "" { // of a list's elements
		o.b = append(append(append(o.b, '"'), name...), '"', ':')
	}
}

func (o *object) begin(name string) { o.name(name); o.b = append(o.b, '{') }

// end closes an object; one that stayed empty is taken back, with its name.
func (o *object) end() {
	if n := len(o.b); o.b[n-1] == ',' {
		o.b[n-1] = '}'
		o.b = append(o.b, ',')
		return
	}
	o.takeBack()
}

func (o *object) beginList(name string) { o.name(name); o.b = append(o.b, '[') }

func (o *object) endList() {
	if n := len(o.b); o.b[n-1] == ',' {
		o.b[n-1] = ']'
		o.b = append(o.b, ',')
		return
	}
	o.takeBack()
}

// takeBack removes a bracket that nothing stands behind, and the name before it.
func (o *object) takeBack() {
	o.b = o.b[:len(o.b)-1]
	if n := len(o.b); n > 0 && o.b[n-1] == ':' {
		quote := bytes.LastIndexByte(o.b[:n-2], '"')
		o.b = o.b[:quote]
	}
}

func (o *object) text(name, s string) {
	if s != "" {
		o.name(name)
		o.b = append(model.AppendJSONText(o.b, s), ',')
	}
}

func (o *object) texts(name string, list []string) {
	o.beginList(name)
	for _, s := range list {
		o.b = append(model.AppendJSONText(o.b, s), ',')
	}
	o.endList()
}

func (o *object) number(name string, n int64) {
	o.name(name)
	o.b = append(strconv.AppendInt(o.b, n, 10), ',')
}

func (o *object) some(name string, n uint64) {
	if n != 0 {
		o.number(name, int64(min(n, 1<<63-1)))
	}
}

func (o *object) flag(name string, v bool) {
	o.name(name)
	o.b = append(strconv.AppendBool(o.b, v), ',')
}

func (o *object) time(name string, t time.Time) {
	if !t.IsZero() {
		o.text(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// millis is a time as OCSF has it.
func (o *object) millis(name string, t time.Time) {
	if !t.IsZero() {
		o.number(name, t.UnixMilli())
	}
}

// close ends the outermost object.
func (o *object) close() []byte {
	if n := len(o.b); o.b[n-1] == ',' {
		o.b = o.b[:n-1]
	}
	return append(o.b, '}')
}

// base is the last part of a path, or the path itself where that is empty.
func base(path string) string {
	if name := path[strings.LastIndexByte(path, '/')+1:]; name != "" {
		return name
	}
	return path
}

// commandLine is what was called, as a person would type it.
func commandLine(args []string) string { return strings.Join(args, " ") }

// failure is how what an event tells of went wrong; empty when it did not.
func failure(e *model.Event) string {
	var err model.Errno
	switch {
	case e.ExecFailed != nil:
		err = e.ExecFailed.Error
	case e.Credential != nil:
		err = e.Credential.Error
	case e.Namespace != nil:
		err = e.Namespace.Error
	case e.Ptrace != nil:
		err = e.Ptrace.Error
	case e.Module != nil:
		err = e.Module.Error
	case e.BPF != nil:
		err = e.BPF.Error
	case e.Mount != nil:
		err = e.Mount.Error
	case e.File != nil:
		err = e.File.Error
	case e.Socket != nil:
		err = e.Socket.Error
	case e.Flow != nil:
		if err = e.Flow.Error; err == 0 && e.Flow.Verdict == model.FlowFailed {
			return string(e.Flow.Close)
		}
	case e.DNS != nil:
		if e.DNS.Timeout {
			return "timeout"
		}
		if e.DNS.RCode != "NOERROR" {
			return e.DNS.RCode
		}
	case e.Request != nil:
		switch r := e.Request; {
		case r.NoAnswer:
			return "no answer"
		case r.Failed && r.StatusText != "":
			return r.StatusText
		case r.Failed:
			return strconv.Itoa(int(r.Status))
		}
	case e.Capability != nil:
		if !e.Capability.Granted {
			return "EPERM"
		}
	}
	return err.String()
}
