// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// print prints a table of figures. Rows by time stand in the order of time.
func (o *queryOptions) print(m *vigiev1.AggregateResponse, since time.Time) error {
	rows := m.GetRows()
	if len(m.GetBy()) > 0 && (m.GetBy()[0] == "hour" || m.GetBy()[0] == "day") {
		slices.SortStableFunc(rows, func(a, b *vigiev1.AggregateRow) int { return slices.Compare(a.GetKeys(), b.GetKeys()) })
	}
	if o.out == formatJSON || o.out == formatYAML {
		return o.printRows(m, rows)
	}
	screen := o.env.screen()
	t := term.Table{Width: screen.Width, Style: screen.Style}
	if o.out == formatWide {
		t.Width = 0
	}
	for _, name := range m.GetBy() {
		t.Header = append(t.Header, strings.ToUpper(name))
	}
	for i, name := range m.GetMeasures() {
		t.Header = append(t.Header, strings.ToUpper(name))
		t.Right = append(t.Right, len(m.GetBy())+i)
	}
	for _, row := range rows {
		var cells []string
		for i, key := range row.GetKeys() {
			cells = append(cells, dash(term.Escape(localTime(m.GetBy()[i], key, o.env.Now().Location()))))
		}
		values := row.GetValues()
		if row.GetChange() == "vanished" {
			values = row.GetBefore()
		}
		for i, v := range values {
			cells = append(cells, figure(m.GetMeasures()[i], v))
		}
		t.Rows = append(t.Rows, cells)
	}
	if len(rows) > 0 {
		if err := t.Write(o.env.Out); err != nil {
			return err
		}
	}
	return o.printNotes(m, since)
}

// printNotes says, beside the table, what it does not show.
func (o *queryOptions) printNotes(m *vigiev1.AggregateResponse, since time.Time) error {
	var notes []string
	if len(m.GetRows()) == 0 {
		notes = append(notes, fmt.Sprintf("nothing to show: %s events were looked at, of types %s", show.Count(m.GetEvents()), strings.Join(o.typesAsked(), ", ")))
	}
	if n := m.GetRowsLeftOut(); n > 0 {
		notes = append(notes, fmt.Sprintf("%s more rows: see them with -n", show.Count(n)))
	}
	if t := m.GetCompleteSince().AsTime(); t.After(since) {
		notes = append(notes, "the agent has seen everything only since "+t.In(o.env.Now().Location()).Format(time.DateTime))
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(o.env.Err, o.env.screen().Style.Dim(n)); err != nil {
			return err
		}
	}
	return nil
}

func (o *queryOptions) typesAsked() []string {
	if len(o.filter.types) > 0 {
		return o.filter.types
	}
	return o.countedTypes()
}

// printRows prints a JSON object, or a YAML document, for each row: the fields are those of by, of the measures, and change.
func (o *queryOptions) printRows(m *vigiev1.AggregateResponse, rows []*vigiev1.AggregateRow) error {
	for _, row := range rows {
		var b bytes.Buffer
		b.WriteByte('{')
		field := func(name string, value any) error {
			if b.Len() > 1 {
				b.WriteByte(',')
			}
			text, err := json.Marshal(value)
			fmt.Fprintf(&b, "%q:%s", name, text)
			return err
		}
		for i, name := range m.GetBy() {
			if err := field(name, row.GetKeys()[i]); err != nil {
				return err
			}
		}
		for i, name := range m.GetMeasures() {
			if err := field(name, row.GetValues()[i]); err != nil {
				return err
			}
		}
		if row.GetChange() != "" {
			if err := field("change", row.GetChange()); err != nil {
				return err
			}
		}
		for i, v := range row.GetBefore() {
			if err := field("before_"+m.GetMeasures()[i], v); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		write := writeJSON
		if o.out == formatYAML {
			write = writeYAML
		}
		if err := write(o.env.Out, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// localTime shows the hours and days of the API, which are in UTC, as they are here.
func localTime(name, key string, zone *time.Location) string {
	if name != "hour" && name != "day" {
		return key
	}
	t, err := time.Parse(time.RFC3339, key)
	if err != nil {
		return key
	}
	if name == "day" {
		return t.Format(time.DateOnly) + " UTC" // a day of UTC is no day here
	}
	return t.In(zone).Format("2006-01-02 15:04")
}

// figure is a value in the unit of its measure.
func figure(name string, v float64) string {
	switch {
	case strings.HasPrefix(name, "bytes"):
		return show.Bytes(uint64(max(v, 0)))
	case name == "error_rate":
		return fmt.Sprintf("%.1f%%", 100*v)
	case (strings.HasPrefix(name, "latency_") || name == "rtt") && v == 0:
		return "-"
	case strings.HasPrefix(name, "latency_"), name == "rtt":
		return show.Duration(time.Duration(v * float64(time.Second)))
	}
	return show.Count(uint64(max(v, 0)))
}
