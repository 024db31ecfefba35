// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// nodeAgent is a vigie that runs on a node, in the node's namespaces, as a program of its own.
type nodeAgent struct {
	cluster      *lab.Cluster
	binary, dir  string // dir is seen from the node, too
	node         string
	args         []string
	stop         func()
	stopWatching func()
	logged       *voice
	kept         sync.Once // that it ends with the test

	mu   sync.Mutex
	seen []*sighting
	lost bool
}

// sighting is as much of an event as the tests look at.
type sighting struct {
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Process *program  `json:"process"`
	// PreExisting: it was there before the agent.
	PreExisting bool `json:"pre_existing"`
	Loss        struct{ Reason string }
	Flow        *struct {
		Protocol    string `json:"protocol"`
		Direction   string `json:"direction"`
		Source      end    `json:"source"`
		Destination end    `json:"destination"`
		Service     *struct {
			Name, Namespace string
		} `json:"service"`
	} `json:"flow"`
}

type program struct {
	PID      uint32   `json:"pid"`
	Binary   string   `json:"binary"`
	Args     []string `json:"args"`
	Workload *who     `json:"workload"`
}

type who struct {
	Kind, Name, Namespace, Container, Image, Cgroup, Node string

	PodUID         string            `json:"pod_uid"`
	ServiceAccount string            `json:"service_account"`
	Labels         map[string]string `json:"labels"`
	Controller     struct{ Kind, Name string }
}

type end struct {
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
	Workload *who   `json:"workload"`
}

// voice is what a program says, while it says it.
type voice struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *voice) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *voice) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// processUnknown is lost here alone: one kernel is below all nodes, and an agent in one node's namespaces finds no process of the others.
const processUnknown = "process unknown"

// said is what the agent logged, but for that.
func (a *nodeAgent) said() string {
	lines := strings.SplitAfter(a.logged.String(), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, processUnknown) }), "")
}

// vigieBinary is the one of `make build`.
func vigieBinary(t testing.TB) string {
	t.Helper()
	tree, err := lab.Tree()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(tree, "bin/vigie")
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("needs the agent: make build: %v", err)
	}
	return binary
}

// startAgent runs an agent on a node until the test ends, and watches what it sees. What it keeps is in a folder of this name.
func startAgent(t testing.TB, c *lab.Cluster, node, name string, args ...string) *nodeAgent {
	t.Helper()
	a := newAgent(t, c, node, name, append([]string{"--http", "off", "--tetragon-api", "off", "--hubble-api", "off", "--history", "off", "--sensors", "exec,socket",
		"--rules", "off"}, args...)...)
	a.run(t)
	a.watch(t)
	return a
}

// newAgent is an agent for a node, which is not started yet.
func newAgent(t testing.TB, c *lab.Cluster, node, name string, args ...string) *nodeAgent {
	t.Helper()
	a := &nodeAgent{cluster: c, node: node, dir: filepath.Join(c.Dir, name+"-"+node), binary: filepath.Join(c.Dir, "vigie")}
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.binary); err != nil {
		copyFile(t, vigieBinary(t), a.binary)
	}
	// The same administrator, from inside.
	config, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(a.dir, "kubeconfig")
	config = regexp.MustCompile(`https://[^ "',}]+`).ReplaceAll(config, []byte("https://10.89.0.1:6443"))
	if err := os.WriteFile(inside, config, 0o600); err != nil {
		t.Fatal(err)
	}
	a.args = append([]string{"--kube", inside}, args...)
	return a
}

// restart ends the agent and starts it again.
func (a *nodeAgent) restart(t testing.TB) {
	t.Helper()
	a.stopWatching()
	a.stop()
	a.mu.Lock()
	a.seen = nil
	a.mu.Unlock()
	a.run(t)
	a.watch(t)
}

