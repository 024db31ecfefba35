// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

// TestKeep holds that policies outlive their agent, and that the next one takes over what is open and what is denied.
func TestKeep(t *testing.T) {
	w := newWorld(t)
	dir := fmt.Sprintf("/sys/fs/bpf/vigie-test-%d", os.Getpid())
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w.enforcer.options.PinDir = dir
	denied := target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}
	allowed := target{netpoltest.Address(3, false), unix.IPPROTO_TCP, 80}
	policies := w.apply(closed)
	w.pods[4].tell(t, "ok", "open tcp %s:80", netpoltest.Address(5, false))
	w.expect(1, denied, false)
	handover := dir + "-handover"
	t.Cleanup(func() { _ = os.RemoveAll(handover) })
	if err := w.host.Handover(handover); err != nil {
		t.Fatal(err)
	}
	if err := w.enforcer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.host.Close(); err != nil {
		t.Fatal(err)
	}
	w.expect(1, denied, false)
	w.expect(1, allowed, true)

	log, losses := slog.New(slog.DiscardHandler), new(pipeline.Losses)
	host, err := kernel.Open(kernel.Options{Log: log, Losses: losses})
	if err != nil {
		t.Fatal(err)
	}
	next := New(Options{Log: log, Losses: losses, Host: host, InHost: w.node.Run, PinDir: dir})
	next.started++ // as another agent's
	t.Cleanup(func() {
		if err := next.Apply(context.Background(), State{}); err != nil {
			t.Error(err)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := host.Inherit(handover); err != nil {
		t.Fatal(err)
	}
	w.expect(1, denied, false)
	if err := next.Apply(context.Background(), State{Policies: policies, Cluster: w.cluster, Cgroups: w.cgroups}); err != nil {
		t.Fatal(err)
	}
	w.expect(1, denied, false)
	if err := next.ReleaseEarlier(); err != nil {
		t.Fatal(err)
	}
	w.expect(1, denied, false)
	w.expect(1, allowed, true)
	w.pods[4].tell(t, "ok", "say") // what was open goes on
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d agents have pins, %v; want the one that runs", len(entries), err)
	}
}
