// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// leaseServer keeps one Lease as an API server does: who writes another version than what is there is refused.
type leaseServer struct {
	mu      sync.Mutex
	version int
	lease   map[string]any
	away    bool
}

func (s *leaseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(code int, reason metav1.StatusReason) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: reason, Code: int32(code)}) //nolint:gosec // a code
	}
	var sent map[string]any
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest)
			return
		}
	}
	version := func(o map[string]any) any { return o["metadata"].(map[string]any)["resourceVersion"] }
	switch {
	case s.away:
		refuse(http.StatusInternalServerError, metav1.StatusReasonInternalError)
		return
	case r.Method == http.MethodPost && s.lease != nil:
		refuse(http.StatusConflict, metav1.StatusReasonAlreadyExists)
		return
	case r.Method != http.MethodPost && s.lease == nil:
		refuse(http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	case r.Method == http.MethodPut && version(sent) != version(s.lease):
		refuse(http.StatusConflict, metav1.StatusReasonConflict)
		return
	case r.Method != http.MethodGet:
		s.version++
		sent["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(s.version)
		s.lease = sent
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.lease)
}

func (s *leaseServer) set(edit func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit()
}

func (s *leaseServer) spec(field string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease["spec"].(map[string]any)[field]
}

// elections are several processes at one API server.
func elections(t *testing.T, n int) (*leaseServer, []*Election) {
	t.Helper()
	s := &leaseServer{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	var out []*Election
	for i := range n {
		c, err := NewClient(&rest.Config{Host: server.URL}, "test")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &Election{Client: c, Namespace: "vigie-system", Name: "vigie-admit", Identity: fmt.Sprint("p", i), Log: slog.New(slog.DiscardHandler), retry: 5 * time.Millisecond})
	}
	return s, out
}

func try(t *testing.T, e *Election, want bool) {
	t.Helper()
	if ok, err := e.try(t.Context()); err != nil || ok != want {
		t.Fatalf("%s: %v, %v, want %v", e.Identity, ok, err, want)
	}
}

func TestOneOfSeveralLeads(t *testing.T) {
	_, all := elections(t, 8)
	var wait sync.WaitGroup
	leaders := make([]bool, len(all))
	for i, e := range all {
		wait.Go(func() {
			var err error
			if leaders[i], err = e.try(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	n := 0
	for _, leads := range leaders {
		if leads {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d lead", n)
	}
}

func TestALeaseIsTakenWhenItsHolderIsSilent(t *testing.T) {
	s, all := elections(t, 2)
	a, b := all[0], all[1]
	try(t, a, true)
	try(t, b, false)
	b.seen.at = b.seen.at.Add(-leaseDuration) // so long ago that b saw it change
	try(t, a, true)                           // a renews meanwhile
	try(t, b, false)
	b.seen.at = b.seen.at.Add(-leaseDuration)
	try(t, b, true)
	try(t, a, false)
	if s.spec("holderIdentity") != "p1" || s.spec("leaseTransitions") != 1.0 {
		t.Errorf("%v", s.lease)
	}
	if err := b.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	try(t, a, true) // without waiting
	if s.spec("leaseTransitions") != 2.0 {
		t.Errorf("%v", s.lease)
	}
	if err := b.release(t.Context()); err != nil || s.spec("holderIdentity") != "p0" {
		t.Errorf("b gave back what it does not hold: %v, %v", err, s.lease)
	}
}

// TestTheNextLeadsWhenOneEnds: two processes, and the leader is stopped.
func TestTheNextLeadsWhenOneEnds(t *testing.T) {
	_, all := elections(t, 2)
	var mu sync.Mutex
	leading := map[string]bool{}
	began := make(chan string, 2)
	lead := func(e *Election) func(context.Context) error {
		return func(ctx context.Context) error {
			mu.Lock()
			if len(leading) > 0 {
				t.Errorf("%s leads beside %v", e.Identity, leading)
			}
			leading[e.Identity] = true
			mu.Unlock()
			began <- e.Identity
			<-ctx.Done()
			mu.Lock()
			delete(leading, e.Identity)
			mu.Unlock()
			return nil
		}
	}
	stop := map[string]context.CancelFunc{}
	ended := map[string]chan error{}
	for _, e := range all {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		done := make(chan error, 1)
		stop[e.Identity], ended[e.Identity] = cancel, done
		go func() { done <- e.Lead(ctx, lead(e)) }()
	}
	first := <-began
	stop[first]()
	if err := <-ended[first]; err != nil {
		t.Error(err)
	}
	second := <-began
	if second == first {
		t.Errorf("%s leads twice", first)
	}
	stop[second]()
	if err := <-ended[second]; err != nil {
		t.Error(err)
	}
}

func TestALeaderThatLosesTheLeaseEnds(t *testing.T) {
	for name, lose := range map[string]func(*leaseServer){
		"another took it": func(s *leaseServer) {
			s.lease["spec"].(map[string]any)["holderIdentity"] = "other"
		},
		"the API server is away": func(s *leaseServer) { s.away = true },
	} {
		t.Run(name, func(t *testing.T) {
			s, all := elections(t, 1)
			all[0].deadline = 300 * time.Millisecond
			err := all[0].Lead(t.Context(), func(ctx context.Context) error {
				s.set(func() { lose(s) })
				<-ctx.Done()
				return ctx.Err()
			})
			if !errors.Is(err, ErrLost) {
				t.Errorf("got %v", err)
			}
		})
	}
}
