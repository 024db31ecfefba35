// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/vigie-io/vigie/internal/testkit"
)

// translate gives a network namespace rules of nftables, or skips.
func translate(t *testing.T, ns *testkit.NetNS, rules string) {
	t.Helper()
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft (nftables)")
	}
	var out []byte
	ns.Do(t, func() error {
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err = cmd.CombinedOutput()
		return nil
	})
	if err != nil {
		t.Skipf("needs network address translation (CONFIG_NF_NAT, nft_nat): %v: %s", err, out)
	}
}

func TestATranslatedConversationNamesItsService(t *testing.T) {
	a := startAgent(t, "--export-types", "flow,listen")
	near, far := host(t)
	translate(t, near, `table ip nat {
 chain output {
  type nat hook output priority -100;
  ip daddr 10.70.0.200 tcp dport 80 dnat to 10.70.0.2:8080
  ip daddr 10.70.0.200 udp dport 5300 dnat to 10.70.0.2:5300
 }
}
`)
	worker := startPeer(t, far, "echo", listen(t, far, "10.70.0.2:8080"))
	c := dial(t, near, "10.70.0.200:80")
	exchange(t, c, 77)
	_ = c.Close()
	f := a.flow("the translated connection", "tcp", 8080, 77)
	checkEnds(t, f, testkit.PID(), worker.Process.Pid)
	checkService(t, f, "10.70.0.200:80", "10.70.0.2")
	a.datagrams(near, far, [4]byte{10, 70, 0, 200}, "10.70.0.2")
	a.stop()
}

// checkService compares what a flow's source asked for, and where that was translated to.
func checkService(t *testing.T, f map[string]any, service, destination string) {
	t.Helper()
	if got := fmt.Sprintf("%v:%v", get(f, "flow.service.address"), get(f, "flow.service.port")); got != service || get(f, "flow.destination.address") != destination {
		t.Errorf("the translated conversation is %v, want service %s at %s", f["flow"], service, destination)
	}
}

// datagrams has a client ask a service for which a server in far answers, from sockets with and without connection: each is
// one flow.
func (a *agent) datagrams(client, far *testkit.NetNS, service [4]byte, server string) {
	a.t.Helper()
	answers := startPeer(a.t, far, "datagrams", nil)
	a.awaitEvent("the server", func(e map[string]any) bool {
		return e["type"] == "listen" && get(e, "process.pid") == float64(answers.Process.Pid) && get(e, "socket.protocol") == "udp"
	})
	for i, connected := range []bool{true, false} {
		n := 30 + i
		client.Do(a.t, func() error { return ask(service, connected, n) })
		f := a.flow("the translated datagrams", "udp", 5300, float64(n))
		checkEnds(a.t, f, testkit.PID(), answers.Process.Pid)
		checkService(a.t, f, fmt.Sprintf("%d.%d.%d.%d:5300", service[0], service[1], service[2], service[3]), server)
		if get(f, "flow.total.bytes_received") != float64(n) || get(f, "flow.total.packets_sent") != 1.0 {
			a.t.Errorf("the translated datagrams are %v", f["flow"])
		}
	}
}

// A node translates what its pods ask for, in its own network namespace, in which the agent is: one flow all the same.
func TestWhatAHostTranslatesForItsPodsIsOneFlow(t *testing.T) {
	pod, node, other := testkit.NewNetNS(t), testkit.NewNetNS(t), testkit.NewNetNS(t)
	testkit.Connect(t, node, pod, "10.71.0.1/24", "10.71.0.2/24")
	node.Do(t, func() error { return rename("peer", "pod") })
	testkit.Connect(t, node, other, "10.72.0.1/24", "10.72.0.2/24")
	node.Do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	for ns, gateway := range map[*testkit.NetNS]string{pod: "10.71.0.1", other: "10.72.0.1"} {
		ns.Do(t, func() error { return defaultRoute(gateway) })
	}
	translate(t, node, `table ip nat {
 chain prerouting {
  type nat hook prerouting priority -100;
  ip daddr 10.96.0.10 tcp dport 80 dnat to 10.72.0.2:8080
  ip daddr 10.96.0.10 udp dport 5300 dnat to 10.72.0.2:5300
  ip daddr 10.96.0.11 tcp dport 80 dnat to 10.71.0.1:8081
  ip daddr 10.96.0.12 tcp dport 80 dnat to 10.72.0.2:8080
 }
 chain postrouting {
  type nat hook postrouting priority 100;
  ct original ip daddr 10.96.0.12 masquerade
 }
}
`)
	testkit.RequireBPF(t)
	a := newAgent(t, t.TempDir(), "--export-types", "flow,listen")
	a.ns = node
	a.start()

	worker := startPeer(t, other, "echo", listen(t, other, "10.72.0.2:8080"))
	on := startPeer(t, node, "echo", listen(t, node, "10.71.0.1:8081"))
	for i, c := range []struct {
		what, service, destination string
		port                       float64
		pid                        int
	}{
		{"to another pod", "10.96.0.10:80", "10.72.0.2", 8080, worker.Process.Pid},
		{"to the node itself", "10.96.0.11:80", "10.71.0.1", 8081, on.Process.Pid},
		{"with the node's own address", "10.96.0.12:80", "10.72.0.2", 8080, worker.Process.Pid},
	} {
		conn := dial(t, pod, c.service)
		exchange(t, conn, 70+i)
		_ = conn.Close()
		f := a.flow("the connection "+c.what, "tcp", c.port, float64(70+i))
		checkEnds(t, f, testkit.PID(), c.pid)
		checkService(t, f, c.service, c.destination)
		if get(f, "flow.source.address") != "10.71.0.2" {
			t.Errorf("the connection %s comes from %v", c.what, get(f, "flow.source.address"))
		}
	}
	a.datagrams(pod, other, [4]byte{10, 96, 0, 10}, "10.72.0.2")
	a.stop()
}

func rename(device, to string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetDown(l); err != nil {
		return err
	}
	if err := netlink.LinkSetName(l, to); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func defaultRoute(gateway string) error {
	return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)})
}
