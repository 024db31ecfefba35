// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
	"github.com/vigie-io/vigie/internal/sensor/dns"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestMain is also what runs in pods (peer_test.go).
func TestMain(m *testing.M) {
	if os.Getenv(peerEnv) != "" {
		os.Exit(peer(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// world is a node with nine pods, each in a network namespace and a cgroup of its own, and an Enforcer.
type world struct {
	t        testing.TB
	node     *testkit.NetNS
	cluster  *netpol.Cluster
	cgroups  map[uint64]Cgroup
	parent   string // directory of the pods' cgroups
	pods     []*podProcess
	host     *kernel.Host
	enforcer *Enforcer

	sockets *socket.Sensor

	mu     sync.Mutex
	events []*model.Event // verdicts
	closes []*model.Event // of UDP sockets
	dns    int            // packets of DNS, of the test itself
}

func newWorld(t testing.TB) *world {
	t.Helper()
	testkit.RequireBPF(t)
	root := kernel.FindCgroup2()
	if root == "" {
		t.Skip("needs cgroup v2")
	}
	w := &world{t: t, node: testkit.NewNetNS(t), cluster: netpoltest.Cluster(), cgroups: make(map[uint64]Cgroup),
		parent: filepath.Join(root, fmt.Sprintf("vigie-test-%d-%s", os.Getpid(), filepath.Base(t.Name())), "kubepods")}
	w.makeCgroup(filepath.Dir(w.parent))
	w.cgroups[w.makeCgroup(w.parent)] = Cgroup{Parent: true}
	w.node.Do(t, func() error {
		for file, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/default/accept_dad": "0"} {
			if err := os.WriteFile("/proc/sys/"+file, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	w.address(w.node, "lo", netpoltest.Gateway(false))
	log := slog.New(slog.DiscardHandler)
	losses := new(pipeline.Losses)
	var err error
	if w.host, err = kernel.Open(kernel.Options{Log: log, Losses: losses}); err != nil {
		t.Fatal(err)
	}
	w.sockets = socket.New(socket.Options{})
	if err := w.sockets.Start(context.Background(), w.host); err != nil {
		t.Fatal(err)
	}
	if err := dns.New(dns.Options{}).Start(context.Background(), w.host); err != nil {
		t.Fatal(err)
	}
	w.enforcer = New(Options{Log: log, Losses: losses, Host: w.host, InHost: w.node.Run})
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := w.host.Read(ctx, w.record, func() {}); err != nil {
			t.Errorf("read the rings: %v", err)
		}
	})
	t.Cleanup(func() {
		if err := w.enforcer.Close(); err != nil {
			t.Errorf("close the enforcer: %v", err)
		}
		cancel()
		reading.Wait()
		if err := w.host.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
	})
	for i, p := range w.cluster.Pods {
		w.addPod(i, p)
	}
	return w
}

// makeCgroup makes one that goes away with the test, and returns its number.
func (w *world) makeCgroup(dir string) uint64 {
	w.t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		w.t.Skipf("needs a writable cgroup v2: %v", err)
	}
	w.t.Cleanup(func() {
		for end := time.Now().Add(testkit.Deadline); os.Remove(dir) != nil && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		w.t.Fatal(err)
	}
	return st.Ino
}

// addPod joins a pod to the node as ptp plug-ins do: all that it sends goes to the node, which forwards.
func (w *world) addPod(i int, p *model.Pod) {
	w.t.Helper()
	ns := testkit.NewNetNS(w.t)
	dir := filepath.Join(w.parent, "pod"+p.UID)
	w.cgroups[w.makeCgroup(dir)] = Cgroup{Pod: p}
	var fd int
	ns.Do(w.t, func() (err error) {
		if fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	})
	defer unix.Close(fd)
	outside := fmt.Sprintf("pod%d", i)
	w.node.Do(w.t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = outside
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}); err != nil {
			return fmt.Errorf("make a pair of virtual devices: %w", err)
		}
		return nil
	})
	own, gateways := p.Addresses, []netip.Addr{netpoltest.Gateway(false), netpoltest.Gateway(true)}
	w.address(w.node, outside, netpoltest.Gateway(true)) // IPv6 answers for the addresses of the device that is asked alone
	w.address(ns, "eth0", own...)
	for j := range own {
		w.route(w.node, outside, own[j], netip.Addr{})
		w.route(ns, "eth0", gateways[j], netip.Addr{})
		w.route(ns, "eth0", netip.Addr{}, gateways[j])
	}
	w.pods = append(w.pods, w.startPeer(ns, dir, p))
}

func (w *world) address(ns *testkit.NetNS, device string, addrs ...netip.Addr) {
	w.t.Helper()
	ns.Do(w.t, func() error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("find device %s: %w", device, err)
		}
		for _, a := range addrs {
			if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: netlink.NewIPNet(a.AsSlice()), Flags: unix.IFA_F_NODAD}); err != nil {
				return fmt.Errorf("give %s the address %s: %w", device, a, err)
			}
		}
		return netlink.LinkSetUp(l)
	})
}

