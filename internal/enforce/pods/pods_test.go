// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

// TestDefaultDeny is the shortest way through everything: a pod that nobody may talk to, and one who may.
func TestDefaultDeny(t *testing.T) {
	w := newWorld(t)
	to := target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}
	w.expect(1, to, true)
	w.apply(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: x}
spec:
  podSelector: {matchLabels: {pod: a}}
  ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 80}]}]
`)
	w.expect(1, to, false)
	w.expect(2, to, true)
	w.expect(0, to, true) // itself
	w.expect(2, target{to.Address, unix.IPPROTO_TCP, 81}, false)
	ev := w.verdict("x/b to x/a", func(ev *model.Event) bool {
		return ev.Verdict.Remote.Addr() == netpoltest.Address(1, false) && ev.Verdict.Local == netip.AddrPortFrom(to.Address, to.Port)
	})
	if v := ev.Verdict; v.Policy != "NetworkPolicy/x/closed" || v.Rule != "ingress" || v.Action != model.VerdictDenied || v.Operation != model.OpAccept || v.Subject != "x/a" {
		t.Errorf("the verdict is %+v", *v)
	}
	if ev.Key.PID != uint32(w.pods[0].cmd.Process.Pid) {
		t.Errorf("the verdict is of process %d, want who listens, %d", ev.Key.PID, w.pods[0].cmd.Process.Pid)
	}
	if n := w.enforcer.Hits()["NetworkPolicy/x/closed"]["ingress"]; n == 0 {
		t.Error("the rule has no hits")
	}
	w.apply("")
	w.expect(1, to, true)
}

// expect probes until the answer is the one that is wanted.
func (w *world) expect(from int, to target, want bool) {
	w.t.Helper()
	for _, wait := range waits {
		if w.pods[from].probe(w.t, wait, to)[0] == want {
			return
		}
	}
	w.t.Errorf("%s/%s to %+v: %v, want %v", w.pods[from].pod.Namespace, w.pods[from].pod.Name, to, !want, want)
}

// waits are how long an answer is waited for: what is denied never comes, and only a machine that is busy is slow.
var waits = []time.Duration{60 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second}

var cases = flag.Int("cases", 40, "how many sets of policies TestMatrix tries")

// TestMatrix compares what policies mean with what comes through, for sets of policies of all kinds: between all pods, by
// TCP, UDP and SCTP, IPv4 and IPv6.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	if _, _, wrong := w.compare(nil, true); len(wrong) > 0 {
		t.Fatalf("without policies: %v", wrong[0])
	}
	begun := time.Now()
	probes, denied := 0, 0
	for seed := range uint64(*cases) {
		text := netpoltest.Policies(t, rand.New(rand.NewPCG(seed, 7)), 5)
		policies := w.apply(text)
		six := seed%3 == 2
		n, no, wrong := w.compare(policies, six)
		probes, denied = probes+n, denied+no
		for _, what := range wrong {
			t.Errorf("case %d: %s", seed, what)
		}
		if len(wrong) > 0 {
			t.Fatalf("case %d:\n%s", seed, text)
		}
	}
	t.Logf("%d cases, %d probes of which %d denied, %d cases a second", *cases, probes, denied, int(float64(*cases)/time.Since(begun).Seconds()))
	if denied == 0 {
		t.Error("nothing was denied")
	}
}

// compare probes between all pods, and says where an answer is not what the policies mean.
func (w *world) compare(policies []*netpol.Policy, six bool) (probes, denied int, wrong []string) {
	var targets []target
	for i := range w.pods {
		for _, protocol := range netpoltest.Protocols() {
			for _, port := range netpoltest.Ports() {
				targets = append(targets, target{netpoltest.Address(i, six), protocol, port})
			}
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, x := range w.pods {
		all.Go(func() {
			ask := targets
			for _, wait := range waits {
				got := x.probe(w.t, wait, ask...)
				var again []target
				for j, to := range ask {
					v := w.cluster.Verdict(policies, netpol.Conversation{Source: netpoltest.Address(i, six), Destination: to.Address, Protocol: to.Protocol, Port: to.Port})
					mu.Lock()
					if wait == waits[0] {
						if probes++; v.Denied {
							denied++
						}
					}
					if got[j] == v.Denied {
						again = append(again, to)
						if wait == waits[len(waits)-1] {
							wrong = append(wrong, fmt.Sprintf("%s/%s to %+v: came through: %v, want denied: %v by %+v", x.pod.Namespace, x.pod.Name, to, got[j], v.Denied, v))
						}
					}
					mu.Unlock()
				}
				if ask = again; len(ask) == 0 {
					return
				}
			}
		})
	}
	all.Wait()
	return probes, denied, wrong
}
