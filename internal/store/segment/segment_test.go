// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

const testRun = 1_700_000_000_000_000_000

// sample makes an event as a host could have it: with the one part that its type names.
func sample(rng *rand.Rand, t model.Type, seq uint64, density float64) *model.Event {
	full := modeltest.Event(rng, density)
	e := &model.Event{Type: t, Time: full.Time, BootTime: full.BootTime, Seq: seq, TID: full.TID, Count: full.Count, PreExisting: full.PreExisting}
	if t != model.TypeLoss {
		e.Key, e.Process, e.Parent = full.Key, full.Process, full.Parent
	}
	if e.Process == nil && t != model.TypeLoss {
		e.Key.PID = uint32(rng.IntN(2)) * 77 // without or with nothing but a key
	}
	donor := modeltest.Event(rng, max(density, 0.5))
	for !copyPart(e, donor) {
		donor = modeltest.Event(rng, 1)
	}
	if f := e.Flow; f != nil && e.Process != nil {
		for _, end := range []*model.Endpoint{&f.Source, &f.Destination} {
			if end.Process != nil && end.Process.ExecID == e.Process.ExecID {
				end.Process = e.Process // one image is one
			}
		}
	}
	if f := e.Flow; f != nil && f.Service != nil && *f.Service == (model.Service{}) {
		f.Service = nil // a service without anything is none
	}
	return e
}

// copyPart gives e the part that its type names; false when donor has none.
func copyPart(e, donor *model.Event) bool {
	switch e.Type {
	case model.TypeExec:
		e.Exec = donor.Exec
		return e.Exec != nil
	case model.TypeExecFailed:
		e.ExecFailed = donor.ExecFailed
		return e.ExecFailed != nil
	case model.TypeExit:
		e.Exit = donor.Exit
		return e.Exit != nil
	case model.TypeFile:
		e.File = donor.File
		return e.File != nil
	case model.TypeConnect, model.TypeAccept, model.TypeListen, model.TypeClose:
		e.Socket = donor.Socket
		return e.Socket != nil
	case model.TypeDNS:
		e.DNS = donor.DNS
		return e.DNS != nil
	case model.TypeFlow:
		e.Flow = donor.Flow
		return e.Flow != nil
	case model.TypeRequest:
		e.Request = donor.Request
		return e.Request != nil
	case model.TypeLoss:
		e.Loss = donor.Loss
		return e.Loss != nil
	case model.TypeFork:
		return true
	}
	assignDetail(e, donor)
	keepOne(e)
	return string(e.AppendPartsJSON(nil)) != "{}"
}

// keepOne drops what the type does not name.
func keepOne(e *model.Event) {
	d := *e
	assignDetail(e, new(model.Event))
	switch e.Type {
	case model.TypeCredential:
		e.Credential = d.Credential
	case model.TypeNamespace:
		e.Namespace = d.Namespace
	case model.TypePtrace:
		e.Ptrace = d.Ptrace
	case model.TypeModule:
		e.Module = d.Module
	case model.TypeBPF:
		e.BPF = d.BPF
	case model.TypeMount:
		e.Mount = d.Mount
	case model.TypeCapability:
		e.Capability = d.Capability
	case model.TypeVerdict:
		e.Verdict = d.Verdict
	case model.TypeAlert:
		e.Alert = d.Alert
	case model.TypeProbe:
		e.Probe = d.Probe
	}
}

