// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// BenchmarkEvents reads 10,000 events of the past from an agent, and the same from a relay before it: what lies between the two is
// what the relay costs. The agent here only sends what it has, where a real one looks it up and converts it.
func BenchmarkEvents(b *testing.B) {
	const events = 10_000
	f := &fakeAgent{name: "a", started: time.Now().Add(-time.Hour), more: make(chan struct{})}
	f.serve(b, "127.0.0.1:0")
	defer f.stop()
	for i := range events {
		f.happenAt(fmt.Sprintf("/%d", i), time.Now().Add(time.Duration(i-events)*time.Millisecond))
	}
	r := startRelay(b, nil, f)
	dial, err := Dialer(DialOptions{})
	if err != nil {
		b.Fatal(err)
	}
	direct, base, options := dial(Agent{Address: f.address})
	for _, way := range []struct {
		name   string
		client vigiev1connect.VigieClient
	}{{"direct", vigiev1connect.NewVigieClient(direct, base, options...)}, {"relayed", r.client}} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				if n := readAll(b.Context(), b, way.client); n != events {
					b.Fatalf("%d events came", n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
		})
	}
}

func readAll(ctx context.Context, b *testing.B, client vigiev1connect.VigieClient) (n int) {
	b.Helper()
	stream, err := client.StreamEvents(ctx, connect.NewRequest(&pb.StreamEventsRequest{NoFollow: true}))
	if err != nil {
		b.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		n += len(stream.Msg().GetEvents())
	}
	if err := stream.Err(); err != nil {
		b.Fatal(err)
	}
	return n
}
