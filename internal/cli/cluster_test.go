// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/model"
)

// The way to a cluster's relay is found once, at the first call; its TLS and its token are the relay's own.
func TestCallsGoThroughTheCluster(t *testing.T) {
	a := &fakeAgent{}
	_, h := vigiev1connect.NewVigieHandler(a)
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	var asked []string
	to := target{cluster: "staging", kubeconfig: "file", find: func(_ context.Context, kubeconfig, name, _ string) (agent.ClusterRelay, error) {
		asked = append(asked, kubeconfig+" "+name)
		return agent.ClusterRelay{Name: "vigie-system/relay", Token: "t0ken", TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12},
			Dial: func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
			}}, nil
	}}
	client, err := to.dial()
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 0 {
		t.Error("the relay is looked for before it is asked something")
	}
	for range 3 {
		if _, err := client.GetStatus(t.Context(), connect.NewRequest(&vigiev1.GetStatusRequest{})); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(asked, []string{"file staging"}) || !slices.Equal(a.tokens, []string{"Bearer t0ken", "Bearer t0ken", "Bearer t0ken"}) {
		t.Errorf("looked for %q, presented %q", asked, a.tokens)
	}
	to.find = func(context.Context, string, string, string) (agent.ClusterRelay, error) {
		return agent.ClusterRelay{}, errors.New("there is no relay in cluster x: `vigie install` brings one")
	}
	if client, err = to.dial(); err != nil {
		t.Fatal(err)
	}
	_, err = client.GetStatus(t.Context(), connect.NewRequest(&vigiev1.GetStatusRequest{}))
	if err = to.explain(err); err == nil || err.Error() != "there is no relay in cluster x: `vigie install` brings one" {
		t.Errorf("without a relay: %v", err)
	}
}

func TestOneWayToAnAgent(t *testing.T) {
	for _, args := range [][]string{{"status", "--cluster", "--address", "http://127.0.0.1:1"}, {"status", "--cluster", "--socket", "/x"}} {
		if code, _, errs := vigie(t, args...); code != ExitCannot || !strings.Contains(errs, "give one of them") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	empty := t.TempDir() + "/kubeconfig"
	if code, _, errs := vigie(t, "status", "--cluster", "--kubeconfig", empty); code != ExitCannot || !strings.Contains(errs, "kubeconfig") {
		t.Errorf("without a kubeconfig: exit %d, %s", code, errs)
	}
}

// relayed is what a relay of two nodes answers.
type relayed struct{ *fakeAgent }

func (r relayed) StreamEvents(_ context.Context, _ *connect.Request[vigiev1.StreamEventsRequest], s *connect.ServerStream[vigiev1.StreamEventsResponse]) error {
	if err := s.Send(&vigiev1.StreamEventsResponse{Nodes: []*vigiev1.NodeStatus{{Name: "web-2", State: "unavailable", Message: "connection refused"}}}); err != nil {
		return err
	}
	return sendEvents(s, r.events)
}

func (r relayed) ListProcesses(ctx context.Context, q *connect.Request[vigiev1.ListProcessesRequest]) (*connect.Response[vigiev1.ListProcessesResponse], error) {
	m, err := r.fakeAgent.ListProcesses(ctx, q)
	if err != nil {
		return nil, err
	}
	for range m.Msg.GetProcesses() {
		m.Msg.Nodes = append(m.Msg.Nodes, "web-1")
	}
	m.Msg.NodeErrors = []*vigiev1.NodeError{{Node: "web-2", Message: "connection refused"}}
	return m, nil
}

func TestWhatARelayAnswers(t *testing.T) {
	p := proc(7, 0, 5, "nginx.service", "/usr/sbin/nginx", "-g")
	e := execEvent(p)
	e.Node = "web-1"
	since := timestamppb.New(testNow.Add(-time.Minute))
	socket := serveHandler(t, relayed{&fakeAgent{events: []*model.Event{e}, processes: []*model.Process{p}, problems: []string{"node web-2 is unavailable: connection refused"},
		status: &vigiev1.Status{Version: "v1", Host: "relay-7d", BootId: testBoot, Nodes: []*vigiev1.NodeStatus{
			{Name: "web-1", State: "connected", Since: since, Version: "v1", ClockOffsetNs: int64(7 * time.Minute), ClockUncertaintyNs: 1000, RttNs: 2000, Events: 11},
			{Name: "web-2", State: "unavailable", Since: since, Message: "connection refused", Lost: 3}}}}})
	for _, c := range []struct {
		args      string
		code      int
		out, errs []string
	}{
		{"events", 0, []string{"web-1        nginx.service"}, []string{"node web-2 is unavailable: connection refused"}},
		{"events -o json", 0, []string{`"node":"web-1"`}, []string{"web-2"}},
		{"ps --flat", 0, []string{"NODE", "web-1    7  nginx.service"}, []string{"node web-2 is missing: connection refused"}},
		{"ps -o json", 0, []string{`{"node":"web-1","exec_id":"`}, []string{"web-2"}},
		{"status", ExitFailed, []string{"relays 1 of 2 nodes from relay-7d", "! node web-2 is unavailable", "web-2  unavailable", "web-1  connected", "+7m"}, nil},
	} {
		code, out, errs := vigie(t, append(strings.Fields(c.args), "--socket", socket)...)
		if code != c.code {
			t.Errorf("%s: exit %d, want %d", c.args, code, c.code)
		}
		for _, want := range c.out {
			if !strings.Contains(out, want) {
				t.Errorf("%s lacks %q:\n%s", c.args, want, out)
			}
		}
		for _, want := range c.errs {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: standard error lacks %q:\n%s", c.args, want, errs)
			}
		}
	}
}
