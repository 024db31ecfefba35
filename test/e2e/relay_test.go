// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
)

// played is how many events each node of the relay's tests has, and every how many milliseconds one happens.
const (
	played      = 600
	playedEvery = 20
)

// fleetNode is an agent that plays a capture and answers on TCP, as one node of several.
type fleetNode struct {
	name, address string
	cmd           *exec.Cmd
}

// startNode plays events that happen from now on, the next one every few milliseconds.
func startNode(t *testing.T, name, file, address string) *fleetNode {
	t.Helper()
	dir := t.TempDir()
	n := &fleetNode{name: name, address: address, cmd: exec.Command(vigie(t), "run", "--quiet", "--replay", file, "--node-name", name, "--http", address, "--socket", "off",
		"--state-dir", dir, "--lock-file", filepath.Join(dir, "lock"), "--policy-dir", filepath.Join(dir, "policies"), "--tetragon-api", "off", "--hubble-api", "off", "--history", "off")}
	var log lockedBuffer
	n.cmd.Stderr = &log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, log.String())
		}
	})
	return n
}

func (n *fleetNode) signal(s os.Signal) { _ = n.cmd.Process.Signal(s) }

func (n *fleetNode) kill() {
	n.signal(syscall.SIGKILL)
	_ = n.cmd.Wait()
}

