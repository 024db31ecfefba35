// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// Deadlines for an agent that hangs.
const (
	readyTimeout = 3 * time.Minute // also with ten thousand policies to load
	stopTimeout  = 60 * time.Second
)

// agent is a running agent with folders, socket and lock of its own.
type agent struct {
	pid       int
	dir       string
	json      string // its export
	policyDir string // that it watches unless it was told otherwise; not made yet
	marker    string // program that marks a place in the export
	cmd       *exec.Cmd
	log       bytes.Buffer
	exited    chan error
	ended     bool // stop or kill has seen its end
	client    vigiev1connect.VigieClient
	started   time.Time     // just before its exec
	ready     time.Duration // from started to READY=1
}

// startAgent starts binary and returns when it has said that it is ready, which it says to a service manager
// (sd_notify(3)): here, to us.
func startAgent(ctx context.Context, binary, parent string, extra ...string) (*agent, error) {
	dir, err := os.MkdirTemp(parent, "agent-")
	if err != nil {
		return nil, fmt.Errorf("make the agent's directory: %w", err)
	}
	a := &agent{dir: dir, json: filepath.Join(dir, "events.json"), policyDir: filepath.Join(dir, "policies"), marker: filepath.Join(dir, "marker"), exited: make(chan error, 1)}
	if err := writePrograms(a.marker, filepath.Join(dir, "unused")); err != nil {
		return nil, err
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for readiness: %w", err)
	}
	defer notify.Close()
	socket := filepath.Join(dir, "s")
	a.cmd = exec.Command(binary, append([]string{"run", "--quiet", "--state-dir", filepath.Join(dir, "state"), "--socket", socket,
		"--http", "off", "--tetragon-api", "off", "--hubble-api", "off", "--lock-file", filepath.Join(dir, "lock"), "--policy-dir", a.policyDir,
		"--rules-dir", filepath.Join(dir, "rules"), "--export-json", a.json}, extra...)...)
	a.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	a.cmd.Stderr = &a.log
	// An agent must not outlive the benchmark, whatever becomes of it.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	a.started = time.Now()
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	a.pid = a.cmd.Process.Pid
	go func() { a.exited <- a.cmd.Wait() }()
	if err := a.awaitReady(ctx, notify); err != nil {
		return nil, errors.Join(err, a.kill())
	}
	a.client = vigiev1connect.NewVigieClient(&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}, "http://vigie")
	return a, nil
}

func (a *agent) awaitReady(ctx context.Context, notify *net.UnixConn) error {
	said := make(chan error, 1)
	go func() {
		b := make([]byte, 512)
		for {
			n, err := notify.Read(b)
			if err != nil || strings.Contains(string(b[:n]), "READY=1") {
				a.ready = time.Since(a.started)
				said <- err
				return
			}
		}
	}()
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case err := <-said:
		return err
	case err := <-a.exited:
		a.exited <- err
		return fmt.Errorf("the agent ended before it was ready: %w: %s", err, a.lastLog())
	case <-timeout.C:
		return fmt.Errorf("the agent was not ready within %v: %s", readyTimeout, a.lastLog())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the agent as a service manager would and waits for it. Its folder stays for who counts; remove it with
// discard.
func (a *agent) stop() error {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	select {
	case err := <-a.exited:
		a.ended = true
		if err != nil {
			return fmt.Errorf("the agent did not stop cleanly: %w: %s", err, a.lastLog())
		}
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("the agent did not stop within %v", stopTimeout), a.kill())
	}
}

func (a *agent) kill() error {
	err := a.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-a.exited //nolint:errcheck // killed, as asked
	a.ended = true
	return err
}

func (a *agent) discard() { _ = os.RemoveAll(a.dir) }

func (a *agent) lastLog() string {
	lines := strings.Split(strings.TrimSpace(a.log.String()), "\n")
	return lines[len(lines)-1]
}

// cpu is the time that all threads of the agent, ended ones included, have run. It is the kernel's own sum and not
// the ticks of /proc/PID/stat (clock_getcpuclockid(3) makes a clock's number of a pid in this way).
func (a *agent) cpu() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^a.pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("read the agent's CPU clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// memory is the agent's resident set and its peak, in bytes.
func (a *agent) memory() (rss, peak uint64, err error) { return memoryOf(a.pid) }

// memoryOf is a process's resident set and its peak, in bytes.
func memoryOf(pid int) (rss, peak uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read a process's memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			rss = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return rss, peak, nil
}

func (a *agent) status(ctx context.Context) (*pb.Status, error) {
	r, err := a.client.GetStatus(ctx, connect.NewRequest(&pb.GetStatusRequest{}))
	if err != nil {
		return nil, fmt.Errorf("ask the agent for its status: %w", err)
	}
	return r.Msg.Status, nil
}

// caughtUp returns when the agent has written all that happened before the call: it runs the marker and waits until
// its exit is in the export.
func (a *agent) caughtUp() error {
	f, err := os.Open(a.json)
	if err != nil {
		return fmt.Errorf("open the export: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(0, 2); err != nil {
		return fmt.Errorf("find the end of the export: %w", err)
	}
	if err := exec.Command(a.marker).Run(); err != nil {
		return fmt.Errorf("run the marker: %w", err)
	}
	want, buf, kept := []byte(`"binary":"`+a.marker+`"`), make([]byte, 1<<20), []byte(nil)
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); {
		n, _ := f.Read(buf)
		if n == 0 {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		kept = append(kept, buf[:n]...)
		for {
			line, rest, whole := bytes.Cut(kept, []byte("\n"))
			if !whole {
				break
			}
			if bytes.Contains(line, []byte(`"type":"exit"`)) && bytes.Contains(line, want) {
				return nil
			}
			kept = rest
		}
	}
	return fmt.Errorf("the export did not show the marker within %v: is the agent behind, or did it lose events?", readyTimeout)
}
