// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// Capture is a file that events are recorded into.
type Capture interface {
	// Write adds events. After an error, what was written before it is whole.
	Write(batch []*model.Event) error
	// Flush brings what was written to the disk.
	Flush() error
	// Size is how long the file is, in bytes.
	Size() int64
	// Events is how many events are in the file: those that wait for Flush are not.
	Events() uint64
	// Close ends the file.
	Close() error
}

// CreateCapture makes a new capture file of what the agent with this status sees. It fails where the
// file exists, unless overwrite.
type CreateCapture func(path string, agent *vigiev1.Status, overwrite bool) (Capture, error)

// CaptureFile is the CreateCapture of the binary.
func CaptureFile(path string, agent *vigiev1.Status, overwrite bool) (Capture, error) {
	w, err := capture.Create(path, capture.Header{BootID: agent.GetBootId(), Host: agent.GetHost(), Kernel: agent.GetKernel(),
		Arch: agent.GetArch(), Version: agent.GetVersion(), Start: time.Now()}, overwrite)
	if err != nil {
		return nil, err // not w: a nil pointer in an interface is not nil
	}
	return w, nil
}

// A crash costs at most what happened since the last flush: flushTicks of tick, a second.
const (
	tick       = 200 * time.Millisecond
	flushTicks = 5
)

// NewRecord is `vigie record`.
func NewRecord(env Env, create CreateCapture) *cobra.Command {
	var to target
	var filter filterFlags
	var limit time.Duration
	var maxSize string
	var overwrite, quiet bool
	cmd := &cobra.Command{
		Use:   "record FILE",
		Short: "Record what happens into a file, for `vigie run --replay`",
		Long: "Record what happens into a file, until ctrl-c, --for or --max-size end it. The processes that run already come first,\n" +
			"so that a replay knows them.\n\n" +
			"The file stays whole when the disk is full or the recording is killed: at most the last second is missing.",
		Example: "  vigie record --for 10m incident.vigie\n  vigie record --workload nginx.service --max-size 100M nginx.vigie\n  vigie run --replay incident.vigie",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(maxSize)
			if err != nil {
				return Cannot(err)
			}
			f, err := filter.proto(env.Now())
			if err != nil {
				return Cannot(err)
			}
			if f.Since != nil || f.Until != nil {
				return Cannot(errors.New("--since and --until are for `vigie events`: a recording begins now, and ends with --for"))
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			r := recorder{env: env, client: client, filter: f, path: args[0], limit: limit, maxSize: size, progress: progressOn(env, quiet)}
			return r.run(cmd.Context(), &to, create, overwrite)
		},
	}
	to.flags(cmd.Flags())
	filter.events(cmd.Flags())
	for _, none := range []string{"since", "until"} {
		_ = cmd.Flags().MarkHidden(none) // fails only for a missing flag
	}
	cmd.Flags().DurationVar(&limit, "for", 0, "end after this time: 30s, 10m, 2h")
	cmd.Flags().StringVar(&maxSize, "max-size", "", "end when the file has this size: 500K, 100M, 2G")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace a file that exists")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "no progress")
	completeFilter(cmd, &to)
	return cmd
}

// recorder writes one capture.
type recorder struct {
	env      Env
	client   vigiev1connect.VigieClient
	filter   *vigiev1.Filter
	path     string
	limit    time.Duration // 0: none
	maxSize  int64         // 0: none
	progress io.Writer

	file    Capture
	started time.Time
	events  uint64
	lost    uint64 // for this recording, as the agent said
	ticks   int
}

var errLargeEnough = errors.New("the file has the size asked for")

func (r *recorder) run(ctx context.Context, to *target, create CreateCapture, overwrite bool) error {
	status, err := r.client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{}))
	if err != nil {
		return to.explain(err)
	}
	if r.file, err = create(r.path, status.Msg.GetStatus(), overwrite); err != nil {
		return Cannot(createError(err))
	}
	r.started = r.env.Now()
	if r.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.limit)
		defer cancel()
	}
	err = r.stream(ctx, status.Msg.GetStatus())
	closeErr := r.file.Close()
	r.clearProgress()
	var from writeError
	switch {
	case errors.As(err, &from):
		return r.writeFailed(from.err)
	case errors.Is(err, errLargeEnough), ctx.Err() != nil:
	case err != nil:
		return fmt.Errorf("%w; %s holds the %d events before", to.explain(err), r.path, r.file.Events())
	}
	if closeErr != nil {
		return r.writeFailed(closeErr)
	}
	return r.summary()
}

func createError(err error) error {
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: choose another name, or replace it with --overwrite", err)
	}
	return err
}

// writeError tells an error of the file from one of the agent.
type writeError struct{ err error }

func (e writeError) Error() string { return e.err.Error() }

func (r *recorder) writeFailed(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("the disk of %s is full: the %d events before that are whole and can be replayed: make room, or record elsewhere", r.path, r.file.Events())
	}
	return fmt.Errorf("%s: %w: the %d events before that are whole and can be replayed", r.path, err, r.file.Events())
}

