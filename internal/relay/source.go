// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// Static is a list of agents that does not change.
type Static []Agent

// Follow implements Source.
func (s Static) Follow(ctx context.Context, set func([]Agent)) error {
	set(s)
	<-ctx.Done()
	return nil
}

// ParseAgents reads agents as HOST:PORT or NAME=HOST:PORT.
func ParseAgents(list []string) (Static, error) {
	var out Static
	for _, s := range list {
		a, err := parseAgent(s)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(b Agent) bool { return a.Address == b.Address }) {
			return nil, fmt.Errorf("%s is named twice: leave one out", a.Address)
		}
		out = append(out, a)
	}
	return out, nil
}

func parseAgent(s string) (Agent, error) {
	name, address, named := strings.Cut(s, "=")
	if !named {
		name, address = "", s
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return Agent{}, fmt.Errorf("%q is no agent: give HOST:PORT or NAME=HOST:PORT", s)
	}
	return Agent{Address: address, Name: name}, nil
}

// File is a list of agents in a file that is followed: one a line, in the form of ParseAgents, # begins a comment. While it
// can't be read or makes no sense, what it said last holds.
type File struct {
	Path  string
	Every time.Duration // how often it is looked at; 2 s when 0
	// Trouble is told why the file is not followed at the moment. May be nil.
	Trouble func(error)
}

// Follow implements Source. Errors: what keeps it from being read the first time.
func (f File) Follow(ctx context.Context, set func([]Agent)) error {
	every := f.Every
	if every <= 0 {
		every = 2 * time.Second
	}
	agents, last, err := f.read()
	if err != nil {
		return err
	}
	set(agents)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	troubled := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		agents, content, err := f.read()
		switch {
		case err != nil:
			if f.Trouble != nil && err.Error() != troubled {
				f.Trouble(err)
			}
			troubled = err.Error()
			continue
		case !bytes.Equal(content, last):
			set(agents)
		}
		last, troubled = content, ""
	}
}

func (f File) read() (Static, []byte, error) {
	content, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the list of agents: %w", err)
	}
	var lines []string
	scan := bufio.NewScanner(bytes.NewReader(content))
	for scan.Scan() {
		line, _, _ := strings.Cut(scan.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	agents, err := ParseAgents(lines)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return agents, content, nil
}