// route leads to an address, or everywhere when it is none, over a device or a gateway.
func (w *world) route(ns *testkit.NetNS, device string, to, via netip.Addr) {
	w.t.Helper()
	ns.Do(w.t, func() error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK}
		if to.IsValid() {
			r.Dst = netlink.NewIPNet(to.AsSlice())
		}
		if via.IsValid() {
			r.Gw, r.Scope = via.AsSlice(), netlink.SCOPE_UNIVERSE
			r.Family = netlink.FAMILY_V4
			if via.Is6() {
				r.Family = netlink.FAMILY_V6
			}
		}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("add the route %v: %w", r, err)
		}
		return nil
	})
}

// podProcess is the process of a pod, which listens at all ports and probes as it is told.
type podProcess struct {
	pod *model.Pod
	cmd *exec.Cmd
	ns  *testkit.NetNS
	in  io.WriteCloser
	out *bufio.Reader
}

func (w *world) startPeer(ns *testkit.NetNS, cgroup string, p *model.Pod) *podProcess {
	w.t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		w.t.Fatal(err)
	}
	defer dir.Close()
	x := &podProcess{pod: p, ns: ns, cmd: exec.Command("/proc/self/exe")}
	x.cmd.Env = append(os.Environ(), peerEnv+"=1")
	x.cmd.Stderr = os.Stderr
	x.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if x.in, err = x.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	x.out = bufio.NewReader(out)
	ns.Do(w.t, x.cmd.Start)
	w.t.Cleanup(func() {
		x.in.Close()
		_ = x.cmd.Process.Kill()
		_ = x.cmd.Wait()
	})
	if line, err := x.out.ReadString('\n'); err != nil || line != "ready\n" {
		w.t.Fatalf("the process of pod %s/%s says %q, %v", p.Namespace, p.Name, line, err)
	}
	return x
}

// probe has a pod try to begin conversations, and says which came about. An answer that is late counts when it comes within
// wait.
func (x *podProcess) probe(t testing.TB, wait time.Duration, targets ...target) []bool {
	t.Helper()
	b, err := json.Marshal(order{Wait: wait, Targets: targets})
	if err == nil {
		_, err = x.in.Write(append(b, '\n'))
	}
	var line []byte
	if err == nil {
		line, err = x.out.ReadBytes('\n')
	}
	var got []bool
	if err == nil {
		err = json.Unmarshal(line, &got)
	}
	if err != nil || len(got) != len(targets) {
		t.Fatalf("probe from pod %s/%s: %q, %v", x.pod.Namespace, x.pod.Name, line, err)
	}
	return got
}

func (w *world) record(r kernel.Record) {
	h := r.Header()
	if h == nil {
		return
	}
	switch kernel.RecordType(h.Type) {
	case kernel.RecordClose:
		ev := &model.Event{Key: h.Key()}
		if _, err := w.sockets.Decoders()[kernel.RecordClose](r, ev); err != nil {
			w.t.Errorf("decode a close: %v", err)
		} else if ev.Socket.Protocol == "udp" {
			w.mu.Lock()
			w.closes = append(w.closes, ev)
			w.mu.Unlock()
		}
		return
	case kernel.RecordDNS:
		if h.Key().PID == uint32(os.Getpid()) {
			w.mu.Lock()
			w.dns++
			w.mu.Unlock()
		}
		return
	}
	if kernel.RecordType(h.Type) != kernel.RecordVerdict || !IsVerdict(r) {
		return
	}
	ev := &model.Event{Key: h.Key(), BootTime: h.Time, Count: h.Count}
	if _, err := w.enforcer.Decode(r, ev); err != nil {
		w.t.Errorf("decode a verdict: %v", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, ev)
}

// verdict waits for one that matches.
func (w *world) verdict(what string, match func(*model.Event) bool) *model.Event {
	w.t.Helper()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		for _, ev := range w.events {
			if match(ev) {
				w.mu.Unlock()
				return ev
			}
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		w.t.Logf("verdict %+v", *ev.Verdict)
	}
	w.t.Fatalf("no verdict: %s", what)
	return nil
}

// apply puts policies in force.
func (w *world) apply(text string) []*netpol.Policy {
	w.t.Helper()
	policies, err := netpol.Parse("test", []byte(text))
	if err != nil {
		w.t.Fatalf("%v\n%s", err, text)
	}
	if err := w.enforcer.Apply(context.Background(), State{Policies: policies, Cluster: w.cluster, Cgroups: w.cgroups}); err != nil {
		w.t.Fatal(err)
	}
	return policies
}
