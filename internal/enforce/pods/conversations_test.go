// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
	"github.com/vigie-io/vigie/internal/testkit"
)

const closed = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: x}
spec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress]}
`

// TestCut holds that a conversation that is not allowed any more ends with the policies that allowed it, and that others go on.
func TestCut(t *testing.T) {
	w := newWorld(t)
	addr := netip.AddrPortFrom(netpoltest.Address(0, false), 80)
	w.pods[1].tell(t, "ok", "open tcp %s", addr)
	w.pods[3].tell(t, "ok", "open tcp %s", netip.AddrPortFrom(netpoltest.Address(4, false), 80))
	w.apply(closed)
	w.pods[1].tell(t, "timeout", "say")
	w.pods[3].tell(t, "ok", "say")
	w.apply("")
	w.pods[1].tell(t, "ok", "open tcp %s", addr)
	w.apply(strings.ReplaceAll(closed, "pod: a", "pod: b")) // of who began it
	w.pods[1].tell(t, "timeout", "say")
}

// TestAudit holds that a policy that only watches denies nothing, and tells what it would have.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	w.apply(strings.ReplaceAll(closed, "namespace: x}", "namespace: x, annotations: {vigie.io/mode: audit}}"))
	w.expect(1, target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}, true)
	ev := w.verdict("audited", func(ev *model.Event) bool { return ev.Verdict.Action == model.VerdictAudited })
	if v := ev.Verdict; v.Policy != "NetworkPolicy/x/closed" || v.Guarantee != model.SeenOnly {
		t.Errorf("the verdict is %+v", *v)
	}
}

// TestNodeMayProbe holds that what comes from the node itself comes in, whatever policies say: the kubelet's probes.
func TestNodeMayProbe(t *testing.T) {
	w := newWorld(t)
	w.apply(closed)
	w.node.Do(t, func() error {
		for _, six := range []bool{false, true} {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netpoltest.Address(0, six), 80).String(), testkit.Deadline)
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
	w.expect(1, target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}, false)
}

// TestHeld holds that a pod that is not known yet neither says nor hears anything, and does when it is known.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	known := w.cgroups
	w.cgroups = make(map[uint64]Cgroup)
	var pod uint64
	for id, g := range known {
		if g.Pod == w.cluster.Pods[1] {
			pod = id
			continue
		}
		w.cgroups[id] = g
	}
	w.apply(closed)
	w.expect(1, target{netpoltest.Address(4, false), unix.IPPROTO_TCP, 80}, false)
	w.expect(4, target{netpoltest.Address(1, false), unix.IPPROTO_UDP, 80}, false)
	if w.enforcer.count(bpfVgNpCountVG_NP_COUNT_HELD) == 0 {
		t.Error("no packet was counted as held")
	}
	// One in the node's own network is not held, as an agent is that nobody knows yet.
	host := w.startPeer(w.node, filepath.Join(w.parent, "pod"+w.cluster.Pods[1].UID), w.cluster.Pods[1])
	if got := host.probe(t, testkit.Deadline, target{netpoltest.Address(4, false), unix.IPPROTO_TCP, 80}); !got[0] {
		t.Error("a process in the node's network is held")
	}
	w.cgroups[pod] = Cgroup{} // its cgroup is known, what it is is not
	w.apply(closed)
	w.expect(1, target{netpoltest.Address(4, false), unix.IPPROTO_TCP, 80}, false)
	w.cgroups[pod] = known[pod]
	w.apply(closed)
	w.expect(1, target{netpoltest.Address(4, false), unix.IPPROTO_TCP, 80}, true)
	w.expect(4, target{netpoltest.Address(1, false), unix.IPPROTO_UDP, 80}, true)
	w.expect(1, target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}, false)
}

// TestAddressOfAnother holds that an address counts for the pod that has it now.
func TestAddressOfAnother(t *testing.T) {
	w := newWorld(t)
	const policy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-b, namespace: x}
spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}
`
	w.apply(policy)
	to := target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}
	w.expect(1, to, true)
	before := w.cluster.Pods[1]
	other := *before
	other.UID, other.Name, other.Labels = "another", "later", map[string]string{"pod": "c"}
	cluster := *w.cluster
	cluster.Pods = append([]*model.Pod{}, w.cluster.Pods...)
	cluster.Pods[1] = &other
	w.cluster = &cluster
	w.apply(policy)
	w.expect(1, to, false)
	gone := other
	gone.Ended = true
	cluster2 := cluster
	cluster2.Pods = append([]*model.Pod{}, cluster.Pods...)
	cluster2.Pods[1] = &gone
	w.cluster = &cluster2
	w.apply(policy)
	w.expect(1, to, false)
	cluster3 := cluster
	cluster3.Pods = append([]*model.Pod{}, cluster.Pods...)
	cluster3.Pods[1] = before
	w.cluster = &cluster3
	w.apply(policy)
	w.expect(1, to, true)
}

