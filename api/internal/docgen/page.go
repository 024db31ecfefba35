// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/vigie-io/vigie/api/internal/definitions"
	"github.com/vigie-io/vigie/internal/model"
)

const intro = `<!-- Generated from api/vigie/v1/*.proto by "go generate ./api"; do not edit. -->
# Events

` + "`vigie events -o json` and `vigie run --export-json`" + ` print an event as one JSON object on one line; the API has the same names.
They are stable: a name keeps its meaning, new ones may come.

- A number that is 0, a flag that is false, and a text or list that is empty are left out, but for the fields that
  are marked as always present.
- Times are RFC 3339 in UTC with nanoseconds; durations end in ` + "`_ns`" + ` and are nanoseconds.
- All integers are JSON numbers in ` + "`-o json`" + ` and in files, also those of 64 bits. JSON answers of the API's HTTP
  port follow protobuf's rules, which put 64-bit integers in quotes and leave every zero out; readers of protobuf JSON take both.
- Text is UTF-8. A byte that is none appears as the four characters ` + "`\\xHH`" + `. Control characters (C0, DEL, C1), line and
  paragraph separators and bidirectional controls are written as ` + "`\\u`" + ` escapes: no name or argument can end a line,
  forge a field or move a terminal's cursor.
- The same names are the variables of ` + "`--where`" + `, a [CEL](https://cel.dev) expression: ` +
	"`process.uid == 0u && file.path.startsWith(\"/etc\")`" + `. A part that
  is not set reads as empty; ` + "`has(event.file)`" + ` tells. ` + "`namespace`" + ` is a reserved word there: write ` + "`event.namespace`" + `.

`

// generate makes the page.
func generate(ctx context.Context, root string) ([]byte, error) {
	files, err := definitions.Compile(ctx, root)
	if err != nil {
		return nil, err
	}
	messages := make(map[protoreflect.FullName]protoreflect.MessageDescriptor)
	for _, f := range files {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			messages[m.FullName()] = m
		}
	}
	event := messages["vigie.v1.Event"]
	if event == nil {
		return nil, fmt.Errorf("there is no message vigie.v1.Event")
	}
	p := &page{written: map[protoreflect.FullName]bool{event.FullName(): true}}
	p.WriteString(intro)
	p.WriteString("| type | says |\n|---|---|\n")
	for _, t := range model.Types() {
		fmt.Fprintf(p, "| [%s](#%s) | %s |\n", t, t, meanings[t])
	}
	p.WriteString("\n## Every event\n\n")
	p.table(event, func(f protoreflect.FieldDescriptor) bool { return f.Number() < firstPart })
	for _, t := range model.Types() {
		fmt.Fprintf(p, "## %s\n\n%s\n\n", t, meanings[t])
		if f := event.Fields().ByName(part(t)); f != nil {
			if p.written[f.Message().FullName()] {
				fmt.Fprintf(p, "`%s`: as for [connect](#connect).\n\n", f.Name())
			} else {
				fmt.Fprintf(p, "`%s`:\n\n", f.Name())
				p.message(f.Message())
			}
		}
		if err := p.example(t); err != nil {
			return nil, err
		}
	}
	p.WriteString("## Shared parts\n\n")
	for len(p.shared) > 0 {
		m := p.shared[0]
		p.shared = p.shared[1:]
		fmt.Fprintf(p, "### %s\n\n%s\n\n", m.Name(), comment(m))
		p.table(m, nil)
	}
	return append(bytes.TrimRight(p.Bytes(), "\n"), '\n'), nil
}

// firstPart is the number of the first field of Event that only one type has.
const firstPart = 20

// part is the name of the field of Event that a type sets.
func part(t model.Type) protoreflect.Name {
	switch t {
	case model.TypeConnect, model.TypeAccept, model.TypeListen, model.TypeClose:
		return "socket"
	}
	return protoreflect.Name(t)
}

type page struct {
	bytes.Buffer
	written map[protoreflect.FullName]bool
	shared  []protoreflect.MessageDescriptor // that tables have named and that are yet to be written
}

func (p *page) message(m protoreflect.MessageDescriptor) {
	p.written[m.FullName()] = true
	p.table(m, nil)
}

func (p *page) table(m protoreflect.MessageDescriptor, only func(protoreflect.FieldDescriptor) bool) {
	p.WriteString("| field | is | meaning |\n|---|---|---|\n")
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if only == nil || only(f) {
			fmt.Fprintf(p, "| `%s` | %s | %s |\n", f.Name(), p.kind(f), strings.ReplaceAll(comment(f), "|", "\\|"))
		}
	}
	p.WriteString("\n")
}

// kind is what a field is in JSON. Messages that it names are queued.
func (p *page) kind(f protoreflect.FieldDescriptor) string {
	var name string
	switch {
	case f.IsMap():
		return "object of texts"
	case f.Message() != nil && f.Message().FullName() == "google.protobuf.Timestamp":
		name = "time"
	case f.Message() != nil:
		m := f.Message()
		if !p.written[m.FullName()] {
			p.written[m.FullName()] = true
			p.shared = append(p.shared, m)
		}
		name = fmt.Sprintf("[%s](#%s)", m.Name(), strings.ToLower(string(m.Name())))
	case f.Kind() == protoreflect.BoolKind:
		name = "flag"
	case f.Kind() == protoreflect.StringKind:
		name = "text"
	default:
		name = "number"
	}
	if f.IsList() {
		return "list of " + name
	}
	return name
}

// comment is what the definition says of d, on one line.
func comment(d protoreflect.Descriptor) string {
	return strings.Join(strings.Fields(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments), " ")
}

// example shows an event of type t as the agent prints it, broken into lines to be read.
func (p *page) example(t model.Type) error {
	e := exampleOf(t)
	if e == nil {
		return fmt.Errorf("there is no example of type %s: add one", t)
	}
	p.WriteString("```json\n")
	if err := json.Indent(&p.Buffer, e.AppendJSON(nil, boot), "", "  "); err != nil {
		return fmt.Errorf("example of type %s: %w", t, err)
	}
	p.WriteString("\n```\n\n")
	return nil
}
