// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
)

// trouble is what does not work: segments that can't be read, and why the last flush failed.
type trouble struct {
	unreadable map[string]error // by path
	write      error
	unwritten  uint64 // events lost by that
}

// cannotRead notes a segment that could not be read, once.
func (h *History) cannotRead(path string, err error) {
	h.mu.Lock()
	_, known := h.trouble.unreadable[path]
	if !known {
		if h.trouble.unreadable == nil {
			h.trouble.unreadable = make(map[string]error)
		}
		h.trouble.unreadable[path] = err
	}
	h.mu.Unlock()
	if !known {
		h.unread.Add(1)
		h.c.Log.Error("a segment of history cannot be read: what it holds is missing from queries", "segment", path, "error", err)
	}
}

// Problems lists what does not work, each with what to do.
func (h *History) Problems() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var out []string
	switch err := h.trouble.write; {
	case err == nil:
	case errors.Is(err, syscall.ENOSPC):
		out = append(out, fmt.Sprintf("history cannot be written, the disk of %s is full: %d events are missing from it so far; make room or lower --history-max-size",
			h.c.Dir, h.trouble.unwritten))
	default:
		out = append(out, fmt.Sprintf("history cannot be written to %s: %v: %d events are missing from it so far", h.c.Dir, err, h.trouble.unwritten))
	}
	const most = 3
	var damaged []string
	for path, err := range h.trouble.unreadable {
		name := path
		if rel, relErr := filepath.Rel(h.c.Dir, path); relErr == nil {
			name = rel
		}
		damaged = append(damaged, fmt.Sprintf("history: %s cannot be read: %v; move it out of %s", name, err, h.c.Dir))
	}
	slices.Sort(damaged)
	if len(damaged) > most {
		damaged = append(damaged[:most], fmt.Sprintf("history: %d more segments cannot be read; the log names them", len(damaged)-most))
	}
	return append(out, damaged...)
}