// TestPacketSocket holds that frames which a pod makes itself, past all sockets' hooks, are judged where the node forwards them.
func TestPacketSocket(t *testing.T) {
	w := newWorld(t)
	w.apply(strings.ReplaceAll(closed, "pod: a", "pod: b"))
	if w.enforcer.forward == nil {
		t.Skipf("needs netfilter programs (6.4): %v", w.enforcer.why)
	}
	from, to := netpoltest.Address(1, false), netpoltest.Address(4, false)
	w.pods[1].ns.Do(t, func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: eth.Attrs().Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
		// To the node's own hardware address: it has just been asked for by the route.
		outside := nodeDevice(t, w, "pod1")
		copy(to.Addr[:6], outside)
		return unix.Sendto(fd, synPacket(from, netpoltest.Address(4, false), 80), 0, &to)
	})
	w.verdict("the frame's SYN", func(ev *model.Event) bool {
		return ev.Verdict.Hook == "netfilter" && ev.Verdict.Remote == netip.AddrPortFrom(to, 80) && ev.Verdict.Local.Port() == 4321
	})
}

func nodeDevice(t testing.TB, w *world, name string) (addr net.HardwareAddr) {
	w.node.Do(t, func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			addr = l.Attrs().HardwareAddr
		}
		return err
	})
	return addr
}

// synPacket is an IPv4 packet with a TCP SYN; its TCP checksum is none.
func synPacket(from, to netip.Addr, port uint16) []byte {
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], 40)
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(b[20:], 4321)
	binary.BigEndian.PutUint16(b[22:], port)
	b[32], b[33] = 5<<4, 0x02
	return b
}

// TestReplaceUnderLoad holds that there is no moment without a policy while policies are replaced: what all of them deny never
// comes through, what all allow always does.
func TestReplaceUnderLoad(t *testing.T) {
	w := newWorld(t)
	variant := func(port string) []*netpol.Policy {
		p, err := netpol.Parse("test", []byte(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}, {ports: [{port: `+port+`}]}]}
`))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	sets := [][]*netpol.Policy{variant("7000"), variant("7001")}
	state := func(i int) State { return State{Policies: sets[i%2], Cluster: w.cluster, Cgroups: w.cgroups} }
	if err := w.enforcer.Apply(context.Background(), state(0)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var replacing sync.WaitGroup
	replaced := 0
	replacing.Go(func() {
		for ; ctx.Err() == nil; replaced++ {
			if err := w.enforcer.Apply(context.Background(), state(replaced)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	to := target{netpoltest.Address(0, false), unix.IPPROTO_TCP, 80}
	udp := target{netpoltest.Address(0, false), unix.IPPROTO_UDP, 80}
	for range 100 {
		if got := w.pods[1].probe(t, 5*time.Millisecond, to, udp); got[0] || got[1] {
			t.Fatalf("what every policy denies came through: %v", got)
		}
		if got := w.pods[2].probe(t, testkit.Deadline, to, udp); !got[0] || !got[1] {
			t.Fatalf("what every policy allows did not come through: %v", got)
		}
	}
	stop()
	replacing.Wait()
	if replaced < 10 {
		t.Errorf("policies were replaced %d times only", replaced)
	}
}

// TestNames holds that an address counts for a name when the pod itself was told so.
func TestNames(t *testing.T) {
	w := newWorld(t)
	w.apply(`
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: x}
spec:
  endpointSelector: {matchLabels: {pod: b}}
  egress: [{toFQDNs: [{matchPattern: "*.example.org"}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]
`)
	to := target{netpoltest.Address(4, false), unix.IPPROTO_TCP, 80}
	w.expect(1, to, false)
	answer := func(i int, name string) {
		t.Helper()
		ev := &model.Event{BootTime: 1 << 62, Process: &model.Process{Workload: &model.Workload{PodUID: w.cluster.Pods[i].UID}},
			DNS: &model.DNS{Name: name, Answers: []model.DNSAnswer{{Type: "A", Data: to.Address.String()}}}}
		if err := w.enforcer.Learn(ev); err != nil {
			t.Fatal(err)
		}
	}
	answer(2, "www.example.org") // another pod's answer
	answer(1, "www.example.net")
	w.expect(1, to, false)
	answer(1, "www.example.org")
	w.expect(1, to, true)
	w.expect(1, target{to.Address, unix.IPPROTO_TCP, 81}, false)
}
