// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

// serviceAddress is a cluster address in front of a pod.
func serviceAddress(i int, six bool) netip.Addr {
	if six {
		return netip.MustParseAddr(fmt.Sprintf("fd00:96::%d", i+1))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.96.0.%d", i+1))
}

// serve has the node translate a service's address for each pod, at port 8000, to the pod's port 80, as kube-proxy does; and
// the node port 30080+i.
func (w *world) serve(translate bool) {
	w.t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		w.t.Skip("needs nft: apt-get install nftables")
	}
	var rules strings.Builder
	rules.WriteString("table inet services {\nchain prerouting {\n type nat hook prerouting priority dstnat\n")
	w.cluster.Services = nil
	for i := range w.pods {
		s := &model.ClusterService{Namespace: "x", Name: fmt.Sprintf("s%d", i)}
		for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			name := protocolName(protocol)
			for _, six := range []bool{false, true} {
				family, to := "ip", netpoltest.Address(i, six).String()
				if six {
					family, to = "ip6", "["+to+"]"
				}
				fmt.Fprintf(&rules, "%s daddr %s %s dport 8000 dnat %s to %s:80\n", family, serviceAddress(i, six), name, family, to)
				fmt.Fprintf(&rules, "%s daddr %s %s dport %d dnat %s to %s:80\n", family, netpoltest.Gateway(six), name, 30080+i, family, to)
			}
			s.Ports = append(s.Ports, model.ServicePort{Port: 8000, NodePort: uint16(30080 + i), Protocol: protocol,
				Endpoints: []netip.AddrPort{netip.AddrPortFrom(netpoltest.Address(i, false), 80), netip.AddrPortFrom(netpoltest.Address(i, true), 80)}})
		}
		s.Addresses = []netip.Addr{serviceAddress(i, false), serviceAddress(i, true)}
		w.cluster.Services = append(w.cluster.Services, s)
	}
	rules.WriteString("}\n}\n")
	if !translate {
		return
	}
	w.node.Do(w.t, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}

const onlyPodA = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-a, namespace: x}
spec:
  podSelector: {matchLabels: {pod: b}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {pod: a}}, namespaceSelector: {}}], ports: [{port: 80}, {port: 80, protocol: UDP}]}]
