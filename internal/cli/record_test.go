// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// fakeCapture keeps what is recorded, and fails after some events when told. One goroutine writes it.
type fakeCapture struct {
	events    []*model.Event
	failAfter int
	fail      error
	written   chan struct{} // told after every write
	closed    bool
}

func (c *fakeCapture) Write(batch []*model.Event) error {
	if c.fail != nil && len(c.events)+len(batch) > c.failAfter {
		return c.fail
	}
	c.events = append(c.events, batch...)
	if c.written != nil {
		c.written <- struct{}{}
	}
	return nil
}

func (c *fakeCapture) Flush() error   { return nil }
func (c *fakeCapture) Events() uint64 { return uint64(len(c.events)) }
func (c *fakeCapture) Size() int64    { return int64(len(c.events)) * 1000 }
func (c *fakeCapture) Close() error   { c.closed = true; return nil }

func (c *fakeCapture) create(string, *vigiev1.Status, bool) (Capture, error) { return c, nil }

func recordWith(ctx context.Context, t *testing.T, create CreateCapture, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	env := Env{Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: func() time.Time { return testNow }}
	code = Execute(ctx, env, New(env, NewRecord(env, create)), append([]string{"record"}, args...))
	return code, out.String(), errs.String()
}

func TestRecordBeginsWithWhatRunsAndMissesNothing(t *testing.T) {
	a := &fakeAgent{processes: testProcesses(), live: make(chan []*model.Event, 1),
		status: &vigiev1.Status{StartTime: timestamppb.New(testNow), UptimeNs: int64(time.Minute)}}
	socket := a.start(t)
	c := &fakeCapture{written: make(chan struct{}, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	a.live <- []*model.Event{execEvent(a.processes[2]), lossEvent(4)}
	go func() {
		<-c.written // the processes
		<-c.written // the events
		cancel()
	}()
	code, out, stderr := recordWith(ctx, t, c.create, "--socket", socket, "--binary", "nginx", "--where", "true", "x.vigie")
	if code != 0 || stderr != "" || !strings.Contains(out, "recorded 7 events") || !strings.Contains(out, "4 events were LOST") ||
		!strings.Contains(out, "vigie run --replay x.vigie") {
		t.Errorf("exit %d, %s %s", code, out, stderr)
	}
	if !c.closed || len(c.events) != 7 || !c.events[0].PreExisting || c.events[5].PreExisting || c.events[5].Process.Binary != "/usr/sbin/nginx" {
		t.Errorf("closed %v, events %v", c.closed, c.events)
	}
	r := a.lastStream(t)
	if !r.Filter.Since.AsTime().Equal(testNow.Add(time.Minute)) || r.Filter.Where != "true" || r.NoFollow {
		t.Errorf("asked for %v", r)
	}
	if f := a.listed[0].Filter; f.Where != "" || f.Binaries[0] != "nginx" {
		t.Errorf("asked for processes with %v", f)
	}
}

func TestRecordEnds(t *testing.T) {
	for name, c := range map[string]struct {
		capture fakeCapture
		create  error
		args    []string
		code    int
		says    string
	}{
		"by size":         {args: []string{"--max-size", "2K"}, code: 0, says: "recorded 5 events"},
		"by time":         {args: []string{"--for", "1ns"}, code: 0, says: "recorded 0 events"},
		"disk full":       {capture: fakeCapture{failAfter: 5, fail: &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}}, code: 1, says: "disk of x.vigie is full: the 5 events before that are whole"},
		"write error":     {capture: fakeCapture{fail: errors.New("i/o error")}, code: 1, says: "x.vigie: i/o error"},
		"agent ends":      {code: 1, says: "x.vigie holds the 6 events before"},
		"cannot create":   {create: os.ErrExist, code: 2, says: "file already exists: choose another name"},
		"bad size":        {args: []string{"--max-size", "12X"}, code: 2, says: "100M"},
		"size overflow":   {args: []string{"--max-size", "9999999999999T"}, code: 2, says: "100M"},
		"since":           {args: []string{"--since", "5m"}, code: 2, says: "a recording begins now"},
		"file is missing": {args: []string{"another"}, code: 2, says: "write `vigie record FILE`"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &fakeAgent{processes: testProcesses(), live: make(chan []*model.Event, 1)}
			a.live <- []*model.Event{execEvent(testProcesses()[2])}
			close(a.live)
			create := c.capture.create
			if c.create != nil {
				create = func(string, *vigiev1.Status, bool) (Capture, error) { return nil, c.create }
			}
			code, out, stderr := recordWith(t.Context(), t, create, append(c.args, "--socket", a.start(t), "x.vigie")...)
			if code != c.code || !strings.Contains(out+stderr, c.says) {
				t.Errorf("exit %d, %s %s; want %d, %q", code, out, stderr, c.code, c.says)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"": 0, "1": 1, "500K": 500 << 10, "100m": 100 << 20, "2GiB": 2 << 30, "1TB": 1 << 40} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"x", "-1", "0", "1X", "1KK", "M"} {
		if n, err := parseSize(in); err == nil {
			t.Errorf("%q: %d", in, n)
		}
	}
}