// write makes a segment of events.
func write(t testing.TB, f *Family, events []*model.Event) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(&b, f, Options{Boot: modeltest.Boot, Run: testRun, Agent: "test"}, events); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, file []byte) *Segment {
	t.Helper()
	s, err := Open(bytes.NewReader(file), int64(len(file)), Families())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readAll(s *Segment, scan Scan) (list []*model.Event, err error) {
	c := s.Scan(scan)
	defer c.Close()
	for {
		e, at, err := c.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		if at.Seq != e.Seq || at.Run != testRun {
			return list, fmt.Errorf("event %d stands at %v", e.Seq, at)
		}
		list = append(list, e)
	}
}

func TestEveryTypeComesBackWhole(t *testing.T) {
	families := Families()
	for _, typ := range model.Types() {
		f := FamilyOf(families, typ)
		if f == nil {
			t.Errorf("%s has no family", typ)
			continue
		}
		for _, density := range []float64{0, 0.3, 0.7, 1} {
			rng := rand.New(rand.NewPCG(1, uint64(density*10)))
			var events []*model.Event
			for i := range 100 {
				events = append(events, sample(rng, typ, uint64(i+1), density))
			}
			got, err := readAll(open(t, write(t, f, events)), Scan{})
			if err != nil || len(got) != len(events) {
				t.Fatalf("%s, density %v: %d of %d events, %v", typ, density, len(got), len(events), err)
			}
			for i := range events {
				want, have := string(events[i].AppendJSON(nil, modeltest.Boot)), string(got[i].AppendJSON(nil, modeltest.Boot))
				if want != have {
					t.Fatalf("%s, density %v:\n wrote %s\n read  %s", typ, density, want, have)
				}
			}
		}
	}
}

// plain makes n events of one second each, of ten workloads.
func plain(n int) []*model.Event {
	events := make([]*model.Event, n)
	for i := range events {
		p := &model.Process{Key: model.ProcessKey{PID: uint32(i%100 + 1), Start: 1, Exec: 1}, Binary: fmt.Sprintf("/usr/bin/b%d", i%100),
			Workload: &model.Workload{Kind: model.WorkloadUnit, Name: fmt.Sprintf("w%d.service", i%10)}}
		p.ExecID = p.Key.ExecID(modeltest.Boot)
		e := &model.Event{Type: model.TypeConnect, Time: time.Unix(int64(i), 0).UTC(), BootTime: uint64(i) * 1e9, Seq: uint64(i + 1), Count: 1, Key: p.Key, Process: p,
			Socket: &model.Socket{Protocol: "tcp", Cookie: uint64(i)}}
		if i%2 == 1 {
			e.Type = model.TypeClose
		}
		events[i] = e
	}
	return events
}

func network(t testing.TB) *Family { return FamilyOf(Families(), model.TypeConnect) }

func TestScans(t *testing.T) {
	const n = 3*groupRows + 1000
	events := plain(n)
	s := open(t, write(t, network(t), events))
	if s.Rows != n || s.First != (Position{testRun, 1}) || s.Last != (Position{testRun, n}) || s.Since.Unix() != 0 || s.Until.Unix() != n-1 {
		t.Fatalf("%+v", s.Info)
	}
	workload := func(name string) Test {
		return Test{Columns: []string{"workload_name", "no_such_column"}, Text: func(s string) bool { return s == name }}
	}
	for _, c := range []struct {
		name string
		scan Scan
		want func(i int, e *model.Event) bool
	}{
		{"all", Scan{}, func(int, *model.Event) bool { return true }},
		{"a time", Scan{Since: time.Unix(groupRows-10, 0), Until: time.Unix(groupRows+10, 0)},
			func(i int, _ *model.Event) bool { return i >= groupRows-10 && i < groupRows+10 }},
		{"places", Scan{From: Position{testRun, 100}, To: Position{testRun, 40000}},
			func(_ int, e *model.Event) bool { return e.Seq >= 100 && e.Seq < 40000 }},
		{"an earlier run", Scan{To: Position{testRun - 1, 1 << 40}}, func(int, *model.Event) bool { return false }},
		{"a type", Scan{Types: map[model.Type]bool{model.TypeClose: true}}, func(_ int, e *model.Event) bool { return e.Type == model.TypeClose }},
		{"a workload", Scan{Tests: []Test{workload("w3.service")}}, func(_ int, e *model.Event) bool { return e.Process.Workload.Name == "w3.service" }},
		{"no workload", Scan{Tests: []Test{workload("w33.service")}}, func(int, *model.Event) bool { return false }},
		{"a workload and a pid", Scan{Tests: []Test{workload("w3.service"), {Columns: []string{"pid"}, Number: func(n int64) bool { return n == 14 }}}},
			func(_ int, e *model.Event) bool { return e.Key.PID == 14 }},
		{"what the family lacks", Scan{Tests: []Test{{Columns: []string{"no_such_column"}}}}, func(int, *model.Event) bool { return true }},
	} {
		var want []uint64
		for i, e := range events {
			if c.want(i, e) {
				want = append(want, e.Seq)
			}
		}
		for _, reverse := range []bool{false, true} {
			c.scan.Reverse = reverse
			got, err := readAll(s, c.scan)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			var seqs []uint64
			for _, e := range got {
				seqs = append(seqs, e.Seq)
			}
			if reverse {
				slices.Reverse(seqs)
			}
			if !slices.Equal(seqs, want) {
				t.Errorf("%s, reverse %v: %d events, want %d", c.name, reverse, len(seqs), len(want))
			}
		}
	}
}

func TestMerge(t *testing.T) {
	const n = groupRows + 5000
	events := plain(n)
	f := network(t)
	var sources []*Segment
	for _, cut := range [][2]int{{0, 10}, {10, 20000}, {20000, n - 1}, {n - 1, n}} {
		sources = append(sources, open(t, write(t, f, events[cut[0]:cut[1]])))
	}
	var b bytes.Buffer
	info, err := Merge(&b, Options{Agent: "test"}, sources)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, b.Bytes())
	if info != s.Info || len(s.groups) != 2 || s.groups[0].rows != groupRows {
		t.Errorf("wrote %+v, read %+v in %d groups", info, s.Info, len(s.groups))
	}
	got, err := readAll(s, Scan{})
	if err != nil || len(got) != n {
		t.Fatalf("%d events, %v", len(got), err)
	}
	for i := range got {
		if want, have := string(events[i].AppendJSON(nil, modeltest.Boot)), string(got[i].AppendJSON(nil, modeltest.Boot)); want != have {
			t.Fatalf("event %d:\n wrote %s\n read  %s", i, want, have)
		}
	}
}

// What writing costs an event, and a segment of few events.
func BenchmarkWrite(b *testing.B) {
	events := plain(groupRows)
	f := network(b)
	for _, n := range []int{10, 1000, groupRows} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			o := Options{Boot: modeltest.Boot, Run: testRun, Packer: new(Packer)}
			for b.Loop() {
				if _, err := Write(io.Discard, f, o, events[:n]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
			b.ReportAllocs()
		})
	}
}

// What reading costs an event: rebuilt, chosen by a column, and as cells.
func BenchmarkRead(b *testing.B) {
	s := open(b, write(b, network(b), plain(groupRows)))
	for name, read := range map[string]func() error{
		"events": func() error { _, err := readAll(s, Scan{}); return err },
		"none": func() error {
			_, err := readAll(s, Scan{Tests: []Test{{Columns: []string{"workload_name"}, Text: func(s string) bool { return s == "w3" }}}})
			return err
		},
		"cells": func() error {
			return s.Cells(Scan{}, []string{"workload_name", "remote_name", "bytes_sent"}, func([][]Cell) error { return nil })
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groupRows), "ns/event")
		})
	}
}
