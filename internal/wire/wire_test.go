// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/wire"
)

// A field of the model that wire forgets makes this fail, since modeltest fills all there are.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		density := []float64{1, 0.9, 0.5}[i%3]
		want := modeltest.Event(rng, density)
		b, err := proto.Marshal(wire.ToProto(want, modeltest.Boot))
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		var m pb.Event
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatalf("unmarshal: %v", err)
		}
		if got := wire.FromProto(&m); !reflect.DeepEqual(got, want) {
			t.Fatalf("event %d came back different at %s", i, difference(reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem(), "Event"))
		}
	}
}

// Every field of every message must be filled by a full event: one that is not is dead or forgotten.
func TestNoFieldOfTheAPIStaysEmpty(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	filled := make(map[string]bool)
	for range 50 {
		collect(reflect.ValueOf(wire.ToProto(modeltest.Event(rng, 1), modeltest.Boot)), "Event", filled)
	}
	for path, ok := range filled {
		if !ok {
			t.Errorf("%s is never set", path)
		}
	}
}

func collect(v reflect.Value, path string, filled map[string]bool) {
	m, ok := v.Interface().(proto.Message)
	if !ok {
		return
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := path + "." + string(f.Name())
		has := m.ProtoReflect().Has(f)
		filled[name] = filled[name] || has
		if !has || f.Message() == nil || f.IsMap() || f.Message().ParentFile().Package() != "vigie.v1" {
			continue
		}
		if f.IsList() {
			for j := range m.ProtoReflect().Get(f).List().Len() {
				collect(reflect.ValueOf(m.ProtoReflect().Get(f).List().Get(j).Message().Interface()), name, filled)
			}
			continue
		}
		collect(reflect.ValueOf(m.ProtoReflect().Get(f).Message().Interface()), name, filled)
	}
}

func TestUnknownProcessKeepsItsKey(t *testing.T) {
	e := &model.Event{Type: model.TypeExit, Key: model.ProcessKey{PID: 7, Start: 8, Exec: 9}, Exit: &model.Exit{Code: 1}}
	m := wire.ToProto(e, modeltest.Boot)
	if m.Process.GetExecId() != e.Key.ExecID(modeltest.Boot) || m.Process.GetPid() != 7 {
		t.Fatalf("process is %v", m.Process)
	}
	if got := wire.FromProto(m); got.Key != e.Key {
		t.Errorf("key is %v, want %v", got.Key, e.Key)
	}
}

func TestTextThatIsNotUTF8CanBeSent(t *testing.T) {
	e := &model.Event{Type: model.TypeFile, File: &model.File{Path: "/tmp/\xff\n"},
		Process: &model.Process{Args: []string{"ok", "\xfe"}}}
	m := wire.ToProto(e, modeltest.Boot)
	if _, err := proto.Marshal(m); err != nil {
		t.Fatalf("marshal: %v", err)
	}
	if m.File.Path != "/tmp/\\xff\n" || m.Process.Args[1] != "\\xfe" || e.Process.Args[1] != "\xfe" {
		t.Errorf("got path %q and args %q", m.File.Path, m.Process.Args)
	}
}

func FuzzFromProto(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 10 {
		b, err := proto.Marshal(wire.ToProto(modeltest.Event(rng, 0.7), modeltest.Boot))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.Event
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		// Whatever came in, what goes out again is stable.
		once := wire.FromProto(&m)
		twice := wire.FromProto(wire.ToProto(once, modeltest.Boot))
		if !proto.Equal(wire.ToProto(once, modeltest.Boot), wire.ToProto(twice, modeltest.Boot)) {
			t.Errorf("not stable: %v", once)
		}
	})
}

func BenchmarkToProto(b *testing.B) {
	e := modeltest.Exec()
	b.ReportAllocs()
	for b.Loop() {
		wire.ToProto(e, modeltest.Boot)
	}
}

// difference names the first field in which a and b differ.
func difference(a, b reflect.Value, path string) string {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return ""
	}
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		return difference(a.Elem(), b.Elem(), path)
	}
	if a.Kind() == reflect.Struct && a.NumField() > 0 && a.Type().PkgPath() == reflect.TypeFor[model.Event]().PkgPath() {
		for i := range a.NumField() {
			if d := difference(a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name); d != "" {
				return d
			}
		}
	}
	return path + ": got " + format(a) + ", want " + format(b)
}

func format(v reflect.Value) string { return fmt.Sprintf("%#v", v.Interface()) }
