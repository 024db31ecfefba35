// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// Source is the agent that the view looks at.
type Source interface {
	// Follow hands out events, recent ones first, until ctx ends or the agent goes.
	Follow(ctx context.Context, emit func([]*model.Event)) error
	// Processes lists the running processes, host by host.
	Processes(ctx context.Context) ([]Host, error)
	// Status asks how the agent is doing.
	Status(ctx context.Context) (*vigiev1.Status, *vigiev1.HealthResponse, error)
}

// Host is the processes of one host.
type Host struct {
	Node      string // as a relay calls it; empty for that of an agent
	Processes []*model.Process
}

const (
	// redraw is how often new events reach the screen: often enough to look immediate, seldom enough to
	// cost little at any rate of events.
	redraw = 100 * time.Millisecond
	// pollEvery is how often status and processes are asked for.
	pollEvery = time.Second
	// manyProcesses is from where on the process list is asked for only every slowPoll.
	manyProcesses = 3000
	slowPoll      = 10 * time.Second
	// retry is the pause before an agent that does not answer is asked again.
	retry = 500 * time.Millisecond
	// pendingLimit bounds the events that wait for the screen. When it is reached the stream is not
	// read, and the agent drops for this client and says so.
	pendingLimit = 50000
)

// Options configure Run.
type Options struct {
	Start   Tab
	By      Grouping // whose figures the page Top has at first
	Style   term.Style
	In      io.Reader
	Out     io.Writer
	Environ []string
	Now     func() time.Time
	// Starting is shown until the agent answers for the first time; without it, why it does not.
	Starting string
	// Width and Height are for an output that cannot be asked how large it is; 0 asks it.
	Width, Height int
	// Notices are lines to show at the bottom, the latest stays; nil for none.
	Notices <-chan string
	// Explain puts an error of the source into words; nil leaves it.
	Explain func(error) error
}

// Run shows the view until the user quits or ctx ends; neither is an error. The terminal is restored
// whatever happens.
func Run(ctx context.Context, source Source, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	settings := []tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithEnvironment(o.Environ),
		tea.WithoutSignalHandler(), tea.WithFPS(20)}
	if o.Width > 0 && o.Height > 0 {
		settings = append(settings, tea.WithWindowSize(o.Width, o.Height))
	}
	m := New(o.Start, o.Style, o.Now())
	m.starting, m.by = o.Starting, o.By
	p := tea.NewProgram(m, settings...)
	if o.Explain == nil {
		o.Explain = func(err error) error { return err }
	}
	f := &feeder{source: source, program: p, options: o, wake: make(chan struct{}, 1)}
	f.space = sync.NewCond(&f.mu)
	var wg sync.WaitGroup
	wg.Go(func() { f.follow(ctx) })
	wg.Go(func() { f.poll(ctx) })
	wg.Go(func() { f.draw(ctx) })
	_, err := p.Run()
	cancel()
	f.stop()
	wg.Wait()
	if err != nil && !errors.Is(err, tea.ErrProgramKilled) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("show live view: %w", err)
	}
	return nil
}

// feeder carries what the source says to the program.
type feeder struct {
	source  Source
	program *tea.Program
	options Options
	wake    chan struct{} // the connection came up: ask at once

	mu      sync.Mutex
	space   *sync.Cond
	pending []*model.Event
	stopped bool
}

func (f *feeder) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.space.Broadcast()
}

// follow keeps a stream open.
func (f *feeder) follow(ctx context.Context) {
	for ctx.Err() == nil {
		first := true
		err := f.source.Follow(ctx, func(batch []*model.Event) {
			if first {
				first = false
				f.program.Send(connectionMsg{})
				select {
				case f.wake <- struct{}{}:
				default:
				}
			}
			f.put(batch)
		})
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the agent ended the stream")
		}
		f.program.Send(connectionMsg{f.options.Explain(err)})
		sleep(ctx, retry)
	}
}

func (f *feeder) put(batch []*model.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.pending) >= pendingLimit && !f.stopped {
		f.space.Wait()
	}
	f.pending = append(f.pending, batch...)
}

// draw sends what waits, and the time.
func (f *feeder) draw(ctx context.Context) {
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case line, ok := <-f.options.Notices:
			if !ok {
				f.options.Notices = nil
				continue
			}
			f.program.Send(noticeMsg(line))
		case <-ticker.C:
			f.mu.Lock()
			batch := f.pending
			f.pending = nil
			f.mu.Unlock()
			f.space.Broadcast()
			f.program.Send(tickMsg(f.options.Now()))
			if len(batch) > 0 {
				f.program.Send(eventsMsg(batch))
			}
		}
	}
}

// poll asks for status and processes.
func (f *feeder) poll(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last time.Time
	count := 0
	for ctx.Err() == nil {
		if s, h, err := f.source.Status(ctx); err == nil {
			f.program.Send(statusMsg{s, h})
		}
		if now := f.options.Now(); count < manyProcesses || now.Sub(last) > slowPoll {
			if hosts, err := f.source.Processes(ctx); err == nil {
				count, last = 0, now
				for _, h := range hosts {
					count += len(h.Processes)
				}
				f.program.Send(processesMsg(hosts))
			}
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-f.wake:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
