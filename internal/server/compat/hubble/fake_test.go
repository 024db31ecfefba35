// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/store"
)

// backend is an agent with a real history and a real hub.
type backend struct {
	server.Backend // for what is not asked here
	hub            *pipeline.Hub
	losses         *pipeline.Losses
	store          *store.Memory
	seq            uint64
	counts         map[model.Type]uint64
	policies       []server.Policy
}

func began() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func newBackend() *backend {
	b := &backend{losses: new(pipeline.Losses), store: store.NewMemory(store.Config{MaxEvents: 10_000, MaxBytes: 64 << 20}, began()),
		counts: make(map[model.Type]uint64)}
	b.hub = pipeline.NewHub(b.losses)
	return b
}

// publish numbers events and gives them to the history and to who follows, as the agent does.
func (b *backend) publish(batch ...*model.Event) {
	for _, e := range batch {
		b.seq++
		e.Seq = b.seq
		b.counts[e.Type]++
	}
	b.store.Append(batch)
	b.hub.Publish(batch)
}

func (b *backend) Subscribe(o pipeline.SubscribeOptions) *pipeline.Subscription {
	return b.hub.Subscribe(o)
}

func (b *backend) Events(ctx context.Context, q server.EventQuery) (server.EventPage, error) {
	page, err := store.NewStore(b.store, nil, began()).Query(ctx, store.Query{Keep: q.Filter.Keep, NewestFirst: q.NewestFirst, Limit: q.Limit,
		Cursor: store.Position(q.Cursor)})
	return server.EventPage{Events: page.Events, Next: server.EventCursor(page.Next), LastSeq: page.LastSeq, CompleteSince: page.CompleteSince}, err
}

// allEvents asks for the whole of a short history.
func allEvents() server.EventQuery { return server.EventQuery{Limit: 1000} }

func (b *backend) Policies() []server.Policy { return b.policies }

func (b *backend) Status() server.Status {
	return server.Status{Version: "v1.2.3", Host: "node1", BootID: modeltest.Boot + "-rest", Started: began(), Events: b.counts,
		Store: server.Store{MaxEvents: 10_000}}
}

// running is the service behind a real server, with clients of Hubble's published API.
type running struct {
	*Service
	backend  *backend
	server   *server.Server
	socket   string
	observer observer.ObserverClient // on TCP
	peers    map[string]peer.PeerClient
	health   health.HealthClient
}

func start(t *testing.T, b *backend, change func(*Options)) *running {
	t.Helper()
	o := Options{Backend: b, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&o)
	}
	r := &running{Service: New(o), backend: b, socket: filepath.Join(t.TempDir(), "h.sock")}
	var err error
	r.server, err = server.New(server.Config{Socket: server.Off, HTTP: server.Off, DrainTimeout: 5 * time.Second,
		Mounts: []server.Mount{{Option: "--hubble-api", Addr: "127.0.0.1:0", Socket: r.socket, TLS: true, Handler: r.Handler(), Wait: r.Wait}}}, b, o.Log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.server.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx) }()
	t.Cleanup(func() {
		b.hub.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	socket, tcp := dial(t, "unix://"+r.socket), dial(t, r.address())
	r.observer, r.health = observer.NewObserverClient(tcp), health.NewHealthClient(tcp)
	r.peers = map[string]peer.PeerClient{"unix://" + r.socket: peer.NewPeerClient(socket), r.address(): peer.NewPeerClient(tcp)}
	return r
}

func (r *running) address() string { return r.server.Addrs()[1].String() }

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