// writeScene makes the capture of a node: programs that start.
func writeScene(t *testing.T, host string, offset time.Duration) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), host+".vigie")
	w, err := capture.Create(file, capture.Header{BootID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", 0xb0070000+uint32(offset)), Host: host, Kernel: "6.18"}, false)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(offset)
	var batch []*model.Event
	for i := range played {
		pid := uint32(1000 + i)
		key := model.ProcessKey{PID: pid, Start: uint64(i+1) * 1000, Exec: 1}
		at := time.Duration(i*playedEvery) * time.Millisecond
		p := &model.Process{Key: key, ExecID: key.ExecID(fmt.Sprintf("%08x", 0xb0070000+uint32(offset))), Binary: "/bin/" + host, Args: []string{"/bin/" + host},
			StartTime: begin.Add(at), Workload: &model.Workload{Kind: model.WorkloadUnit, Name: host + ".service", ID: "/system.slice/" + host + ".service"}}
		batch = append(batch, &model.Event{Type: model.TypeExec, Time: begin.Add(at), BootTime: uint64(time.Second + at), Seq: uint64(i + 1), Key: key, TID: pid, Count: 1,
			Process: p, Exec: &model.Exec{}})
	}
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startOlder is a way to an agent on which it knows less than the relay does.
func startOlder(t *testing.T, address string, unknown ...string) string {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	proxy.Transport, proxy.FlushInterval = &http.Transport{Protocols: h2}, -1
	refuse := connect.NewErrorWriter()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: protocols, ReadHeaderTimeout: deadline, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(unknown, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]) {
			_ = refuse.Write(w, r, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s is not implemented", r.URL.Path)))
			return
		}
		r.Host = address
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// reading is a command that follows events as JSON.
type reading struct {
	cmd      *exec.Cmd
	out, err lockedBuffer
}

func follow(t *testing.T, args ...string) *reading {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &reading{cmd: exec.CommandContext(ctx, vigie(t), args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Logf("what the command said on standard error:\n%s", r.err.String())
		}
	})
	return r
}

// seen are the numbers of the events of each node, in the order in which they came.
func (r *reading) seen(t *testing.T) map[string][]int {
	t.Helper()
	out := make(map[string][]int)
	for line := range bytes.Lines([]byte(r.out.String())) {
		var e struct {
			Type, Node string
			Seq        int
		}
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Type == "exec" {
			out[e.Node] = append(out[e.Node], e.Seq)
		}
	}
	return out
}

// all reports whether every event of a node has come once, in its order.
func all(seqs []int) bool {
	for i, n := range seqs {
		if n != i+1 {
			return false
		}
	}
	return len(seqs) == played
}

// Three nodes behind one relay: one is killed, one hangs for a while, one has an older agent. Nobody waits for them, everybody is
// told, and of the one that hung nothing is missing in the end.
func TestRelayOfNodesThatFail(t *testing.T) {
	var nodes []*fleetNode
	for i, name := range []string{"one", "two", "three"} {
		nodes = append(nodes, startNode(t, name, writeScene(t, name, time.Duration(i)*7*time.Millisecond), freeAddress(t)))
	}
	older := startOlder(t, nodes[2].address, "GetMap")
	dir := t.TempDir()
	file := filepath.Join(dir, "agents")
	list := func(addresses ...string) {
		if err := os.WriteFile(file, []byte("# nodes\n"+strings.Join(addresses, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list("one="+nodes[0].address, nodes[1].address, older)
	address := freeAddress(t)
	relay := follow(t, "relay", "--agents-file", file, "--http", address)
	at := "http://" + address
	status := func() string {
		out, errs, _ := run(t, nil, "status", "--address", at)
		return out + errs
	}
	await(t, "the relay to know all nodes", func() bool { return strings.Contains(status(), "relays 3 nodes") })

	reader := follow(t, "events", "--address", at, "-f", "--since", "1h", "-o", "json")
	await(t, "events of all nodes", func() bool { return len(reader.seen(t)) == 3 })
	_, errs, code := run(t, nil, "map", "--address", at)
	if code != 0 || !strings.Contains(errs, "node three is missing: its agent is older and does not know GetMap") {
		t.Errorf("the map, exit %d: %s", code, errs)
	}
	if out := status(); !strings.Contains(out, "is older than this relay") || !strings.Contains(out, "ready") {
		t.Errorf("an older agent in the status:\n%s", out)
	}

	nodes[0].kill()
	nodes[1].signal(syscall.SIGSTOP)
	await(t, "the nodes to be seen away", func() bool { return strings.Contains(status(), "relays 1 of 3 nodes") })
	await(t, "the reader to be told", func() bool {
		return strings.Contains(reader.err.String(), "node one is unavailable: ") && strings.Contains(reader.err.String(), "node two is unavailable: it took the question")
	})
	before := len(reader.seen(t)["three"])
	await(t, "the node that is left", func() bool { return len(reader.seen(t)["three"]) > before || before == played })
	out, errs, code := run(t, nil, "ps", "--address", at, "--flat")
	if code != 0 || !strings.Contains(out, "three ") || strings.Count(errs, "is missing: ") != 2 {
		t.Errorf("processes, exit %d: %s\n%.500s", code, errs, out)
	}

	nodes[1].signal(syscall.SIGCONT)
	startNode(t, "one", writeScene(t, "one", 0), nodes[0].address)
	await(t, "both to be back", func() bool { return strings.Contains(status(), "relays 3 nodes") })
	await(t, "every event of the nodes that were not killed", func() bool {
		s := reader.seen(t)
		return len(s["two"]) >= played && len(s["three"]) >= played
	})
	if s := reader.seen(t); !all(s["two"]) || !all(s["three"]) {
		t.Errorf("events are missing, twice there or out of order: two %v, three %v", s["two"], s["three"])
	}
	if strings.Contains(reader.out.String(), `"type":"loss"`) {
		t.Errorf("events were lost:\n%s", reader.out.String())
	}

	// The past of all nodes is in one order, whichever way it is asked for.
	out, _, code = run(t, nil, "events", "--address", at, "--last", "1000", "-o", "json", "--node", "t*")
	var times []string
	for line := range strings.Lines(out) {
		var e struct{ Time, Node string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Node != "two" && e.Node != "three" {
			t.Fatalf("%v: %s", err, line)
		}
		moment, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, moment.Format("15:04:05.000000000"))
	}
	if code != 0 || len(times) != 1000 || !slices.IsSorted(times) {
		t.Errorf("exit %d, %d events of the past, in order %v", code, len(times), slices.IsSorted(times))
	}
	if out, errs, _ := run(t, nil, "query", "top", "--address", at, "--type", "exec", "--by", "node", "--measure", "events", "--since", "1h"); !strings.Contains(out, "two") || !strings.Contains(out, fmt.Sprint(played)) {
		t.Errorf("counted by node:\n%s%s", out, errs)
	}

	list(nodes[1].address)
	await(t, "the list to be followed", func() bool { return strings.Contains(status(), "relays one node") })
	if err := relay.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := relay.cmd.Wait(); err != nil {
		t.Errorf("the relay ended with %v:\n%s", err, relay.err.String())
	}
}
