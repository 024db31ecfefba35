// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/detect"
	"github.com/vigie-io/vigie/internal/server"
)

// rulesInterval is how often the directory of rules is looked at.
const rulesInterval = 2 * time.Second

// detections are the engine and the files that its rules come from.
type detections struct {
	engine *detect.Engine
	dir    string
	log    *slog.Logger
	seen   string // state of the directory when it was read

	mu  sync.Mutex
	err error // why the files are not in force
}

// startDetections puts the rules in force and has the river ask them. With files that are wrong it begins with the rules that
// come with vigie, and says so: an agent that would not start sees nothing at all.
func (a *Agent) startDetections() error {
	if a.config.Rules == Off {
		return nil
	}
	a.rules = &detections{dir: a.config.RulesDir, log: a.log, engine: detect.New(detect.Options{Log: a.log, Boot: a.boot,
		Ancestors: a.table.Ancestors, Current: a.table.ByPID, Kill: detect.Kill})}
	a.rules.look(true)
	if len(a.rules.engine.Status()) == 0 {
		own, err := detect.Default()
		if err != nil {
			return err
		}
		set, err := detect.Compile(own)
		if err != nil {
			return fmt.Errorf("the rules that come with vigie are wrong: please report this: %w", err)
		}
		a.rules.engine.Use(set)
	}
	a.river.detect = a.rules.engine.Detect
	return nil
}

// look reads the directory when it has changed, or in any case, and puts what it holds in force. When that cannot be, the rules
// before stay. Called from one goroutine.
func (d *detections) look(always bool) {
	if d == nil {
		return
	}
	state := directoryState(d.dir)
	if state == d.seen && !always {
		return
	}
	d.seen = state
	set, err := d.read()
	if err == nil {
		d.engine.Use(set)
		d.log.Info("detections are in force", "rules", len(set.Rules), "directory", d.dir)
	} else {
		d.log.Error("the detections before stay in force", "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *detections) read() (*detect.Set, error) {
	files, err := detect.Default()
	if err != nil {
		return nil, err
	}
	own, err := detect.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	return detect.Compile(append(files, own...))
}

// directoryState changes when a file of the directory does.
func directoryState(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // of what a link points to
		if err != nil {
			continue
		}
		fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime().UnixNano(), info.Mode())
	}
	return b.String()
}

func (d *detections) problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		return nil
	}
	return []string{fmt.Sprintf("the rules in %s are not in force, those before them are: %v; `vigie rules lint FILE` checks a file", d.dir, d.err)}
}

// Detections implements server.Backend.
func (a *Agent) Detections() []server.Detection {
	if a.rules == nil {
		return nil
	}
	var out []server.Detection
	for _, s := range a.rules.engine.Status() {
		out = append(out, server.Detection{ID: s.ID, Title: s.Title, Severity: s.Severity, Tags: s.Tags, Types: s.Types,
			Action: string(s.Action), Source: s.Source, Disabled: s.Disabled, Alerts: s.Alerts, Suppressed: s.Suppressed, Errors: s.Errors})
	}
	return out
}
