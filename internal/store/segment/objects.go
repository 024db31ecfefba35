// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// What is a list or a nest of fields is JSON in the names of docs/events.md: a text of which there are few different
// ones costs a column one small number a row, however long it is.

// processTexts are the texts of a process image.
type processTexts struct {
	args    string
	context string
}

// contextKey is all that AppendContextJSON reads of a process.
type contextKey struct {
	creds      model.Creds
	namespaces model.Namespaces
	file       model.ExecFile
	cgroup     uint64
	hierarchy  uint32
	workload   *model.Workload
}

// texts makes the texts of events that are written together, each of them once.
type texts struct {
	processes map[*model.Process]*processTexts
	contexts  map[contextKey]string
	workloads map[*model.Workload]string
	boot      string
	buf       []byte
}

func newTexts(boot string) *texts {
	return &texts{processes: make(map[*model.Process]*processTexts), contexts: make(map[contextKey]string),
		workloads: make(map[*model.Workload]string), boot: boot}
}

func (t *texts) process(p *model.Process) *processTexts {
	if p == nil {
		return nil
	}
	if got := t.processes[p]; got != nil {
		return got
	}
	key := contextKey{p.Creds, p.Namespaces, p.File, p.CgroupID, p.CgroupHierarchy, p.Workload}
	context, ok := t.contexts[key]
	if !ok {
		t.buf = p.AppendContextJSON(t.buf[:0])
		context = string(t.buf)
		t.contexts[key] = context
	}
	got := &processTexts{args: textsJSON(p.Args), context: context}
	t.processes[p] = got
	return got
}

func (t *texts) args(p *model.Process) string {
	if p == nil {
		return ""
	}
	return t.process(p).args
}

func (t *texts) workload(w *model.Workload) string {
	if w == nil {
		return ""
	}
	s, ok := t.workloads[w]
	if !ok {
		t.buf = w.AppendJSON(t.buf[:0])
		s = string(t.buf)
		t.workloads[w] = s
	}
	return s
}

// row prepares an event.
func (t *texts) row(e *model.Event, run int64, f *Family) row {
	r := row{Event: e, run: run, texts: t, process: t.process(e.Process), parent: t.args(e.Parent)}
	switch {
	case e.Process != nil:
		r.execID = e.Process.ExecID
	case !e.Key.IsZero():
		r.execID = e.Key.ExecID(t.boot)
	}
	if f.detail {
		t.buf = e.AppendPartsJSON(t.buf[:0])
		r.detail = string(t.buf)
	}
	return r
}

// textsJSON is a list of texts as JSON; empty for none.
func textsJSON(list []string) string {
	if len(list) == 0 {
		return ""
	}
	b, _ := json.Marshal(list) // texts always can be
	return string(b)
}

func decodeTexts(s string) (any, error) {
	var list []string
	err := json.Unmarshal([]byte(s), &list)
	return list, err
}

// decodeContext makes a process that has nothing but what its siblings share.
func decodeContext(s string) (any, error) {
	m := new(pb.Process)
	if err := parse(s, m); err != nil {
		return nil, err
	}
	return wire.ProcessFromProto(m), nil
}

func decodeWorkload(s string) (any, error) {
	m := new(pb.Workload)
	if err := parse(s, m); err != nil {
		return nil, err
	}
	return wire.WorkloadFromProto(m), nil
}

// decodeDetail makes an event that has nothing but its parts.
func decodeDetail(s string) (any, error) {
	m := new(pb.Event)
	if err := parse(s, m); err != nil {
		return nil, err
	}
	return wire.FromProto(m), nil
}

func parse(s string, m proto.Message) error {
	// An agent that is younger may have written fields that are not known here.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(s), m); err != nil {
		return fmt.Errorf("read %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// answer is a record of a DNS answer.
type answer struct {
	Type string `json:"type,omitempty"`
	Data string `json:"data,omitempty"`
	TTL  uint32 `json:"ttl,omitempty"` // seconds
}

func answersJSON(list []model.DNSAnswer) string {
	if len(list) == 0 {
		return ""
	}
	out := make([]answer, len(list))
	for i, a := range list {
		out[i] = answer{a.Type, a.Data, uint32(a.TTL / time.Second)}
	}
	b, _ := json.Marshal(out) // texts and numbers always can be
	return string(b)
}

func decodeAnswers(s string) (any, error) {
	var in []answer
	if err := json.Unmarshal([]byte(s), &in); err != nil {
		return nil, err
	}
	list := make([]model.DNSAnswer, len(in))
	for i, a := range in {
		list[i] = model.DNSAnswer{Type: a.Type, Data: a.Data, TTL: time.Duration(a.TTL) * time.Second}
	}
	return list, nil
}
