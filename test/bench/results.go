// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// results is all that a run has measured. Its JSON is the raw file.
type results struct {
	Began    time.Time      `json:"began"`
	Took     time.Duration  `json:"took_ns"`
	Seed     uint64         `json:"seed"`
	N        int            `json:"n"`
	Sample   time.Duration  `json:"sample_ns"`
	Packages string         `json:"packages"` // of the compile load
	Host     measure.Facts  `json:"host"`
	Samples  []sample       `json:"samples"`
	Programs []programTimes `json:"programs"`
	FullRate seen           `json:"exec_at_full_rate"`
	Steady   *seen          `json:"steady,omitempty"`
	Storm    *seen          `json:"storm,omitempty"`
	Starts   []start        `json:"starts,omitempty"`
	Idle     *idle          `json:"idle,omitempty"`
	Crowded  *crowded       `json:"crowded,omitempty"`

	Policies  []sample          `json:"policies,omitempty"` // an agent in each arm
	Rungs     map[string]string `json:"rungs,omitempty"`    // what carries rules here, by section of a policy and arm
	Applied   []applied         `json:"applied,omitempty"`
	Populated *populated        `json:"populated,omitempty"`

	Detected     []detected `json:"detected,omitempty"`
	Mix          []portion  `json:"mix,omitempty"` // of the events that detections looked at
	DefaultRules int        `json:"default_rules,omitempty"`

	Scans []scanned `json:"scans,omitempty"`

	History   *historyDay `json:"history,omitempty"`
	Flows     []sample    `json:"flows,omitempty"` // an agent in each arm
	Flowed    *flowed     `json:"flowed,omitempty"`
	FlowTable *flowTable  `json:"flow_table,omitempty"`
	// Parse is the parser's CPU time for an HTTP request.
	Parse time.Duration `json:"parse_ns,omitempty"`
}

// programTimes is what the agent's programs ran for one load.
type programTimes struct {
	Load     string             `json:"load"`
	Count    int                `json:"count"` // of the load's operations
	Programs []measure.RunStats `json:"programs"`
}

// perOp is the programs' time for one operation of the load.
func (p *programTimes) perOp() time.Duration {
	var t time.Duration
	for _, s := range p.Programs {
		t += s.Time
	}
	return t / time.Duration(max(p.Count, 1))
}

// seen compares what was done with what the export tells.
type seen struct {
	Rate     float64           `json:"rate"`
	For      time.Duration     `json:"for_ns"`
	AgentCPU time.Duration     `json:"agent_cpu_ns"` // an operation
	Executed uint64            `json:"executed"`
	Forks    uint64            `json:"forks"`
	Execs    uint64            `json:"execs"`
	Exits    uint64            `json:"exits"`
	Images   uint64            `json:"images"` // different exec_ids among the execs
	Ended    uint64            `json:"ended"`  // of them with an exit
	Connects uint64            `json:"connects"`
	Accepts  uint64            `json:"accepts"`
	Closes   uint64            `json:"closes"`
	Lines    uint64            `json:"socket_lines"`
	Losses   map[string]uint64 `json:"losses"`
	Skipped  string            `json:"skipped"` // runs of the agent's programs that the kernel left out
}

// add counts one agent run in.
func (s *seen) add(executed uint64, t *tally) {
	s.Executed += executed
	s.Forks, s.Execs, s.Exits = s.Forks+t.Forks, s.Execs+t.Execs, s.Exits+t.Exits
	s.Images, s.Ended = s.Images+uint64(t.Images), s.Ended+uint64(t.Ended)
	s.Connects, s.Accepts, s.Closes, s.Lines = s.Connects+t.Connects, s.Accepts+t.Accepts, s.Closes+t.Closes, s.Lines+t.SocketLines
	if s.Losses == nil {
		s.Losses = map[string]uint64{}
	}
	for reason, n := range t.Losses {
		s.Losses[reason] += n
	}
}

// everyExec reports whether each process was told three times: fork, exec and exit, as one image.
func (s *seen) everyExec() bool {
	n := s.Executed
	return s.Forks == n && s.Execs == n && s.Exits == n && s.Images == n && s.Ended == n
}

// everyConnection reports whether each connection was told: its connect, its accept, and a close of each end.
func (s *seen) everyConnection() bool {
	return s.Connects == s.Executed && s.Accepts == s.Executed && s.Closes == 2*s.Executed
}

// start is one start of the agent beside many processes.
type start struct {
	FirstLine time.Duration `json:"first_line_ns"`
	Ready     time.Duration `json:"ready_ns"`
	CPU       time.Duration `json:"cpu_ns"`     // of the agent until it was ready, or a moment after
	Version   time.Duration `json:"version_ns"` // of `vigie version`: what any start of this binary takes
}

type idle struct {
	For       time.Duration `json:"for_ns"`
	CPU       time.Duration `json:"cpu_ns"`
	RSS       uint64        `json:"rss"`
	Peak      uint64        `json:"peak"`
	Heap      uint64        `json:"heap"`
	Maps      uint64        `json:"maps"`
	Events    uint64        `json:"events"`
	Processes uint64        `json:"processes"`
}

// crowded is the agent's memory beside many processes: grown while it ran, and found at its start.
type crowded struct {
	Wanted     int           `json:"wanted"`
	Processes  int           `json:"processes"`
	Grown      uint64        `json:"grown"`
	GrownPeak  uint64        `json:"grown_peak"`
	Live       uint64        `json:"live"`
	Found      uint64        `json:"found"`
	FoundPeak  uint64        `json:"found_peak"`
	FoundLive  uint64        `json:"found_live"`
	FoundReady time.Duration `json:"found_ready_ns"`
}

// write keeps the raw samples and writes the report.
func (b *bench) write(out io.Writer) error {
	if b.raw == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find a place for the raw samples: %w: name one with -raw", err)
		}
		b.raw = filepath.Join(cache, "vigie", "bench-"+b.results.Began.Format("20060102-150405")+".json")
	}
	if err := os.MkdirAll(filepath.Dir(b.raw), 0o755); err != nil {
		return fmt.Errorf("make the folder of the raw samples: %w", err)
	}
	data, err := json.MarshalIndent(b.results, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.raw, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the raw samples: %w", err)
	}
	b.say("raw samples: %s", b.raw)
	var page bytes.Buffer
	b.results.report(&page, b.rng)
	if b.out == "-" {
		_, err = page.WriteTo(out)
		return err
	}
	if err := os.WriteFile(b.out, page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	b.say("report: %s", b.out)
	return nil
}
