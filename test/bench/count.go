// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// tally is what an export says about one program and those that it started.
type tally struct {
	Forks, Execs, Exits       uint64 // of the program's children
	Images                    int    // different exec_ids among Execs
	Ended                     int    // different exec_ids among Exits that are among those of Execs
	Connects, Accepts, Closes uint64 // sums of Count
	SocketLines               uint64 // lines in which those stand
	Losses                    map[string]uint64
	execs, exits              map[string]struct{}
}

func newTally() *tally {
	return &tally{Losses: map[string]uint64{}, execs: map[string]struct{}{}, exits: map[string]struct{}{}}
}

// exported is what is read of a line of the export (docs/events.md).
type exported struct {
	Type    string `json:"type"`
	Count   uint64 `json:"count"`
	Process struct {
		ExecID string `json:"exec_id"`
		Binary string `json:"binary"`
	} `json:"process"`
	PreExisting bool `json:"pre_existing"`
	Socket      struct {
		Protocol  string `json:"protocol"`
		Direction string `json:"direction"`
	} `json:"socket"`
	Loss struct {
		Stage  string `json:"stage"`
		Reason string `json:"reason"`
		Count  uint64 `json:"count"`
	} `json:"loss"`
}

// countFile reads an export. parent is the program that starts children, child the program that they become; for
// sockets parent is their owner.
func countFile(path, parent, child string) (*tally, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the export: %w", err)
	}
	defer f.Close()
	return count(f, parent, child)
}

func count(r io.Reader, parent, child string) (*tally, error) {
	t := newTally()
	interesting := [][]byte{[]byte(parent), []byte(child), []byte(`"type":"loss"`)}
	for in, n := bufio.NewReaderSize(r, 1<<20), 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				return nil, fmt.Errorf("line %d of the export has no end", n)
			}
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the export: %w", err)
		}
		if !slices.ContainsFunc(interesting, func(s []byte) bool { return bytes.Contains(line, s) }) {
			continue
		}
		var ev exported
		if err := json.Unmarshal(line, &ev); err != nil {
			return nil, fmt.Errorf("line %d of the export: %w", n, err)
		}
		t.add(&ev, parent, child)
	}
	t.Images = len(t.execs)
	for id := range t.exits {
		if _, ok := t.execs[id]; ok {
			t.Ended++
		}
	}
	return t, nil
}

func (t *tally) add(ev *exported, parent, child string) {
	p := ev.Process
	switch {
	case ev.Type == "loss":
		t.Losses[ev.Loss.Stage+": "+ev.Loss.Reason] += ev.Loss.Count
	case ev.PreExisting:
	case ev.Type == "fork" && p.Binary == parent: // a fork has its parent's image still
		t.Forks++
	case ev.Type == "exec" && p.Binary == child:
		t.Execs++
		t.execs[p.ExecID] = struct{}{}
	case ev.Type == "exit" && p.Binary == child:
		t.Exits++
		t.exits[p.ExecID] = struct{}{}
	case p.Binary == parent && ev.Socket.Protocol == "tcp":
		t.addSocket(ev)
	}
}

func (t *tally) addSocket(ev *exported) {
	switch {
	case ev.Type == "connect":
		t.Connects += ev.Count
	case ev.Type == "accept":
		t.Accepts += ev.Count
	case ev.Type == "close" && ev.Socket.Direction != "listener":
		t.Closes += ev.Count
	default:
		return
	}
	t.SocketLines++
}

// lost is all losses as text, "none" without.
func (t *tally) lost() string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(t.Losses)) {
		if n := t.Losses[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", reason, n))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
