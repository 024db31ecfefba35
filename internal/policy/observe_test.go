// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

// TestFilesAreObserved: what an event of a file says of read, write and modify.
func TestFilesAreObserved(t *testing.T) {
	for _, c := range []struct {
		file model.File
		want string
	}{
		{model.File{Op: model.FileRead, Path: "/a"}, "read /a"},
		{model.File{Op: model.FileRead, Path: "/a (deleted)"}, "read /a"},
		{model.File{Op: model.FileRead, Path: "/a", FileType: "directory"}, ""},
		{model.File{Op: model.FileRead, Path: "/a", Error: 13}, ""},
		{model.File{Op: model.FileRead, Path: "anon:[7]"}, ""},
		{model.File{Op: model.FileWrite, Path: "/a", Flags: 1}, "write /a"},
		{model.File{Op: model.FileWrite, Path: "/a", Flags: oRdWr}, "write /a, read /a"},
		{model.File{Op: model.FileCreate, Path: "/a", Flags: 1 | oCreat}, "write /a"},
		{model.File{Op: model.FileCreate, Path: "/a", Flags: oRdWr | oCreat}, "write /a, read /a"},
		{model.File{Op: model.FileCreate, Path: "/a", FileType: "directory"}, "modify /a"},
		{model.File{Op: model.FileCreate, Path: "/memfd:x"}, ""},
		{model.File{Op: model.FileTruncate, Path: "/a", Flags: 1 | oTrunc, PathFrom: "object"}, "write /a"},
		{model.File{Op: model.FileTruncate, Path: "/a", PathFrom: "argument"}, "write /a"},
		{model.File{Op: model.FileTruncate, Path: "/a", PathFrom: "object"}, ""},
		{model.File{Op: model.FileRename, Path: "/a", NewPath: "/b"}, "modify /a, modify /b"},
		{model.File{Op: model.FileLink, Path: "/a", NewPath: "/b"}, "modify /a, modify /b"},
		{model.File{Op: model.FileUnlink, Path: "/a"}, "modify /a"},
		{model.File{Op: model.FileChmod, Path: "/a"}, "modify /a"},
	} {
		got := observed(&model.Event{Type: model.TypeFile, Process: &model.Process{Binary: "/x"}, File: &c.file})
		if got != c.want {
			t.Errorf("%+v is %q, not %q", c.file, got, c.want)
		}
	}
}

func observed(ev *model.Event) string {
	var out []string
	for _, o := range newLineage(nil).observe(ev) {
		out = append(out, string(o.Access.Operation)+" "+o.Object)
	}
	return strings.Join(out, ", ")
}

func TestPeculiarExecsAreObserved(t *testing.T) {
	for _, c := range []struct {
		process model.Process
		pre     bool
		want    string
	}{
		{model.Process{Binary: "/bin/a"}, false, "exec /bin/a"},
		{model.Process{Binary: "/bin/a"}, true, ""},
		{model.Process{Binary: "/bin/a (deleted)"}, false, "exec /bin/a"},
		{model.Process{Binary: "/memfd:x (deleted)", File: model.ExecFile{Memfd: true}}, false, "exec /memfd:x"},
		{model.Process{Binary: "memfd:x", File: model.ExecFile{Memfd: true}}, false, "exec /memfd:x"},
		{model.Process{Binary: "/bin/sh", CWD: "/srv", File: model.ExecFile{Script: "./run.sh"}}, false, "exec /bin/sh, exec /srv/run.sh"},
		{model.Process{Binary: "[kworker]", KernelThread: true}, false, ""},
	} {
		if got := observed(&model.Event{Type: model.TypeExec, Process: &c.process, Exec: &model.Exec{}, PreExisting: c.pre}); got != c.want {
			t.Errorf("%s is %q, not %q", c.process.Binary, got, c.want)
		}
	}
}

// TestVerdictsAreObserved: a verdict is judged as what was tried.
func TestVerdictsAreObserved(t *testing.T) {
	table := mustCompile(t, header+`  selector: {}
  files: {deny: [/f]}
  processes: {deny: [/e]}
  network: {egress: {deny: [{to: {fqdn: a.org}}]}, ingress: {deny: [{ports: 80/tcp}]}, listen: {deny: [{ports: 81/tcp}]}}
  capabilities: {deny: [CAP_BPF]}
  operations: {deny: [mount]}
`)
	for want, v := range map[string]model.Verdict{
		"files.deny[0]":           {Operation: model.OpWrite, Path: "/f"},
		"processes.deny[0]":       {Operation: model.OpExec, Path: "/e"},
		"network.egress.deny[0]":  {Operation: model.OpConnect, Protocol: "tcp", RemoteName: "a.org"},
		"network.ingress.deny[0]": {Operation: model.OpAccept, Protocol: "tcp", Local: addrPort("10.0.0.1:80"), Remote: addrPort("10.0.0.2:9")},
		"network.listen.deny[0]":  {Operation: model.OpBind, Protocol: "tcp", Local: addrPort("10.0.0.1:81")},
		"network.egress.deny":     {Operation: model.OpSocket, Subject: "raw"},
		"capabilities.deny[0]":    {Operation: model.OpCapability, Subject: "CAP_BPF"},
		"operations.deny[0]":      {Operation: model.OpMount, Subject: "/mnt"},
	} {
		ev := &model.Event{Type: model.TypeVerdict, Process: &model.Process{Binary: "/x"}, Verdict: &v}
		s := Simulate([]*Table{table}, slices.Values([]*model.Event{ev}), nil)
		if len(s.Denials) != 1 || s.Denials[0].Rule != want {
			t.Errorf("%+v is denied by %+v, not by %s", v, s.Denials, want)
		}
	}
}

// TestAnyEventCanBeJudged: no event breaks what reads histories, also none that no agent makes.
func TestAnyEventCanBeJudged(t *testing.T) {
	tables := []*Table{mustCompile(t, everything[strings.Index(everything, "\n---\n"):strings.LastIndex(everything, "---")]), mustCompile(t, header+"  selector: {}\n  files: {allow: []}\n  processes: {allow: []}\n")}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var events []*model.Event
		for range 20 {
			events = append(events, modeltest.Event(rng, []float64{0.1, 0.5, 1}[rng.IntN(3)]))
		}
		Simulate(tables, slices.Values(events), nil)
		for _, ev := range events {
			for _, x := range Explain(tables, ev, nil) {
				if x.Reason == "" {
					t.Fatalf("%+v without a reason", x)
				}
			}
			if ev.Process == nil || ev.Process.Workload == nil {
				continue
			}
			_, err := Learn(slices.Values(events), LearnOptions{Workload: ev.Process.Workload.Name})
			if err != nil && !errors.Is(err, ErrNothingLearned) {
				t.Fatal(err)
			}
		}
	}
}