// run starts the agent and waits until it is ready.
func (a *nodeAgent) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a.logged = new(voice)
	cmd := a.cluster.Exec(ctx, a.node, append([]string{a.binary, "run", "--node-name", a.node, "--state-dir", a.dir, "--socket", a.socket(), "--lock-file", filepath.Join(a.dir, "lock"),
		"--policy-dir", filepath.Join(a.dir, "policies")}, a.args...)...)
	cmd.Stdout, cmd.Stderr = a.logged, a.logged
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	a.stop = sync.OnceFunc(func() {
		defer cancel()
		// By its pid there: the programs that lead into the node would not wait for it.
		if pid, err := os.ReadFile(filepath.Join(a.dir, "lock")); err == nil {
			_ = a.cluster.Exec(ctx, a.node, "kill", strings.TrimSpace(string(pid))).Run() // it may have ended
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("the agent on %s does not end", a.node)
		}
	})
	a.kept.Do(func() {
		t.Cleanup(func() {
			if a.stop != nil {
				a.stop()
			}
			if t.Failed() {
				t.Logf("the agent on %s said:\n%s", a.node, a.said())
			}
		})
	})
	a.await(t, "the agent to be ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the agent on %s ended: %v\n%s", a.node, err, a.said())
		default:
		}
		return a.vigie("status").Run() == nil
	})
}

func (a *nodeAgent) socket() string { return filepath.Join(a.dir, "s") }

// vigie is a command of the agent's, from outside of the node: the socket is the same file.
func (a *nodeAgent) vigie(args ...string) *exec.Cmd {
	return exec.Command(a.binary, append(args, "--socket", a.socket())...)
}

// watch collects the events of pods until the agent ends.
func (a *nodeAgent) watch(t testing.TB) {
	t.Helper()
	cmd := a.vigie("events", "-f", "-o", "json", "--last", "0", "--type", "exec,exit,flow,loss")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.collect(t, out)
	}()
	a.stopWatching = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-done
		_ = cmd.Wait()
	})
	t.Cleanup(a.stopWatching)
}

func (a *nodeAgent) collect(t testing.TB, out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		ev := new(sighting)
		if err := json.Unmarshal(lines.Bytes(), ev); err != nil {
			t.Errorf("an event that is no JSON: %v: %s", err, lines.Bytes())
			return
		}
		a.mu.Lock()
		switch {
		case ev.Type != "loss":
			a.seen = append(a.seen, ev)
		case !strings.Contains(ev.Loss.Reason, processUnknown):
			a.lost = true
			t.Logf("lost: %s", lines.Bytes())
		}
		a.mu.Unlock()
	}
}

// events are those seen so far that are wanted.
func (a *nodeAgent) events(wanted func(*sighting) bool) []*sighting {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*sighting
	for _, ev := range a.seen {
		if wanted(ev) {
			out = append(out, ev)
		}
	}
	return out
}

// hasLost reports whether an event was lost that could have been seen here.
func (a *nodeAgent) hasLost() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost
}

// execsOf are the execs in containers of pods in a namespace, by what the agent says.
func (a *nodeAgent) execsOf(namespace string) []*sighting {
	return a.events(func(ev *sighting) bool {
		return ev.Type == "exec" && ev.Process.Workload != nil && ev.Process.Workload.Namespace == namespace
	})
}

func (a *nodeAgent) await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("on %s: waited in vain for %s\n%s", a.node, what, a.said())
		}
	}
}

// output is what a command of the agent's says.
func (a *nodeAgent) output(t testing.TB, args ...string) string {
	t.Helper()
	out, err := a.vigie(args...).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// startsHere reports whether an event is a program that has started in a container of a pod of this node, by its cgroup alone. There are
// other nodes on this kernel, of other clusters, too.
func (a *nodeAgent) startsHere(ev *sighting) bool {
	if ev.Type != "exec" || ev.PreExisting || ev.Process.Workload == nil {
		return false
	}
	path, ok := strings.CutPrefix(ev.Process.Workload.Cgroup, "/lab-"+filepath.Base(a.cluster.Dir)+"-"+a.node)
	return strings.HasPrefix(path, "/kubepods/") && (ok || path == ev.Process.Workload.Cgroup)
}
