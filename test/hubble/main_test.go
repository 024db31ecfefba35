// SPDX-License-Identifier: Apache-2.0

// Package hubble runs Hubble's own clients, the hubble command and hubble-relay, against an agent that plays a capture.
// `make test-hubble` builds them.
package hubble

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
)

// deadline is how long anything here may take.
const deadline = time.Minute

// client is the path of one of Hubble's clients.
func client(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("VIGIE_HUBBLE_CLIENTS")
	if dir == "" {
		t.Skip("Hubble's clients are not built: make test-hubble does it")
	}
	return filepath.Join(dir, name)
}

// startAgent plays the scene and returns the unix socket of Hubble's API when it is played.
func startAgent(t *testing.T) (socket string) { return startNode(t, "", agent.Off) }

// startNode is startAgent for a node of a cluster, whose agent also answers at an address.
func startNode(t *testing.T, name, address string) (socket string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "scene.capture")
	w, err := capture.Create(file, capture.Header{BootID: "0123abcd-0000-4000-8000-000000000000", Host: "node1", Kernel: "6.18"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(scene(time.Now())); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := agent.Default()
	c.StateDir, c.PolicyDir, c.RulesDir = dir, filepath.Join(dir, "policies"), filepath.Join(dir, "rules")
	c.Socket, c.HTTP, c.TetragonAPI, c.HubbleAPI, c.NodeName = agent.Off, address, agent.Off, "127.0.0.1:0", name
	c.Rules, c.Replay, c.Speed = agent.Off, file, 0
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, c, agent.Deps{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Version: "v1.2.3", Ready: func() { close(ready) }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the agent does not start: %v", err)
	}
	socket = "unix://" + c.StateDir + "/hubble.sock"
	await(t, "the capture to be played", func() bool {
		out, _ := run(t, socket, "observe", "--first", "1", "--uuid", "none") // only the loss, which is the last event
		return strings.Contains(out, "EVENTS LOST")
	})
	return socket
}

// run runs the hubble command and returns what it printed.
func run(t *testing.T, server string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, client(t, "hubble"), append(args, "--server", server)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// startRelay starts hubble-relay as a peer of the agent and returns its address.
func startRelay(t *testing.T, peer string) string {
	t.Helper()
	address := freeAddress(t)
	cmd := exec.Command(client(t, "hubble-relay"), "serve", "--peer-service", peer, "--listen-address", address, "--health-listen-address", freeAddress(t),
		"--disable-client-tls", "--disable-server-tls", "--gops=false")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if _ = cmd.Wait(); t.Failed() {
			t.Logf("the relay's log:\n%s", log.String())
		}
	})
	return address
}

// startVigieRelay starts vigie's own relay of agents and returns its address.
func startVigieRelay(t *testing.T, agents ...string) string {
	t.Helper()
	c := agent.DefaultRelayConfig()
	c.Agents, c.HTTP = agents, freeAddress(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- agent.RunRelay(ctx, c, agent.Deps{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Version: "v1.2.3"})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	})
	return c.HTTP
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

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// scene is a host on which some connections, requests and questions were seen, the last one just now; and a loss.
func scene(now time.Time) []*model.Event {
	unit := func(name string) *model.Workload {
		return &model.Workload{Kind: model.WorkloadUnit, Name: name, ID: "/system.slice/" + name, Slice: "system.slice"}
	}
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "api-7d4b9", Namespace: "shop", ID: "c1", Container: "api", Labels: map[string]string{"app": "api"}}
	process := func(pid uint32, binary string, w *model.Workload) *model.Process {
		k := model.ProcessKey{PID: pid, Start: uint64(pid) * 1000, Exec: 1}
		return &model.Process{Key: k, ExecID: k.ExecID("0123abcd"), Binary: binary, Args: []string{binary}, Workload: w, Creds: model.Creds{LoginUID: model.NoUID}}
	}
	nginx, backup, api := process(800, "/usr/sbin/nginx", unit("nginx.service")), process(900, "/usr/bin/curl", unit("backup.service")), process(600, "/app/api", pod)
	var out []*model.Event
	add := func(p *model.Process, e model.Event) {
		e.Count, e.Seq, e.BootTime = 1, uint64(len(out)+1), uint64(len(out)+1)*uint64(time.Second)
		e.Time = now.Add(time.Duration(len(out)-10) * time.Second)
		if p != nil {
			e.Key, e.Process = p.Key, p
		}
		out = append(out, &e)
	}
	flow := func(p *model.Process, from, to string, change func(*model.Flow)) {
		f := &model.Flow{ID: uint64(len(out) + 1), Report: 1, State: model.FlowClosed, Protocol: "tcp", Family: "ipv4", Direction: model.FlowOutbound,
			Source:      model.Endpoint{Address: netip.MustParseAddrPort(from), Process: p, Workload: p.Workload},
			Destination: model.Endpoint{Address: netip.MustParseAddrPort(to)}, Verdict: model.FlowAllowed, Close: model.CloseFin,
			Total: model.FlowCounters{BytesSent: 120, BytesReceived: 5130}}
		change(f)
		add(p, model.Event{Type: model.TypeFlow, Flow: f})
	}
	flow(backup, "192.0.2.1:50000", "93.184.216.34:443", func(f *model.Flow) { f.Destination.Name = "www.example.org" })
	flow(backup, "192.0.2.1:50003", "198.51.100.7:22", func(f *model.Flow) {
		f.Verdict, f.Close, f.Policy, f.Rule, f.Total = model.FlowDenied, model.CloseDenied, "backups", "egress", model.FlowCounters{}
		f.Reason = "policy backups, egress"
	})
	flow(nginx, "192.0.2.1:50009", "198.51.100.9:80", func(f *model.Flow) { f.Verdict, f.Policy, f.Reason = model.FlowAudited, "web", "policy web, egress" })
	flow(api, "10.0.0.5:50002", "10.0.0.6:53", func(f *model.Flow) { f.Protocol = "udp" })
	add(backup, model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "www.example.org", QType: "A", RCode: "NOERROR", Protocol: "udp", Latency: 3 * time.Millisecond,
		Answers: []model.DNSAnswer{{Type: "A", Data: "93.184.216.34", TTL: time.Minute}}, Server: netip.MustParseAddrPort("127.0.0.53:53")}})
	add(nginx, model.Event{Type: model.TypeRequest, Request: &model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", Path: "/orders/{id}",
		Host: "shop.example", Status: 503, Failed: true, Latency: 12 * time.Millisecond, Local: netip.MustParseAddrPort("192.0.2.1:80"), Remote: netip.MustParseAddrPort("203.0.113.9:40000")}})
	add(nil, model.Event{Type: model.TypeLoss, Loss: &model.Loss{Stage: "kernel", Reason: "ring full", Count: 3, Total: 3}})
	return out
}

// wants fails the test unless every line of want is in got.
func wants(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(got, line) {
			t.Errorf("%s lacks %q:\n%s", what, line, got)
		}
	}
}

func count(got string) string { return fmt.Sprintf("%d lines", strings.Count(got, "\n")) }
