// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"
	"time"
	"unsafe"

	"github.com/vigie-io/vigie/internal/model"
)

// The default bounds: an hour of a quiet host, within the agent's memory budget when idle.
const (
	DefaultMaxEvents = 50_000
	DefaultMaxBytes  = 16 << 20
)

// Config bounds a Memory; zero fields take the defaults.
type Config struct {
	MaxEvents int
	MaxBytes  int // of events by estimate, see sizeOf
}

// Memory is a ring of the last events. Safe for concurrent use.
type Memory struct {
	mu       sync.RWMutex
	ring     []entry
	first    uint64 // position of the oldest event held; the first event ever has 1
	next     uint64 // position of the next event
	bytes    int
	maxBytes int
	since    time.Time // nothing after it is missing
}

type entry struct {
	event *model.Event
	size  int
}

// NewMemory returns an empty store that is complete since start, the moment from which on everything is
// appended to it.
func NewMemory(c Config, start time.Time) *Memory {
	if c.MaxEvents <= 0 {
		c.MaxEvents = DefaultMaxEvents
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	return &Memory{ring: make([]entry, c.MaxEvents), first: 1, next: 1, maxBytes: c.MaxBytes, since: start}
}

// Append adds a batch, in order, and evicts the oldest events where there is no room.
func (m *Memory) Append(batch []*model.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range batch {
		size := sizeOf(e)
		for m.next > m.first && (m.next-m.first == uint64(len(m.ring)) || m.bytes+size > m.maxBytes) {
			m.evict()
		}
		*m.at(m.next) = entry{e, size}
		m.bytes += size
		m.next++
	}
}

// evict drops the oldest event.
func (m *Memory) evict() {
	oldest := m.at(m.first)
	// The events after it are whole; it may have shared its moment with the next.
	m.since = oldest.event.Time.Add(1)
	m.bytes -= oldest.size
	*oldest = entry{}
	m.first++
}

func (m *Memory) at(position uint64) *entry { return &m.ring[position%uint64(len(m.ring))] }

// read copies events to buf. Oldest first: those from cursor on (0: from the beginning). Newest first:
// those before cursor (0: from the end), the newest of them first. start is the position of the first.
func (m *Memory) read(buf []*model.Event, cursor uint64, newestFirst bool) (events []*model.Event, start uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if newestFirst {
		if cursor == 0 || cursor > m.next {
			cursor = m.next
		}
		for at := cursor; at > m.first && len(events) < len(buf); at-- {
			events = append(buf[:len(events)], m.at(at-1).event)
		}
		return events, cursor - 1
	}
	start = max(cursor, m.first)
	for at := start; at < m.next && len(events) < len(buf); at++ {
		events = append(buf[:len(events)], m.at(at).event)
	}
	return events, start
}

// firstPosition is where the oldest event stands that is held; where the next one will when there is none.
func (m *Memory) firstPosition() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.first
}

// lastPosition is where the youngest event stands; 0 when there was none.
func (m *Memory) lastPosition() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.next - 1
}

// Stats is what a Memory holds.
type Stats struct {
	Events, MaxEvents int
	Bytes, MaxBytes   int
	Evicted           uint64
	CompleteSince     time.Time
}

// Stats says what m holds.
func (m *Memory) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Stats{Events: int(m.next - m.first), MaxEvents: len(m.ring), Bytes: m.bytes, MaxBytes: m.maxBytes,
		Evicted: m.first - 1, CompleteSince: m.since}
}

// sizeOf estimates what e keeps in memory. A process is counted with the events that begin it: all
// others share it.
func sizeOf(e *model.Event) int {
	n := int(unsafe.Sizeof(*e))
	switch {
	case e.ExecFailed != nil:
		n += int(unsafe.Sizeof(*e.ExecFailed)) + len(e.ExecFailed.Path) + sizeOfTexts(e.ExecFailed.Args)
	case e.Credential != nil:
		n += int(unsafe.Sizeof(*e.Credential))
	case e.Mount != nil:
		n += int(unsafe.Sizeof(*e.Mount)) + len(e.Mount.Source) + len(e.Mount.Target)
	case e.File != nil:
		n += int(unsafe.Sizeof(*e.File)) + len(e.File.Path) + len(e.File.NewPath)
	case e.Socket != nil:
		n += int(unsafe.Sizeof(*e.Socket)) + len(e.Socket.Path) + len(e.Socket.RemoteName)
	case e.DNS != nil:
		n += int(unsafe.Sizeof(*e.DNS)) + len(e.DNS.Name)
		for _, a := range e.DNS.Answers {
			n += int(unsafe.Sizeof(a)) + len(a.Data)
		}
	default:
		n += 64
	}
	if p := e.Process; p != nil && (e.Type == model.TypeExec || e.Type == model.TypeFork) {
		n += int(unsafe.Sizeof(*p)) + len(p.ExecID) + len(p.ParentExecID) + len(p.Binary) + len(p.CWD)
		if !p.Forked {
			n += sizeOfTexts(p.Args)
		}
	}
	return n
}

func sizeOfTexts(list []string) int {
	n := len(list) * int(unsafe.Sizeof(""))
	for _, s := range list {
		n += len(s)
	}
	return n
}
