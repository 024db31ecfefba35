// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the real binary as a user would and looks at what it prints, writes and leaves behind.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// deadline bounds how long a test waits for something that must happen.
const deadline = 30 * time.Second

// binary builds bin/vigie's twin once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vigie-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vigie")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/vigie-io/vigie/cmd/vigie")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build vigie: %w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	if task := os.Getenv("VIGIE_E2E_PEER"); task != "" {
		if err := peer(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func vigie(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// agent is a running `vigie run`.
type agent struct {
	t      *testing.T
	cmd    *exec.Cmd
	ns     *testkit.NetNS // that it runs in; nil: this process's
	dir    string
	socket string
	json   string // the export file
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startAgent starts an agent of its own socket, state and lock, and waits until it is ready.
func startAgent(t *testing.T, args ...string) *agent {
	t.Helper()
	testkit.RequireBPF(t)
	a := newAgent(t, t.TempDir(), args...)
	a.start()
	return a
}

func newAgent(t *testing.T, dir string, args ...string) *agent {
	t.Helper()
	a := &agent{t: t, dir: dir, socket: filepath.Join(dir, "vigie.sock"), json: filepath.Join(dir, "events.json")}
	args = append([]string{"run", "--quiet", "--state-dir", filepath.Join(dir, "state"), "--socket", a.socket, "--http", "off", "--tetragon-api", "off", "--hubble-api", "off",
		"--lock-file", filepath.Join(dir, "lock"), "--export-json", a.json}, args...)
	a.cmd = exec.Command(vigie(t), args...)
	a.cmd.Stderr = &a.log
	return a
}

func (a *agent) start() {
	a.t.Helper()
	a.startUntil(func(health map[string]any) bool { return health["ready"] == true })
}

// startUntil is start for an agent that will not be ready: up says by its health that it runs.
func (a *agent) startUntil(up func(health map[string]any) bool) {
	a.t.Helper()
	start := a.cmd.Start
	if a.ns != nil {
		start = func() error { return a.ns.Run(a.cmd.Start) }
	}
	if err := start(); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		if a.t.Failed() {
			a.t.Logf("the agent's log:\n%s", a.log.String())
		}
	})
	a.await("the agent to run", func() bool { return up(a.call("Health")) })
}

// stop ends the agent as a service manager does.
func (a *agent) stop() {
	a.t.Helper()
	if err := a.terminate(); err != nil {
		a.t.Errorf("the agent ended with %v:\n%s", err, a.log.String())
	}
}

// terminate is stop for an agent that may have something to complain about.
func (a *agent) terminate() error {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	return a.cmd.Wait()
}

// call asks the API with an empty request; nil when nobody answers.
func (a *agent) call(method string) map[string]any {
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", a.socket)
		}}}
	resp, err := client.Post("http://vigie/vigie.v1.Vigie/"+method, "application/json", strings.NewReader("{}"))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer map[string]any
	if json.NewDecoder(resp.Body).Decode(&answer) != nil {
		return nil
	}
	return answer
}

func (a *agent) await(what string, ok func() bool) {
	a.t.Helper()
	await(a.t, what, ok)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v for %s", deadline, what)
}

// events reads the export file: every line must be one JSON object with a type and a time.
func (a *agent) events() []map[string]any {
	a.t.Helper()
	b, err := os.ReadFile(a.json)
	if err != nil {
		a.t.Fatal(err)
	}
	var out []map[string]any
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			a.t.Fatalf("line is no JSON object: %v\n%q", err, line)
		}
		out = append(out, e)
	}
	return out
}

// awaitEvent waits for an event in the export file.
func (a *agent) awaitEvent(what string, match func(map[string]any) bool) map[string]any {
	a.t.Helper()
	var found map[string]any
	a.await(what, func() bool {
		for _, e := range a.events() {
			if match(e) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// get follows a path of names through nested objects; nil when there is none.
func get(e map[string]any, path string) any {
	var v any = e
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// run runs the binary to its end and returns what it printed and its exit code.
func run(t *testing.T, attr *syscall.SysProcAttr, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, vigie(t), args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &errs, attr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
