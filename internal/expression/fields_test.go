// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/wire"
)

// A field that is added to the API and not here fails this, and one that the API lost too.
func TestFieldsAreThoseOfTheAPI(t *testing.T) {
	left := messages()
	var visit func(d protoreflect.MessageDescriptor)
	visit = func(d protoreflect.MessageDescriptor) {
		name := string(d.Name())
		fields, ok := left[name]
		if d.ParentFile().Package() != "vigie.v1" || !ok {
			return
		}
		delete(left, name)
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			have, ok := fields[string(f.Name())]
			if !ok {
				t.Errorf("%s.%s has no getter", name, f.Name())
			}
			delete(fields, string(f.Name()))
			if f.Message() != nil && !f.IsMap() && f.Message().ParentFile().Package() == "vigie.v1" {
				if have.message != string(f.Message().Name()) {
					t.Errorf("%s.%s is a %q, the API says %s", name, f.Name(), have.message, f.Message().Name())
				}
				visit(f.Message())
			}
		}
		for extra := range fields {
			t.Errorf("%s.%s is not in the API", name, extra)
		}
	}
	visit((&pb.Event{}).ProtoReflect().Descriptor())
	for extra := range left {
		t.Errorf("message %s is not in the API", extra)
	}
}

// paths lists an expression for every value that can be reached from a message.
func paths(prefix string, d protoreflect.MessageDescriptor, depth int) []string {
	var out []string
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		at := prefix + "." + string(f.Name())
		out = append(out, "has("+at+")")
		switch {
		case f.Message() == nil, f.IsMap(), f.Message().FullName() == "google.protobuf.Timestamp":
			out = append(out, at)
		case f.IsList():
			for j := range f.Message().Fields().Len() {
				if e := f.Message().Fields().Get(j); e.Message() == nil {
					out = append(out, fmt.Sprintf("%s.map(e, e.%s)", at, e.Name()))
				}
			}
		case depth > 0:
			out = append(out, paths(at, f.Message(), depth-1)...)
		}
	}
	return out
}

// What CEL reads from the model is what it reads from the protobuf of the same event.
func TestReadsWhatTheAPIShows(t *testing.T) {
	l, err := New(Definitions{})
	if err != nil {
		t.Fatal(err)
	}
	reference, err := cel.NewEnv(cel.Types(&pb.Event{}), cel.Variable("event", cel.ObjectType("vigie.v1.Event")))
	if err != nil {
		t.Fatal(err)
	}
	type both struct {
		source       string
		ours, theirs cel.Program
	}
	var programs []both
	for _, source := range paths("event", (&pb.Event{}).ProtoReflect().Descriptor(), 3) {
		checked, err := l.check(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		ours, err := l.plan(checked)
		if err != nil {
			t.Fatal(err)
		}
		expected, issues := reference.Compile(source)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		theirs, err := reference.Program(expected)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, both{source, ours, theirs})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		e := modeltest.Event(rng, []float64{1, 0.8, 0.4}[i%3])
		m := wire.ToProto(e, modeltest.Boot)
		for _, p := range programs {
			got, _, err := p.ours.Eval(&variables{l, &Subject{Event: e, Boot: modeltest.Boot}})
			if err != nil {
				t.Fatalf("%s: %v", p.source, err)
			}
			want, _, err := p.theirs.Eval(map[string]any{"event": m})
			if err != nil {
				t.Fatal(err)
			}
			if got.Equal(want) != types.True {
				t.Errorf("%s is %v, of the protobuf %v", p.source, got.Value(), want.Value())
			}
		}
	}
	if len(programs) < 500 {
		t.Errorf("only %d values are compared", len(programs))
	}
}
