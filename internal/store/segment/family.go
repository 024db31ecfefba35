// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

// Family is the event types that share a schema, and a folder.
type Family struct {
	Name    string
	Doc     string
	Types   []model.Type
	Columns []Column

	detail bool // what its types have is kept as JSON
	schema *parquet.Schema
}

// Families makes all families. Whoever writes or reads makes them once.
func Families() []*Family {
	list := []*Family{
		{Name: "process", Doc: "Programs that start and end.",
			Types:   []model.Type{model.TypeExec, model.TypeExecFailed, model.TypeFork, model.TypeExit},
			Columns: slices.Concat(commonColumns(), processColumns(), execColumns())},
		{Name: "file", Doc: "Files that are opened and changed.", Types: []model.Type{model.TypeFile},
			Columns: slices.Concat(commonColumns(), processColumns(), fileColumns())},
		{Name: "network", Doc: "Sockets: connections tried, taken and ended, listeners.",
			Types:   []model.Type{model.TypeConnect, model.TypeAccept, model.TypeListen, model.TypeClose},
			Columns: slices.Concat(commonColumns(), processColumns(), socketColumns())},
		{Name: "dns", Doc: "Names asked for, with the answers.", Types: []model.Type{model.TypeDNS},
			Columns: slices.Concat(commonColumns(), processColumns(), dnsColumns())},
		{Name: "flow", Doc: "Conversations with both of their ends. A long one has several rows: add up the interval_ columns.",
			Types: []model.Type{model.TypeFlow}, Columns: slices.Concat(commonColumns(), processColumns(), flowColumns())},
		{Name: "request", Doc: "Requests on application protocols.", Types: []model.Type{model.TypeRequest},
			Columns: slices.Concat(commonColumns(), processColumns(), requestColumns())},
		{Name: "security", Doc: "What policies decided and detections found, hits of probes, and what changes who may do what.",
			Types: []model.Type{model.TypeVerdict, model.TypeAlert, model.TypeProbe, model.TypeCredential, model.TypeNamespace,
				model.TypePtrace, model.TypeModule, model.TypeBPF, model.TypeMount, model.TypeCapability},
			Columns: slices.Concat(commonColumns(), processColumns(), securityColumns()), detail: true},
		{Name: "loss", Doc: "What was not seen or not kept.", Types: []model.Type{model.TypeLoss},
			Columns: slices.Concat(commonColumns(), lossColumns())},
	}
	for _, f := range list {
		f.schema = schemaOf(f)
	}
	return list
}

// Column is the column of that name, or nil.
func (f *Family) Column(name string) *Column {
	for i := range f.Columns {
		if f.Columns[i].Name == name {
			return &f.Columns[i]
		}
	}
	return nil
}

// FamilyOf is the family of a type among list. Every type has one; nil for what is no type.
func FamilyOf(list []*Family, t model.Type) *Family {
	for _, f := range list {
		if slices.Contains(f.Types, t) {
			return f
		}
	}
	return nil
}

// complete gives an event the part that its type names, where all of the part is zero.
func complete(e *model.Event) {
	switch e.Type {
	case model.TypeExec:
		execPart(e, true)
	case model.TypeExecFailed:
		execFailedPart(e, true)
	case model.TypeExit:
		exitPart(e, true)
	case model.TypeFile:
		filePart(e, true)
	case model.TypeConnect, model.TypeAccept, model.TypeListen, model.TypeClose:
		socketPart(e, true)
	case model.TypeDNS:
		dnsPart(e, true)
	case model.TypeFlow:
		flowPart(e, true)
	case model.TypeRequest:
		requestPart(e, true)
	case model.TypeLoss:
		lossPart(e, true)
	}
}

// schemaOf is the Parquet schema of a family, its columns in their order.
func schemaOf(f *Family) *parquet.Schema {
	group := make(parquet.Group, len(f.Columns))
	place := make(map[string]int, len(f.Columns))
	for i := range f.Columns {
		group[f.Columns[i].Name] = f.Columns[i].node()
		place[f.Columns[i].Name] = i
	}
	fields := group.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int { return place[a.Name()] - place[b.Name()] })
	return parquet.NewSchema("vigie_"+f.Name, &ordered{group, fields})
}

// ordered is a group whose fields stand in the order given and not in that of their names.
type ordered struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements parquet.Node.
func (o *ordered) Fields() []parquet.Field { return o.fields }
