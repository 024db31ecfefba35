// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

func TestPageIsUpToDate(t *testing.T) {
	want, err := generate(context.Background(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(pagePath("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/events.md is not what the definitions say: run go generate ./api")
	}
	for i, line := range strings.Split(string(want), "\n") {
		if strings.HasSuffix(line, "| |  |") || strings.HasSuffix(line, "|  |") {
			t.Errorf("line %d: a field without a comment: %s", i+1, line)
		}
	}
}

// Each example sets the part that its type names and no other.
func TestExamplesAreEventsOfTheirType(t *testing.T) {
	for _, typ := range model.Types() {
		var m pb.Event
		if err := protojson.Unmarshal(exampleOf(typ).AppendJSON(nil, boot), &m); err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			if f.Number() >= firstPart && m.ProtoReflect().Has(f) != (f.Name() == part(typ)) {
				t.Errorf("%s: %s is set: %v", typ, f.Name(), m.ProtoReflect().Has(f))
			}
		}
		if m.GetType() != string(typ) || meanings[typ] == "" || proto.Size(&m) == 0 {
			t.Errorf("%s: type %q, meaning %q", typ, m.GetType(), meanings[typ])
		}
	}
}
