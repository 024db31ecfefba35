// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// ocsfSchema is testdata/ocsf-1.7.0.txt.
type ocsfSchema struct {
	classes map[int64]map[string]ocsfAttribute
	objects map[string]map[string]ocsfAttribute
}

type ocsfAttribute struct {
	kind           string // #, ?, ., an object's name, empty for text
	list, required bool
	enum           []string
}

func readOCSF(t *testing.T) ocsfSchema {
	t.Helper()
	b, err := os.ReadFile("testdata/ocsf-" + ocsfVersion + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	s := ocsfSchema{make(map[int64]map[string]ocsfAttribute), make(map[string]map[string]ocsfAttribute)}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		switch words[0] {
		case "class":
			uid, err := strconv.ParseInt(words[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			s.classes[uid] = attributesOf(words[4:])
		case "object":
			s.objects[words[1]] = attributesOf(words[2:])
		}
	}
	return s
}

func attributesOf(words []string) map[string]ocsfAttribute {
	m := make(map[string]ocsfAttribute)
	for _, w := range words {
		var a ocsfAttribute
		w, enum, _ := strings.Cut(w, "=")
		if enum != "" {
			a.enum = strings.Split(enum, ",")
		}
		w, a.required = strings.CutSuffix(w, "*")
		w, a.list = strings.CutSuffix(w, "[]")
		w, a.kind, _ = strings.Cut(w, ":")
		m[w] = a
	}
	return m
}

// check reports everything in which an event departs from the schema.
func (s ocsfSchema) check(t *testing.T, e *model.Event, m map[string]any) {
	t.Helper()
	uid, _ := m["class_uid"].(json.Number).Int64()
	class, ok := s.classes[uid]
	if !ok {
		t.Errorf("%s: there is no class %d", e.Type, uid)
		return
	}
	activity, _ := m["activity_id"].(json.Number).Int64()
	if typ, _ := m["type_uid"].(json.Number).Int64(); typ != uid*100+activity {
		t.Errorf("%s: type_uid %d of class %d, activity %d", e.Type, typ, uid, activity)
	}
	s.object(t, string(e.Type), class, m)
}

func (s ocsfSchema) object(t *testing.T, at string, attributes map[string]ocsfAttribute, m map[string]any) {
	t.Helper()
	for name, a := range attributes {
		if _, ok := m[name]; a.required && !ok {
			t.Errorf("%s: lacks %s, which is required", at, name)
		}
	}
	for name, v := range m {
		a, ok := attributes[name]
		if !ok {
			t.Errorf("%s: has %s, which the schema has not", at, name)
			continue
		}
		items, isList := v.([]any)
		if isList != a.list {
			t.Errorf("%s.%s: list %v, want %v", at, name, isList, a.list)
			continue
		}
		if !isList {
			items = []any{v}
		}
		for _, item := range items {
			s.value(t, at+"."+name, a, item)
		}
	}
}

func (s ocsfSchema) value(t *testing.T, at string, a ocsfAttribute, v any) {
	t.Helper()
	switch a.kind {
	case "#":
		n, ok := v.(json.Number)
		if _, err := n.Int64(); !ok || err != nil || a.enum != nil && !slices.Contains(a.enum, n.String()) {
			t.Errorf("%s: %v is not among %v", at, v, a.enum)
		}
	case "?":
		if _, ok := v.(bool); !ok {
			t.Errorf("%s: %v is no boolean", at, v)
		}
	case "":
		if text, ok := v.(string); !ok || text == "" {
			t.Errorf("%s: %v is no text", at, v)
		}
	case "object":
	default:
		m, ok := v.(map[string]any)
		if !ok {
			t.Errorf("%s: %v is no object", at, v)
			return
		}
		s.object(t, at, s.objects[a.kind], m)
	}
}

func TestOCSFKeepsToTheSchema(t *testing.T) {
	s := readOCSF(t)
	for _, e := range examples(t) {
		s.check(t, e, encoded(t, OCSF, e))
	}
}

// The examples by class and activity: what docs/exports.md says.
func TestOCSFClasses(t *testing.T) {
	want := map[string]string{
		"exec": "100701", "exec_failed": "100701", "fork": "100701", "exit": "100702", "ptrace": "100704", "credential": "100705",
		"namespace": "100304", "module": "100304", "bpf": "100304", "capability": "100304", "probe": "100304",
		"mount": "100113", "file": "100102 100103 100101 100103 100105 100199 100104 100107 100107",
		"connect": "400104 100399", "accept": "400101", "listen": "400107", "close": "400102",
		"flow": "400101 400106 400102 400105 400105", "dns": "400306 400301",
		"request": "400203 400299 400203 400206 600501 600501 400106", "verdict": "200401 200401", "alert": "200401", "loss": "99",
	}
	got := make(map[string]string)
	for _, e := range examples(t) {
		n := encoded(t, OCSF, e)["type_uid"].(json.Number).String()
		got[string(e.Type)] = strings.TrimSpace(got[string(e.Type)] + " " + n)
	}
	for _, typ := range model.Types() {
		if got[string(typ)] != want[string(typ)] {
			t.Errorf("%s: %s, want %s", typ, got[string(typ)], want[string(typ)])
		}
	}
}

func TestOCSFSaysWhatAPolicyDid(t *testing.T) {
	for _, e := range examples(t) {
		if e.Verdict == nil {
			continue
		}
		m := encoded(t, OCSF, e)
		action, want := m["action_id"].(json.Number).String(), "2"
		if e.Verdict.Action == model.VerdictAudited {
			want = "1"
		}
		if action != want {
			t.Errorf("%s: action %s, want %s", e.Verdict.Action, action, want)
		}
	}
}
