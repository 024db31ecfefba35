// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/model"
)

// terminal is a pseudo-terminal: the program's end, and what it wrote.
type terminal struct {
	slave, master *os.File

	mu      sync.Mutex
	written bytes.Buffer
}

func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this host gives no pseudo-terminals: %v", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this host gives no pseudo-terminals: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{slave: slave, master: master}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.written.Write(buf[:n])
			term.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = slave.Close() // the reader sees the end of it
		<-done
		_ = master.Close()
	})
	return term
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.written.String()
}

func (x *terminal) waitFor(t *testing.T, want string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(x.text(), want) {
		if time.Now().After(deadline) {
			t.Fatalf("the terminal does not show %q: %q", want, x.text())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (x *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// start runs a command line on the terminal; the returned function waits for its end.
func (x *terminal) start(t *testing.T, environment map[string]string, run Agent, args ...string) (wait func() (code int, stderr string)) {
	t.Helper()
	var errs bytes.Buffer
	env := Env{In: x.slave, Out: x.slave, Err: &errs, Getenv: func(k string) string { return environment[k] }, Environ: []string{"TERM=xterm-256color"},
		Now: time.Now, Version: "1.2.3"}
	code := make(chan int, 1)
	go func() {
		code <- Execute(t.Context(), env, New(env, NewRun(env, agent.Default(), run), NewTop(env), NewEvents(env)), args)
	}()
	return func() (int, string) { return <-code, errs.String() }
}

func TestRunShowsWhatHappensAndHoldsItsLog(t *testing.T) {
	x := newTerminal(t, 120, 30)
	socket := filepath.Join(t.TempDir(), "vigie.sock")
	wait := x.start(t, nil, func(ctx context.Context, c agent.Config, d agent.Deps) error {
		d.Log.Info("sensors run")
		d.Log.Warn("something is odd")
		l, err := net.Listen("unix", c.Socket)
		if err != nil {
			return err
		}
		fake := &fakeAgent{events: []*model.Event{execEvent(proc(7, 1, 3, "web.service", "/opt/web", "--port=80"))}}
		fake.serve(t, l)
		<-ctx.Done()
		return ctx.Err()
	}, "run", "--socket", socket)
	x.waitFor(t, "/opt/web --port=80")
	x.waitFor(t, "something is odd")
	x.press(t, "\t")
	x.waitFor(t, "PROCS")
	x.press(t, "q")
	code, stderr := wait()
	if code != 0 || !strings.Contains(stderr, "sensors run") || !strings.Contains(stderr, "something is odd") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	x.waitFor(t, "\x1b[?1049l") // the screen of before is back
}

func TestRunThatCannotStartSaysWhyAfterwards(t *testing.T) {
	x := newTerminal(t, 80, 24)
	wait := x.start(t, nil, func(context.Context, agent.Config, agent.Deps) error { return errors.New("another agent runs") },
		"run", "--socket", filepath.Join(t.TempDir(), "x.sock"))
	if code, stderr := wait(); code != ExitFailed || !strings.Contains(stderr, "another agent runs") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestQuietRunLeavesTheTerminalAlone(t *testing.T) {
	x := newTerminal(t, 80, 24)
	wait := x.start(t, nil, func(_ context.Context, _ agent.Config, d agent.Deps) error { d.Log.Info("hello"); return nil }, "run", "--quiet")
	if code, stderr := wait(); code != 0 || !strings.Contains(stderr, "hello") || x.text() != "" {
		t.Errorf("exit %d: %s, terminal %q", code, stderr, x.text())
	}
}

func TestTopEndsWithItsKey(t *testing.T) {
	x := newTerminal(t, 100, 30)
	socket := (&fakeAgent{processes: testProcesses()}).start(t)
	wait := x.start(t, nil, nil, "top", "--socket", socket)
	x.waitFor(t, "nginx.service")
	x.press(t, "\x03") // ctrl-c
	if code, stderr := wait(); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestColourIsForTerminalsThatWantIt(t *testing.T) {
	long := proc(7, 1, 3, "web.service", "/opt/web", strings.Repeat("x", 200))
	for _, c := range []struct {
		env    map[string]string
		colour bool
	}{{nil, true}, {map[string]string{"NO_COLOR": "1"}, false}, {map[string]string{"TERM": "dumb"}, false}} {
		x := newTerminal(t, 80, 24)
		socket := (&fakeAgent{events: []*model.Event{execEvent(long)}}).start(t)
		wait := x.start(t, c.env, nil, "events", "--socket", socket)
		if code, stderr := wait(); code != 0 {
			t.Fatal(stderr)
		}
		x.waitFor(t, "…\r\n")
		if got := strings.Contains(x.text(), "\x1b["); got != c.colour {
			t.Errorf("%v: colour %v: %q", c.env, got, x.text())
		}
	}
}
