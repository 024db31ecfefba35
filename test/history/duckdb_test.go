// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package history

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/store"
	"github.com/vigie-io/vigie/internal/store/segment"
)

const eachType = 60

// sampleHistory writes events of every type, each field of them filled at random, in several segments of which some are
// merged.
func sampleHistory(t *testing.T) (dir string, events []*model.Event) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "history")
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range eachType {
		for _, typ := range model.Types() {
			e := modeltest.Event(rng, 0.8)
			e.Type, e.Seq = typ, uint64(len(events)+1)
			e.Time = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Millisecond)
			if typ == model.TypeLoss {
				e.Process, e.Parent, e.Key = nil, nil, model.ProcessKey{}
			}
			events = append(events, e)
		}
	}
	for _, part := range [][]*model.Event{events[:100], events[100:]} {
		hub := pipeline.NewHub(new(pipeline.Losses))
		past := store.NewHistory(store.HistoryConfig{Dir: dir, MaxAge: 1e6 * time.Hour, Boot: modeltest.Boot, Run: time.Unix(1_700_000_000, 0), Agent: "test",
			Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Now: time.Now})
		sub := hub.Subscribe(past.Subscribe())
		ended := make(chan error, 1)
		go func() { ended <- past.Run(sub) }()
		hub.Publish(part)
		hub.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	return dir, events
}

func database(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// DuckDB finds in every column, row by row, what the agent's own reader finds, and of the type that the document says.
func TestDuckDBReadsHistory(t *testing.T) {
	dir, events := sampleHistory(t)
	db := database(t)
	total := 0
	for _, f := range segment.Families() {
		from := fmt.Sprintf("read_parquet('%s/%s/*.parquet')", dir, f.Name)
		var rows int
		if err := db.QueryRow("SELECT count(*) FROM " + from).Scan(&rows); err != nil {
			t.Fatal(f.Name, err)
		}
		if want := eachType * len(f.Types); rows != want {
			t.Errorf("%s: %d rows, want %d", f.Name, rows, want)
		}
		total += rows
		compareTypes(t, db, f, from)
		ours := cellsOf(t, filepath.Join(dir, f.Name), f)
		for i := range f.Columns {
			compareColumn(t, db, f, &f.Columns[i], from, ours[i])
		}
	}
	if total != len(events) {
		t.Errorf("%d rows of %d events", total, len(events))
	}
}

func compareTypes(t *testing.T, db *sql.DB, f *segment.Family, from string) {
	t.Helper()
	rows, err := db.Query("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM " + from + ")")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	i := 0
	for ; rows.Next(); i++ {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			t.Fatal(err)
		}
		if i >= len(f.Columns) || name != f.Columns[i].Name || typ != f.Columns[i].Type() {
			t.Errorf("%s: column %d is %s %s, want %+v", f.Name, i, name, typ, f.Columns[min(i, len(f.Columns)-1)].Name+" "+f.Columns[min(i, len(f.Columns)-1)].Type())
		}
	}
	if err := rows.Err(); err != nil || i != len(f.Columns) {
		t.Errorf("%s: %d columns of %d, %v", f.Name, i, len(f.Columns), err)
	}
}

// cellsOf reads all columns of a folder with the agent's reader, in the order of the files' names.
func cellsOf(t *testing.T, dir string, f *segment.Family) [][]segment.Cell {
	t.Helper()
	var names []string
	for i := range f.Columns {
		names = append(names, f.Columns[i].Name)
	}
	out := make([][]segment.Cell, len(names))
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%s: %v, %v", f.Name, files, err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := segment.Open(bytes.NewReader(b), int64(len(b)), segment.Families())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Cells(segment.Scan{}, names, func(cells [][]segment.Cell) error {
			for i := range cells {
				out[i] = append(out[i], cells[i]...)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func compareColumn(t *testing.T, db *sql.DB, f *segment.Family, c *segment.Column, from string, ours []segment.Cell) {
	t.Helper()
	value := c.Name // without quotes: no column has the name of a keyword
	switch c.Type() {
	case "TIMESTAMP_NS":
		value = fmt.Sprintf("epoch_ns(%s)", c.Name)
	case "UBIGINT":
		value = fmt.Sprintf("%s::HUGEINT::VARCHAR", c.Name)
	case "JSON":
		value = fmt.Sprintf("%s::VARCHAR", c.Name)
	}
	rows, err := db.Query("SELECT " + value + " FROM " + from + " ORDER BY run, seq")
	if err != nil {
		t.Fatal(f.Name, c.Name, err)
	}
	defer rows.Close()
	i := 0
	for ; rows.Next(); i++ {
		var got any
		if err := rows.Scan(&got); err != nil {
			t.Fatal(f.Name, c.Name, err)
		}
		if want := shown(c, ours[i]); fmt.Sprint(got) != want {
			t.Fatalf("%s.%s, row %d: DuckDB has %v, we have %s", f.Name, c.Name, i, got, want)
		}
	}
	if err := rows.Err(); err != nil || i != len(ours) {
		t.Errorf("%s.%s: %d rows of %d, %v", f.Name, c.Name, i, len(ours), err)
	}
}

// shown is a cell as the driver gives it.
func shown(c *segment.Column, v segment.Cell) string {
	switch {
	case !v.Known:
		return "<nil>"
	case c.Type() == "VARCHAR", c.Type() == "JSON":
		return v.Text
	case c.Type() == "BOOLEAN":
		return fmt.Sprint(v.Number != 0)
	case c.Type() == "UBIGINT":
		return fmt.Sprint(uint64(v.Number))
	}
	return fmt.Sprint(v.Number)
}

// What is nested is whole JSON for DuckDB too, and says what the event said.
func TestDuckDBReadsWhatIsNested(t *testing.T) {
	dir, events := sampleHistory(t)
	db := database(t)
	for _, e := range events {
		if e.Type != model.TypeExec || e.Process == nil || len(e.Process.Args) == 0 || e.Process.Workload == nil {
			continue
		}
		var args, workload, name sql.NullString
		if err := db.QueryRow(fmt.Sprintf("SELECT process_args::VARCHAR, process_context->'workload'->>'name', workload_name FROM read_parquet('%s/process/*.parquet') WHERE seq = %d", dir, e.Seq)).
			Scan(&args, &workload, &name); err != nil {
			t.Fatal(err)
		}
		var list []string
		if err := json.Unmarshal([]byte(args.String), &list); err != nil || strings.Join(list, "\x00") != strings.Join(e.Process.Args, "\x00") {
			t.Errorf("event %d: args %q, want %q, %v", e.Seq, list, e.Process.Args, err)
		}
		// DuckDB ends texts of JSON at a NUL.
		if want := e.Process.Workload.Name; name.String != want || !strings.Contains(want, "\x00") && workload.String != want {
			t.Errorf("event %d: workload %q and %q, want %q", e.Seq, workload.String, name.String, want)
		}
	}
}

// The questions of docs/history.md are questions that DuckDB takes.
func TestTheDocumentsQuestions(t *testing.T) {
	page, err := os.ReadFile("../../docs/history.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := sampleHistory(t)
	db := database(t)
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d questions", len(blocks))
	}
	for _, b := range blocks {
		rows, err := db.Query(strings.ReplaceAll(b[1], "'history/", "'"+dir+"/"))
		if err != nil {
			t.Errorf("%s: %v", b[1], err)
			continue
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}
