// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// heldLines is how many lines of log are kept while the live view has the terminal.
const heldLines = 1000

// heldLog takes what a log handler writes while the screen belongs to something else. Safe for
// concurrent use.
type heldLog struct {
	mu      sync.Mutex
	kept    [][]byte
	dropped int
}

// Write takes one record, which slog writes in one call.
func (h *heldLog) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.kept) == heldLines {
		h.kept = h.kept[1:]
		h.dropped++
	}
	h.kept = append(h.kept, bytes.Clone(p))
	return len(p), nil
}

// printTo writes what was held.
func (h *heldLog) printTo(w io.Writer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped > 0 {
		fmt.Fprintf(w, "(%d earlier log lines were not kept; --quiet shows all)\n", h.dropped)
	}
	for _, line := range h.kept {
		_, _ = w.Write(line) // standard error: there is nowhere to report it
	}
}

// noticeHandler passes records on, and tells warnings and errors to lines, where the latest may be missed.
type noticeHandler struct {
	slog.Handler
	lines chan<- string
}

// Handle implements slog.Handler.
func (h noticeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(strings.ToLower(r.Level.String()) + ": " + r.Message)
		r.Attrs(func(a slog.Attr) bool {
			fmt.Fprintf(&b, "  %s=%s", a.Key, a.Value)
			return true
		})
		select {
		case h.lines <- b.String():
		default:
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h noticeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return noticeHandler{h.Handler.WithAttrs(attrs), h.lines}
}

// WithGroup implements slog.Handler.
func (h noticeHandler) WithGroup(name string) slog.Handler {
	return noticeHandler{h.Handler.WithGroup(name), h.lines}
}