// stream writes what runs, and then what happens, until ctx ends or the file is large enough. It asks
// for the events since before it asked for the processes, so that none falls between.
func (r *recorder) stream(ctx context.Context, s *vigiev1.Status) error {
	before := s.GetStartTime().AsTime().Add(time.Duration(s.GetUptimeNs())) // by the agent's clock
	if err := r.inventory(ctx, before); err != nil {
		return err
	}
	r.filter.Since = timestamppb.New(before)
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.client.StreamEvents(ctx, connect.NewRequest(&vigiev1.StreamEventsRequest{Filter: r.filter}))
	if err != nil {
		cancel()
		return err
	}
	batches, ended := make(chan []*model.Event), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(batches)
		for stream.Receive() {
			select {
			case batches <- eventsOf(stream.Msg()):
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		<-ended
		_ = stream.Close() // what could not be read was reported
	}()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case batch, ok := <-batches:
			if !ok {
				return cmp.Or(stream.Err(), errors.New("the agent ended the stream"))
			}
			if err := r.write(batch); err != nil {
				return err
			}
		case <-ticker.C:
			if err := r.tick(); err != nil {
				return err
			}
		}
	}
}

func eventsOf(m *vigiev1.StreamEventsResponse) []*model.Event {
	batch := make([]*model.Event, 0, len(m.GetEvents()))
	for _, e := range m.GetEvents() {
		batch = append(batch, wire.FromProto(e))
	}
	return batch
}

// inventory writes the running processes as events that existed before.
func (r *recorder) inventory(ctx context.Context, at time.Time) error {
	f := &vigiev1.Filter{WorkloadNames: r.filter.WorkloadNames, WorkloadKinds: r.filter.WorkloadKinds, Binaries: r.filter.Binaries,
		PidTrees: r.filter.PidTrees, Uids: r.filter.Uids, ExecIds: r.filter.ExecIds}
	procs, err := listProcesses(ctx, r.client, f, false)
	if err != nil {
		return err
	}
	batch := make([]*model.Event, 0, len(procs))
	for _, p := range procs {
		batch = append(batch, &model.Event{Type: model.TypeExec, Time: at, Key: p.Key, TID: p.Key.PID, Process: p, Count: 1,
			PreExisting: true, Exec: &model.Exec{}})
	}
	return r.write(batch)
}

func (r *recorder) write(batch []*model.Event) error {
	if len(batch) == 0 {
		return nil
	}
	if err := r.file.Write(batch); err != nil {
		return writeError{err}
	}
	r.events += uint64(len(batch))
	for _, e := range batch {
		if e.Loss != nil {
			r.lost += e.Loss.Count
		}
	}
	if r.maxSize > 0 && r.file.Size() >= r.maxSize {
		return errLargeEnough
	}
	return nil
}

// tick brings what was written to the file, often enough, and shows how far it is.
func (r *recorder) tick() error {
	if r.ticks++; r.ticks%flushTicks == 0 {
		if err := r.file.Flush(); err != nil {
			return writeError{err}
		}
		if r.maxSize > 0 && r.file.Size() >= r.maxSize {
			return errLargeEnough
		}
	}
	if r.progress != nil {
		fmt.Fprintf(r.progress, "\r\x1b[Krecording %s: %d events, %s, %s, lost %d; ctrl-c ends it", term.Escape(r.path), r.events,
			show.Bytes(uint64(r.file.Size())), r.env.Now().Sub(r.started).Truncate(time.Second), r.lost)
	}
	return nil
}

// progressOn is where progress goes: standard error, when somebody looks at it.
func progressOn(env Env, quiet bool) io.Writer {
	if quiet || !term.ScreenOf(env.Err, env.Getenv).Terminal {
		return nil
	}
	return env.Err
}

func (r *recorder) clearProgress() {
	if r.progress != nil {
		fmt.Fprint(r.progress, "\r\x1b[K")
	}
}

func (r *recorder) summary() error {
	lost := "nothing was lost"
	if r.lost > 0 {
		lost = fmt.Sprintf("%d events were LOST, where and when stands in the file", r.lost)
	}
	_, err := fmt.Fprintf(r.env.Out, "recorded %d events in %s into %s (%s); %s\nsee them with: vigie run --replay %s\n", r.events,
		show.Duration(r.env.Now().Sub(r.started)), term.Escape(r.path), show.Bytes(uint64(r.file.Size())), lost, term.Args([]string{r.path}))
	return err
}

// parseSize reads a number of bytes with an optional binary unit.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	digits := strings.TrimRight(strings.ToUpper(s), "KMGTIB")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s)[len(digits):], "B"), "I")
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	n, err := strconv.ParseInt(digits, 10, 64)
	bits, ok := shift[unit]
	if err != nil || !ok || n <= 0 || n > 1<<(62-bits) {
		return 0, fmt.Errorf("--max-size %q: give a number of bytes, or one with K, M, G or T: 100M", s)
	}
	return n << bits, nil
}
