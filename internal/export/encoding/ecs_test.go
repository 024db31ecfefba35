// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// ecsFields is testdata/ecs-9.4.0.txt: what each field is.
type ecsFields map[string]ocsfAttribute

func readECS(t *testing.T) ecsFields {
	t.Helper()
	b, err := os.ReadFile("testdata/ecs-" + ecsVersion + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	fields := make(ecsFields)
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			for name, a := range attributesOf([]string{line}) {
				fields[name] = a
			}
		}
	}
	return fields
}

// The categories of ECS and the types that each of them has (https://www.elastic.co/docs/reference/ecs/ecs-allowed-values-event-category).
func ecsTypes() map[string][]string {
	return map[string][]string{
		"process":             {"access", "change", "end", "info", "start"},
		"file":                {"access", "change", "creation", "deletion", "info"},
		"network":             {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
		"driver":              {"change", "end", "info", "start"},
		"configuration":       {"access", "change", "creation", "deletion", "info"},
		"web":                 {"access", "error", "info"},
		"database":            {"access", "change", "info", "error"},
		"host":                {"access", "change", "end", "info", "start"},
		"intrusion_detection": {"allowed", "denied", "info"},
	}
}

// check reports every field that the schema has not, or has with another type. What stands under "vigie" is ours.
func (f ecsFields) check(t *testing.T, e *model.Event, m map[string]any) {
	t.Helper()
	event := m["event"].(map[string]any)
	for _, c := range event["category"].([]any) {
		types, ok := ecsTypes()[c.(string)]
		if !ok {
			t.Errorf("%s: there is no category %v", e.Type, c)
		}
		for _, typ := range event["type"].([]any) {
			if !slices.Contains(types, typ.(string)) {
				t.Errorf("%s: category %v has no type %v", e.Type, c, typ)
			}
		}
	}
	delete(m, "vigie")
	f.object(t, e.Type, "", m)
}

func (f ecsFields) object(t *testing.T, typ model.Type, prefix string, m map[string]any) {
	t.Helper()
	for name, v := range m {
		name = prefix + name
		if nested, ok := v.(map[string]any); ok {
			f.object(t, typ, name+".", nested)
			continue
		}
		a, ok := f[name]
		if !ok {
			t.Errorf("%s: has %s, which the schema has not", typ, name)
			continue
		}
		items, isList := v.([]any)
		if isList != a.list {
			t.Errorf("%s: %s is a list: %v, want %v", typ, name, isList, a.list)
		}
		if !isList {
			items = []any{v}
		}
		for _, item := range items {
			if nested, ok := item.(map[string]any); ok && a.kind == "{}" {
				f.object(t, typ, name+".", nested)
			} else if !ecsValue(a.kind, item) {
				t.Errorf("%s: %s is %v, want a value of type %q", typ, name, item, a.kind)
			}
		}
	}
}

func ecsValue(kind string, v any) bool {
	text, isText := v.(string)
	switch kind {
	case "#":
		n, ok := v.(json.Number)
		_, err := n.Int64()
		return ok && err == nil
	case "?":
		_, ok := v.(bool)
		return ok
	case "@":
		_, err := time.Parse(time.RFC3339Nano, text)
		return isText && err == nil
	case "ip":
		_, err := netip.ParseAddr(text)
		return isText && err == nil
	}
	return isText
}

func TestECSKeepsToTheSchema(t *testing.T) {
	fields := readECS(t)
	for _, e := range examples(t) {
		fields.check(t, e, encoded(t, ECS, e))
	}
}

// The examples by kind, category and types: what docs/exports.md says.
func TestECSCategories(t *testing.T) {
	want := map[model.Type]string{model.TypeExec: "event process start", model.TypeExit: "event process end", model.TypeModule: "event driver start",
		model.TypeMount: "event configuration change", model.TypeConnect: "event network connection,start", model.TypeClose: "event network connection,end",
		model.TypeDNS: "event network protocol", model.TypeAlert: "alert intrusion_detection info", model.TypeLoss: "event host info"}
	for _, e := range examples(t) {
		var event struct {
			Event struct {
				Kind           string
				Category, Type []string
				Outcome        string
			}
		}
		b, err := json.Marshal(encoded(t, ECS, e))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &event); err != nil {
			t.Fatal(err)
		}
		got := event.Event.Kind + " " + strings.Join(event.Event.Category, ",") + " " + strings.Join(event.Event.Type, ",")
		if w := want[e.Type]; w != "" && got != w {
			t.Errorf("%s: %s, want %s", e.Type, got, w)
		}
		if failed := event.Event.Outcome == "failure"; failed != (failure(e) != "" || e.Verdict != nil && e.Verdict.Action != model.VerdictAudited) {
			t.Errorf("%s: outcome %s, error %q", e.Type, event.Event.Outcome, failure(e))
		}
	}
}
