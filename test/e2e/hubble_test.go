// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	fl "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/vigie-io/vigie/internal/testkit"
)

// hubble are connections to Hubble's API: by the unix socket, and by the port.
func (a *agent) hubble() (socket, port *grpc.ClientConn) {
	a.t.Helper()
	found := regexp.MustCompile(`option=--hubble-api address=(\S+)`).FindStringSubmatch(a.log.String())
	if found == nil {
		a.t.Fatalf("the agent does not say where Hubble's API is:\n%s", a.log.String())
	}
	dial := func(target string) *grpc.ClientConn {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			a.t.Fatal(err)
		}
		a.t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	return dial("unix://" + filepath.Join(a.dir, "state", "hubble.sock")), dial(found[1])
}

// A connection is a flow in Hubble's API, with both of its ends, and the process in the extension; so it is afterwards.
func TestHubblesClientSeesARealFlow(t *testing.T) {
	a := startAgent(t, "--hubble-api", "127.0.0.1:0")
	socket, port := a.hubble()
	if m, err := health.NewHealthClient(port).Check(t.Context(), &health.HealthCheckRequest{Service: "hubble.server.Observer"}); err != nil || m.GetStatus() != health.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", m, err)
	}
	ns := testkit.NewNetNS(t)
	var listener net.Listener
	ns.Do(t, func() (err error) {
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
		return err
	})
	defer listener.Close()
	number := listener.Addr().(*net.TCPAddr).Port
	filter := []*fl.FlowFilter{{DestinationPort: []string{fmt.Sprint(number)}, DestinationIp: []string{"127.0.0.1/32"}, Protocol: []string{"tcp"}}}
	stream, err := observer.NewObserverClient(port).GetFlows(t.Context(), &observer.GetFlowsRequest{Follow: true, Whitelist: filter})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // from here on every flow is in the stream
		t.Fatal(err)
	}

	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
			err = conn.Close()
		}
		served <- err
	}()
	var client net.Conn
	ns.Do(t, func() (err error) {
		client, err = net.Dial("tcp4", listener.Addr().String())
		return err
	})
	if _, err := client.Write(make([]byte, 1234)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1234)); err != nil {
		t.Fatal(err)
	}
	source := client.LocalAddr().(*net.TCPAddr).Port
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}

	var live *fl.Flow
	for live == nil || !live.GetL4().GetTCP().GetFlags().GetFIN() { // the report of its end
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if f := m.GetFlow(); f != nil {
			live = f
		}
	}
	tcp := live.GetL4().GetTCP()
	if live.GetVerdict() != fl.Verdict_FORWARDED || tcp.GetSourcePort() != uint32(source) || tcp.GetDestinationPort() != uint32(number) ||
		live.GetIP().GetSource() != "127.0.0.1" || live.GetTrafficDirection() != fl.TrafficDirection_EGRESS || live.GetNodeName() == "" {
		t.Errorf("the flow: %v", live)
	}
	if live.GetSource().GetPodName() == "" || live.GetSource().GetPodName() != live.GetDestination().GetPodName() {
		t.Errorf("both ends are this test's workload, but are %v and %v", live.GetSource(), live.GetDestination())
	}
	event := new(structpb.Struct)
	if err := live.GetExtensions().UnmarshalTo(event); err != nil {
		t.Fatal(err)
	}
	m := event.AsMap()
	for path, want := range map[string]any{"process.pid": float64(os.Getpid()), "flow.total.bytes_sent": 1234.0, "flow.total.bytes_received": 1234.0,
		"flow.source.process.pid": float64(os.Getpid()), "flow.destination.process.pid": float64(os.Getpid()), "flow.close": "fin"} {
		if got := get(m, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}

	past, err := observer.NewObserverClient(socket).GetFlows(t.Context(), &observer.GetFlowsRequest{Whitelist: []*fl.FlowFilter{{Uuid: []string{live.GetUuid()}}}})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for {
		m, err := past.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f := m.GetFlow(); f != nil {
			found++
			if f.GetSummary() != live.GetSummary() { //nolint:staticcheck // what clients print
				t.Errorf("by its name it is %v, and was %v", f, live)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d flows have the name %s", found, live.GetUuid())
	}
	a.stop()
}
