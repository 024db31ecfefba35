// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// Names of columns that reading goes by.
const (
	ColumnType = "type"
	ColumnTime = "time"
	ColumnRun  = "run"
	ColumnSeq  = "seq"
)

func eventPart(e *model.Event, _ bool) *model.Event { return e }

func processPart(e *model.Event, make bool) *model.Process { return ensure(&e.Process, make) }

func parentPart(e *model.Event, make bool) *model.Process { return ensure(&e.Parent, make) }

func credsPart(e *model.Event, make bool) *model.Creds {
	if p := processPart(e, make); p != nil {
		return &p.Creds
	}
	return nil
}

func workloadPart(e *model.Event, make bool) *model.Workload {
	if p := processPart(e, make); p != nil {
		return ensure(&p.Workload, make)
	}
	return nil
}

// ensure is what p points to, made if it has to be.
func ensure[P any](p **P, make bool) *P {
	if *p == nil && make {
		*p = new(P)
	}
	return *p
}

// commonColumns are the columns of every family.
func commonColumns() []Column {
	return []Column{
		text(ColumnType, eventPart, func(e *model.Event) *model.Type { return &e.Type }, "Event type"),
		packed(moment(ColumnTime, eventPart, func(e *model.Event) *time.Time { return &e.Time }, "When it happened, UTC")),
		{Name: "booted_at", Doc: "When the host had booted, by the wall clock of that moment: time - booted_at orders events across steps of the clock",
			kind: kindTime,
			write: func(r *row) parquet.Value {
				if r.BootTime == 0 {
					return parquet.Value{}
				}
				return parquet.Int64Value(nanos(r.Time) - int64(r.BootTime))
			},
			read: func(e *model.Event, v *value) { e.BootTime = uint64(nanos(e.Time) - v.number) }},
		{Name: ColumnRun, Doc: "When the agent had started that saw it: names the run of the agent. run and seq together are the key of a row", kind: kindTime,
			packed: true,
			write:  func(r *row) parquet.Value { return parquet.Int64Value(r.run) },
			read:   func(*model.Event, *value) {}},
		number(ColumnSeq, eventPart, func(e *model.Event) *uint64 { return &e.Seq }, "Number of the event in this run of the agent, from 1"),
		number("tid", eventPart, func(e *model.Event) *uint32 { return &e.TID }, "The thread; 0 when it is unknown"),
		number("count", eventPart, func(e *model.Event) *uint32 { return &e.Count }, "How many identical things the row stands for"),
		boolean("pre_existing", eventPart, func(e *model.Event) *bool { return &e.PreExisting }, "Found when the agent started, not seen happening"),
	}
}

// nanos is the time in nanoseconds since 1970, 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// processColumns say who it was. The context comes first: it makes the process.
func processColumns() []Column {
	creds := func(name string, at func(*model.Creds) *uint32, doc string) Column {
		return derived(number(name, credsPart, at, doc))
	}
	workload := func(name string, at func(*model.Workload) *string, doc string) Column {
		return derived(text(name, workloadPart, at, doc))
	}
	return []Column{
		object("process_context", func(r *row) string {
			if r.process == nil {
				return ""
			}
			return r.process.context
		}, decodeContext, func(e *model.Event, shared any) {
			p := *shared.(*model.Process)
			e.Process = &p
		}, "Credentials, capabilities, namespaces, executable file, cgroup and the whole workload, as in docs/events.md"),
		{Name: "exec_id", Doc: "The process image, as in docs/events.md", kind: kindText,
			write: func(r *row) parquet.Value { return textValue(r.execID) },
			read: func(e *model.Event, v *value) {
				e.Key, _, _ = model.ParseExecID(v.text)
				if e.Process != nil {
					e.Process.ExecID, e.Process.Key = v.text, e.Key
				}
			}},
		derived(number("pid", eventPart, func(e *model.Event) *uint32 { return &e.Key.PID }, "The process, in the root pid namespace")),
		text("process_binary", processPart, func(p *model.Process) *string { return &p.Binary }, "Path of the executable file"),
		object("process_args", func(r *row) string {
			if r.process == nil {
				return ""
			}
			return r.process.args
		}, decodeTexts, func(e *model.Event, list any) { processPart(e, true).Args = list.([]string) }, "argv, a list"),
		boolean("process_args_truncated", processPart, func(p *model.Process) *bool { return &p.ArgsTruncated }, "process_args is the beginning of a longer list"),
		text("cwd", processPart, func(p *model.Process) *string { return &p.CWD }, "Working directory"),
		text("tty", processPart, func(p *model.Process) *string { return &p.TTY }, "Controlling terminal"),
		moment("process_start", processPart, func(p *model.Process) *time.Time { return &p.StartTime }, "When the process began"),
		moment("process_end", processPart, func(p *model.Process) *time.Time { return &p.EndTime }, "When it ended, where that was known"),
		boolean("process_pre_existing", processPart, func(p *model.Process) *bool { return &p.PreExisting }, "It was there before the agent"),
		boolean("forked", processPart, func(p *model.Process) *bool { return &p.Forked }, "It shares its parent's image and has not called exec"),
		boolean("kernel_thread", processPart, func(p *model.Process) *bool { return &p.KernelThread }, "It has no user memory and no binary"),
		{Name: "parent_exec_id", Doc: "The parent's image", kind: kindText,
			write: func(r *row) parquet.Value {
				switch {
				case r.Parent != nil:
					return textValue(r.Parent.ExecID)
				case r.Process != nil:
					return textValue(r.Process.ParentExecID)
				}
				return parquet.Value{}
			},
			read: func(e *model.Event, v *value) {
				p := processPart(e, true)
				p.ParentExecID = v.text
				p.ParentKey, _, _ = model.ParseExecID(v.text)
			}},
		text("parent_binary", parentPart, func(p *model.Process) *string { return &p.Binary }, "The parent's executable file"),
		object("parent_args", func(r *row) string { return r.parent }, decodeTexts,
			func(e *model.Event, list any) { parentPart(e, true).Args = list.([]string) }, "The parent's argv, a list"),
		creds("uid", func(c *model.Creds) *uint32 { return &c.UID }, "Real user id"),
		creds("gid", func(c *model.Creds) *uint32 { return &c.GID }, "Real group id"),
		creds("euid", func(c *model.Creds) *uint32 { return &c.EUID }, "Effective user id"),
		derived(text("workload_kind", workloadPart, func(w *model.Workload) *model.WorkloadKind { return &w.Kind },
			"unit, session, container, pod, process, kernel or unknown")),
		workload("workload_name", func(w *model.Workload) *string { return &w.Name }, "What a person calls it: nginx.service, a container's or pod's name"),
		workload("workload_namespace", func(w *model.Workload) *string { return &w.Namespace }, "Kubernetes namespace"),
		workload("workload_id", func(w *model.Workload) *string { return &w.ID }, "Container id or cgroup path"),
		workload("container", func(w *model.Workload) *string { return &w.Container }, "Container of a pod"),
		workload("image", func(w *model.Workload) *string { return &w.Image }, "Image of a container"),
	}
}

// settleParent completes what the parent's columns left: a parent with a binary is the one that the process names.
func settleParent(e *model.Event) {
	if e.Parent != nil && e.Process != nil {
		e.Parent.ExecID, e.Parent.Key = e.Process.ParentExecID, e.Process.ParentKey
	}
}