`

// TestServices holds that a service is judged by the pod that a connection is translated to, at its port.
func TestServices(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.apply(onlyPodA)
	if w.enforcer.forward == nil {
		t.Skipf("needs netfilter programs (6.4): %v", w.enforcer.why)
	}
	for _, six := range []bool{false, true} {
		for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			w.expect(1, target{serviceAddress(3, six), protocol, 8000}, true)  // y/a
			w.expect(1, target{serviceAddress(4, six), protocol, 8000}, false) // y/b
			w.expect(1, target{netpoltest.Gateway(six), protocol, 30083}, true)
			w.expect(1, target{netpoltest.Gateway(six), protocol, 30084}, false)
			w.expect(2, target{serviceAddress(4, six), protocol, 8000}, true) // x/c is under no policy
			w.expect(1, target{netpoltest.Address(3, six), protocol, 80}, true)
			w.expect(1, target{netpoltest.Address(4, six), protocol, 80}, false)
		}
	}
	ev := w.verdict("x/b to the service of y/b", func(ev *model.Event) bool {
		return ev.Verdict.Hook == "netfilter" && ev.Verdict.Remote == netip.AddrPortFrom(netpoltest.Address(4, false), 80)
	})
	if v := ev.Verdict; v.Policy != "NetworkPolicy/x/only-a" || v.Rule != "egress" || v.Subject != "x/b" {
		t.Errorf("the verdict is %+v", *v)
	}
	if ev.Key.PID != uint32(w.pods[1].cmd.Process.Pid) {
		t.Errorf("the verdict is of process %d, want who connected, %d", ev.Key.PID, w.pods[1].cmd.Process.Pid)
	}
}

// TestHairpin holds that a pod may talk to itself by its own service, whatever policies say; the node masquerades that.
func TestHairpin(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.node.Do(t, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf("table ip hairpin {\nchain postrouting {\ntype nat hook postrouting priority srcnat\nip saddr %[1]s ip daddr %[1]s masquerade\n}\n}\n", netpoltest.Address(0, false)))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
	own := target{serviceAddress(0, false), unix.IPPROTO_TCP, 8000}
	w.expect(0, own, true)
	w.apply(closed)
	w.expect(0, own, true)
	w.expect(0, target{serviceAddress(1, false), unix.IPPROTO_TCP, 8000}, false)
}

// TestServiceFromBefore holds that a conversation to a service is judged by where it was translated to when policies change.
func TestServiceFromBefore(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.apply(onlyPodA)
	if w.enforcer.forward == nil {
		t.Skipf("needs netfilter programs (6.4): %v", w.enforcer.why)
	}
	w.pods[1].tell(t, "ok", "open tcp %s", netip.AddrPortFrom(serviceAddress(3, false), 8000))
	w.apply(strings.ReplaceAll(onlyPodA, "only-a", "renamed"))
	w.pods[1].tell(t, "ok", "say")
	w.apply(strings.ReplaceAll(onlyPodA, "{pod: a}", "{pod: c}"))
	w.pods[1].tell(t, "timeout", "say")
}

// TestUntranslated holds that no answer of a service comes in when nobody has seen where its address leads: what translates
// stands where vigie does not see it.
func TestUntranslated(t *testing.T) {
	w := newWorld(t)
	w.serve(false)
	w.cluster.Services[0].Addresses = []netip.Addr{netpoltest.Address(4, false)} // which is y/b, and nothing translates it
	w.cluster.Services[0].Ports[0].Port = 80
	w.apply(onlyPodA)
	if w.enforcer.forward == nil {
		t.Skipf("needs netfilter programs (6.4): %v", w.enforcer.why)
	}
	// Nothing comes by the programs behind translation either.
	if err := w.host.Detach(forwardName); err != nil {
		t.Fatal(err)
	}
	w.expect(1, target{netpoltest.Address(4, false), unix.IPPROTO_TCP, 80}, false)
	if got := w.enforcer.count(bpfVgNpCountVG_NP_COUNT_UNTRANSLATED); got == 0 {
		t.Error("the answer was not counted")
	}
}

// tell has a pod's process do something with the connection that it holds.
func (x *podProcess) tell(t testing.TB, want, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(x.in, format+"\n", args...); err != nil {
		t.Fatal(err)
	}
	line, err := x.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(line); got != want && (want != "timeout" || !strings.Contains(got, "timeout")) {
		t.Errorf("%s: %s, want %s", fmt.Sprintf(format, args...), got, want)
	}
}

// TestServicesWithoutForward holds that, where nobody sees translations, a service is allowed when all behind it is.
func TestServicesWithoutForward(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	if err := w.enforcer.load(); err != nil {
		t.Fatal(err)
	}
	if w.enforcer.forward != nil {
		w.enforcer.forward.Close()
		w.enforcer.forward = nil // as on an older kernel
	}
	mixed := w.cluster.Services[3].Ports[0]
	mixed.Port = 8001
	mixed.Endpoints = append(mixed.Endpoints[:1:1], netip.AddrPortFrom(netpoltest.Address(4, false), 80))
	w.cluster.Services[3].Ports = append(w.cluster.Services[3].Ports, mixed)
	w.node.Do(t, func() error {
		return exec.Command("nft", "add", "rule", "inet", "services", "prerouting", "ip", "daddr", serviceAddress(3, false).String(), "tcp", "dport", "8001", "dnat", "ip", "to", netpoltest.Address(3, false).String()+":80").Run()
	})
	w.apply(onlyPodA)
	for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		w.expect(1, target{serviceAddress(3, false), protocol, 8000}, true)
		w.expect(1, target{serviceAddress(4, false), protocol, 8000}, false)
	}
	w.expect(1, target{serviceAddress(3, false), unix.IPPROTO_TCP, 8001}, false)
}
