// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/wire"
)

// The JSON written by hand and the protobuf definition must say the same.
func TestJSONIsTheProtobufForm(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 3000 {
		e := modeltest.Event(rng, []float64{1, 0.9, 0.5}[i%3])
		line := e.AppendJSON(nil, modeltest.Boot)
		var got pb.Event
		if err := protojson.Unmarshal(line, &got); err != nil {
			t.Fatalf("event %d: %v\n%s", i, err, line)
		}
		if want := wire.ToProto(e, modeltest.Boot); !proto.Equal(&got, want) {
			t.Fatalf("event %d\n got %v\nwant %v\nline %s", i, &got, want, line)
		}
		if !json.Valid(line) || bytes.ContainsAny(line, "\n\r\x1b\x7f") {
			t.Fatalf("event %d is no clean line: %q", i, line)
		}
	}
}

func TestJSONOfAProcessIsTheProtobufForm(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for range 300 {
		p := modeltest.Event(rng, 1).Process
		var got pb.Process
		if err := protojson.Unmarshal(p.AppendJSON(nil), &got); err != nil {
			t.Fatal(err)
		}
		if want := wire.ProcessToProto(p); !proto.Equal(&got, want) {
			t.Fatalf("got %v\nwant %v", &got, want)
		}
	}
}

// What scripts rely on is there even when it is zero or empty.
func TestJSONFieldsThatAreAlwaysThere(t *testing.T) {
	e := &model.Event{Type: model.TypeExec, Time: time.Unix(1, 0), Exec: &model.Exec{},
		Process: &model.Process{Workload: &model.Workload{}}, Parent: &model.Process{ExecID: "p"}}
	var got map[string]any
	if err := json.Unmarshal(e.AppendJSON(nil, modeltest.Boot), &got); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"type", "time", "count", "process.pid", "process.binary", "process.args", "process.cwd",
		"process.uid", "process.gid", "process.euid", "process.egid", "process.parent.exec_id", "process.workload.name",
		"process.workload.kind"} {
		var v any = got
		for _, name := range strings.Split(path, ".") {
			m, _ := v.(map[string]any)
			if v = m[name]; v == nil {
				t.Errorf("%s is missing", path)
				break
			}
		}
	}
	if at := got["time"]; at != "1970-01-01T00:00:01.000000000Z" {
		t.Errorf("time is %v", at)
	}
}

func TestJSONOfAnUnknownProcessHasItsExecID(t *testing.T) {
	e := &model.Event{Type: model.TypeExit, Key: model.ProcessKey{PID: 7, Start: 8, Exec: 9}}
	if got := string(e.AppendJSON(nil, "boot")); !strings.Contains(got, `"process":{"exec_id":"boot-7-8-9","pid":7}`) {
		t.Errorf("got %s", got)
	}
}

func TestJSONEscapesWhatCouldForge(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb":           `a\nb`,
		`"},"type":"x"`:  `\"},\"type\":\"x\"`,
		`\`:              `\\`,
		"\x1b[2J\x00\a":  `\u001b[2J\u0000\u0007`,
		"\x7f\u0085":     `\u007f\u0085`,
		"\u2028\u2029":   `\u2028\u2029`,
		"\u202e\u2066":   `\u202e\u2066`,
		"\xff\xc3(":      `\\xff\\xc3(`,
		"é日😀":            "é日😀",
		"\xed\xa0\x80":   `\\xed\\xa0\\x80`, // a surrogate is no UTF-8
		"\u200f\u061cab": `\u200f\u061cab`,
	} {
		e := &model.Event{Type: model.Type(in)}
		if got := string(e.AppendJSON(nil, "")); got != `{"type":"`+want+`","count":0}` {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzJSONText(f *testing.F) {
	for _, s := range []string{"", "plain", "\xff", "\u2028", "a\"b\\c\n", "\xe2\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := &model.Event{Type: model.TypeExec, Count: 1, Process: &model.Process{CWD: s, Args: []string{s}}}
		line := e.AppendJSON(nil, "")
		if !utf8.Valid(line) {
			t.Fatalf("not UTF-8: %q", line)
		}
		for _, r := range string(line) {
			if model.Unsafe(r) {
				t.Fatalf("%q holds %U", line, r)
			}
		}
		var got struct {
			Process struct {
				CWD  string
				Args []string
			}
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if want := model.CleanString([]byte(s)); got.Process.CWD != want || got.Process.Args[0] != want {
			t.Fatalf("got %q, want %q", got.Process.CWD, want)
		}
	})
}

func TestJSONAllocatesNothing(t *testing.T) {
	e, dst := modeltest.Exec(), make([]byte, 0, 8192)
	e.Process.Workload.Labels = map[string]string{"b": "1", "a": "2"}
	e.Process.File.CapsGained = 0xff
	if n := testing.AllocsPerRun(100, func() { dst = e.AppendJSON(dst[:0], modeltest.Boot) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTextFormsComeBack(t *testing.T) {
	for _, dev := range []uint32{0, 1, 8<<20 | 1, 0xffffffff} {
		if got := model.ParseDevice(string(model.AppendDevice(nil, dev))); got != dev {
			t.Errorf("device %#x came back as %#x", dev, got)
		}
	}
	for _, mode := range []uint32{0, 0o644, 0o104755, 0xffffffff} {
		if got := model.ParseMode(string(model.AppendMode(nil, mode))); got != mode {
			t.Errorf("mode %#o came back as %#o", mode, got)
		}
	}
	for c := range 256 {
		if got, ok := model.ParseCap(model.Cap(c).String()); !ok || got != model.Cap(c) {
			t.Errorf("capability %d came back as %d, %v", c, got, ok)
		}
	}
	for _, s := range []string{"", "CAP_", "CAP_256", "chown", "21"} {
		if c, ok := model.ParseCap(s); ok {
			t.Errorf("%q is taken for capability %d", s, c)
		}
	}
	key := model.ProcessKey{PID: 1 << 31, Start: 1 << 63, Exec: 5}
	if got, boot, ok := model.ParseExecID(key.ExecID("abcd")); !ok || got != key || boot != "abcd" {
		t.Errorf("got %v %q %v", got, boot, ok)
	}
	for _, s := range []string{"", "a-b", "b-1-2", "b-1-2-3-4", "b-x-2-3", "b-100000000-2-3"} {
		if _, _, ok := model.ParseExecID(s); ok {
			t.Errorf("%q is taken for an exec_id", s)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	e, dst := modeltest.Exec(), make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		dst = e.AppendJSON(dst[:0], modeltest.Boot)
	}
	b.SetBytes(int64(len(dst)))
}
