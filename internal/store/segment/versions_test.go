// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// A segment of an older agent lacks columns: they are NULL. One of a younger agent has others: they are passed over. Both
// read, and merge with ours.
func TestSegmentsOfOtherVersions(t *testing.T) {
	events := plain(100)
	for _, e := range events {
		e.Socket.BytesSent = 7
	}
	older, younger := *network(t), *network(t)
	older.Columns = slices.DeleteFunc(slices.Clone(older.Columns), func(c Column) bool { return c.Name == "bytes_sent" || c.Name == "workload_name" })
	younger.Columns = append(slices.Clone(younger.Columns), Column{Name: "mood", kind: kindText, write: func(*row) parquet.Value { return textValue("fine") }})
	for name, f := range map[string]*Family{"older": &older, "younger": &younger} {
		f.schema = schemaOf(f)
		s := open(t, write(t, f, events))
		got, err := readAll(s, Scan{})
		if err != nil || len(got) != len(events) {
			t.Fatalf("%s: %d events, %v", name, len(got), err)
		}
		want := uint64(7)
		if name == "older" {
			want = 0
		}
		if got[5].Socket.BytesSent != want || got[5].Process.Workload.Name != "w5.service" || got[5].Socket.Cookie != 5 {
			t.Errorf("%s: %s", name, got[5].AppendJSON(nil, ""))
		}
		found, err := readAll(s, Scan{Tests: []Test{{Columns: []string{"workload_name"}, Text: func(s string) bool { return s == "w5.service" }}}})
		if wanted := map[string]int{"older": 100, "younger": 10}[name]; err != nil || len(found) != wanted {
			t.Errorf("%s: %d events of a workload, %v", name, len(found), err)
		}
		var b bytes.Buffer
		if _, err := Merge(&b, Options{}, []*Segment{s, open(t, write(t, network(t), events))}); err != nil {
			t.Fatal(name, err)
		}
		merged, err := readAll(open(t, b.Bytes()), Scan{})
		if err != nil || len(merged) != 200 || merged[5].Socket.BytesSent != want || merged[105].Socket.BytesSent != 7 {
			t.Errorf("%s, merged: %d events, %v", name, len(merged), err)
		}
	}
}

// What is no segment is told from what is a damaged one.
func TestForeignFiles(t *testing.T) {
	var foreign bytes.Buffer
	w := parquet.NewGenericWriter[struct{ A int }](&foreign)
	if _, err := w.Write([]struct{ A int }{{1}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	other := *network(t)
	other.Columns = slices.Clone(other.Columns)
	for i := range other.Columns {
		if other.Columns[i].Name == "cookie" {
			other.Columns[i] = Column{Name: "cookie", kind: kindText, write: func(*row) parquet.Value { return textValue("x") }}
		}
	}
	other.schema = schemaOf(&other)
	unknown := *network(t)
	unknown.Name = "weather"
	unknown.schema = schemaOf(&unknown)
	for name, file := range map[string][]byte{"somebody's Parquet": foreign.Bytes(), "text": []byte("what is no Parquet at all"), "nothing": nil,
		"a column of another type": write(t, &other, plain(3)), "an unknown family": write(t, &unknown, plain(3))} {
		if _, err := Open(bytes.NewReader(file), int64(len(file)), Families()); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := write(t, network(t), plain(3))
	for i, b := range []byte{0xff, 0xff, 0xff, 0x7f} {
		whole[len(whole)-8+i] = b // the length of the footer
	}
	if _, err := Open(bytes.NewReader(whole), int64(len(whole)), Families()); err == nil || errors.Is(err, ErrForeign) {
		t.Errorf("a footer larger than the file: %v", err)
	}
}

// The scan of a family never reads a type that is not its own.
func TestFamilyOf(t *testing.T) {
	if f := FamilyOf(Families(), model.Type("no type")); f != nil {
		t.Errorf("%+v", f)
	}
}
