// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yml", "README", ".hidden.yaml", "c.yaml.bak"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := ReadDir(dir)
	if err != nil || len(files) != 2 || files[0].Path != filepath.Join(dir, "a.yml") || string(files[1].Data) != "b.yaml" {
		t.Errorf("got %v, %v", files, err)
	}
	if files, err := ReadDir(filepath.Join(dir, "none")); err != nil || files != nil {
		t.Errorf("a directory that is not there: %v, %v", files, err)
	}
	if _, err := ReadDir(filepath.Join(dir, "README")); err == nil {
		t.Error("a file is a directory")
	}
	if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "big.yaml"), make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDir(dir); err == nil || !strings.Contains(err.Error(), "is no regular file") || !strings.Contains(err.Error(), "split it") {
		t.Errorf("got %v", err)
	}
}

// The page lists every rule that comes with vigie, and no other.
func TestThePageListsTheRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/detections.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") && strings.Count(line, " | ") == 3 {
			rows++
		}
	}
	rules := defaults(t).Rules
	for _, r := range rules {
		if !strings.Contains(string(page), "| "+string(r.Severity)+" | "+r.Title+" | "+strings.Join(r.Tags, ", ")+" |") {
			t.Errorf("docs/detections.md does not list %s as it is", r.ID)
		}
	}
	if rows != len(rules) {
		t.Errorf("docs/detections.md lists %d rules, there are %d", rows, len(rules))
	}
}
