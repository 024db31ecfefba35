// SPDX-License-Identifier: Apache-2.0

package servers

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
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// agent is a running `vigie run` with a socket, state and lock of its own.
type agent struct {
	t      *testing.T
	dir    string
	socket string
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

// startAgent starts an agent and waits until it is ready. It remembers enough to learn from.
func startAgent(t *testing.T) *agent {
	t.Helper()
	dir := t.TempDir()
	a := &agent{t: t, dir: dir, socket: filepath.Join(dir, "vigie.sock")}
	cmd := exec.Command(program(t, "vigie"), "run", "--quiet", "--state-dir", filepath.Join(dir, "state"), "--socket", a.socket,
		"--http", "off", "--tetragon-api", "off", "--hubble-api", "off", "--lock-file", filepath.Join(dir, "lock"), "--policy-dir", filepath.Join(dir, "policies"),
		"--rules", "off", "--memory-events", "400000",
		// The roots of sites are overlays. No open on the host's own file system is ever held up by this agent.
		"--fanotify-mounts", "overlay")
	cmd.Stderr = &a.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM} // with the thread that starts it, which stays
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		// Before others, as a service that is asked before files are opened has to run: where it gets no processor for half
		// a second its watchdog answers, and allows.
		err := unix.Setpriority(unix.PRIO_PROCESS, 0, -10)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			<-ended
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer close(ended)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the agent's log:\n%s", a.log.String())
		}
	})
	await(t, "the agent to be ready", func() bool {
		health, err := a.call("Health", nil)
		return err == nil && health["ready"] == true
	})
	return a
}

// call asks the API.
func (a *agent) call(method string, request any) (map[string]any, error) {
	body := []byte("{}")
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", a.socket)
		}}}
	resp, err := client.Post("http://vigie/vigie.v1.Vigie/"+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %v", method, answer["message"])
	}
	return answer, nil
}

// cli runs a command against the agent.
func (a *agent) cli(args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(a.t, "vigie"), append(args, "--socket", a.socket)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// learn has the agent write a policy from what a unit did. Its text, and what is said about it.
func (a *agent) learn(u *unit, name string) (policy, notes string) {
	a.t.Helper()
	file := filepath.Join(a.dir, name+".yaml")
	_, notes, err := a.cli("policy", "learn", "--workload", u.name, "--name", name, "-o", file, "--quiet")
	if err != nil {
		a.t.Fatalf("learn a policy: %v\n%s", err, notes)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b), notes
}

// try asks whether a policy could be applied.
func (a *agent) try(policy string) error {
	return a.apply(policy, "--dry-run")
}

// simulate asks what a policy would have denied of all that happened. Error: something.
func (a *agent) simulate(policy string) (string, error) {
	out, errs, err := a.cli("policy", "simulate", "--fail", "-f", a.file(policy))
	return out + errs, err
}

// file has a policy in it.
func (a *agent) file(policy string) string {
	a.t.Helper()
	name := filepath.Join(a.dir, "policy.yaml")
	if err := os.WriteFile(name, []byte(policy), 0o644); err != nil {
		a.t.Fatal(err)
	}
	return name
}

// apply brings a policy in force.
func (a *agent) apply(policy string, flags ...string) error {
	a.t.Helper()
	if _, errs, err := a.cli(append([]string{"policy", "apply", "-f", a.file(policy)}, flags...)...); err != nil {
		return fmt.Errorf("apply a policy: %w: %s", err, errs)
	}
	return nil
}

// verdict is what the tests look at of one, and of its event.
type verdict struct {
	seq                                               uint64
	binary, args                                      string
	action, policy, rule, hook, guarantee             string
	operation, path, protocol, local, remote, subject string
}

// String is a verdict in one line.
func (v *verdict) String() string {
	return fmt.Sprintf("%s %s %s by %s (%s %s, %s)", v.action, v.operation, v.object(), v.binary, v.policy, v.rule, v.hook)
}

// object is what was tried to be used.
func (v *verdict) object() string {
	object := v.path + v.subject
	switch v.operation {
	case "bind", "listen":
		object += v.local
	case "connect", "send", "receive":
		object += v.remote
	}
	return object
}

// verdicts are those after a sequence number, in their order. There are no policies but those of the test.
func (a *agent) verdicts(after uint64) []*verdict {
	a.t.Helper()
	answer, err := a.call("QueryEvents", map[string]any{"page_size": 1000, "newest_first": true,
		"filter": map[string]any{"types": []string{"verdict"}}})
	if err != nil {
		a.t.Fatalf("ask for verdicts: %v", err)
	}
	var out []*verdict
	events, _ := answer["events"].([]any)
	for _, e := range events {
		e, _ := e.(map[string]any)
		if v := newVerdict(e); v.seq > after {
			out = append([]*verdict{v}, out...)
		}
	}
	return out
}

func newVerdict(event map[string]any) *verdict {
	inner, _ := event["verdict"].(map[string]any)
	process, _ := event["process"].(map[string]any)
	text := func(m map[string]any, name string) string {
		if m[name] == nil {
			return ""
		}
		return fmt.Sprint(m[name])
	}
	address := func(which string) string {
		if inner[which+"_address"] == nil {
			return ""
		}
		return net.JoinHostPort(text(inner, which+"_address"), text(inner, which+"_port"))
	}
	v := &verdict{binary: text(process, "binary"), args: text(process, "args"), action: text(inner, "action"), policy: text(inner, "policy"),
		rule: text(inner, "rule"), hook: text(inner, "hook"), guarantee: text(inner, "guarantee"), operation: text(inner, "operation"),
		path: text(inner, "path"), protocol: text(inner, "protocol"), subject: text(inner, "subject"),
		local: address("local"), remote: address("remote")}
	_, _ = fmt.Sscan(text(event, "seq"), &v.seq) // int64 is a text in protobuf's JSON
	return v
}

// lastSeq is the number of the newest verdict.
func (a *agent) lastSeq() uint64 {
	a.t.Helper()
	list := a.verdicts(0)
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].seq
}

func lines(list []*verdict) string {
	var b strings.Builder
	for _, v := range list {
		fmt.Fprintf(&b, "  %s\n", v)
	}
	return b.String()
}
