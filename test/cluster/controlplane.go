// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// master is the control plane: process 1 of its namespaces, with its nodes.
type master struct {
	*processes
	kubernetes
	mu    sync.Mutex
	nodes map[string]*node // that have been started and not killed
}

// node is process 1 of a node.
type node struct {
	*exec.Cmd
	ended chan struct{} // closed when it is gone
}

func (n *node) gone() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// controlPlane runs inside the namespaces that up made, until its standard input ends. Whatever it has started ends with it: it is
// process 1 of a pid namespace.
func controlPlane(ctx context.Context, c *cluster) error {
	ctx = untilEOF(ctx, os.Stdin)
	m := &master{processes: newProcesses(c), nodes: map[string]*node{}}
	outside, err := net.FileListener(os.NewFile(3, "outside"))
	if err != nil {
		return err
	}
	if err := m.network(); err != nil {
		return err
	}
	m.server = "https://" + controlPlaneIP + ":" + serverPort
	if m.admin, err = c.identities(m.server, "https://"+outside.Addr().String()); err != nil {
		return err
	}
	control, err := m.listen()
	if err != nil {
		return err
	}
	if err := m.apiServer(controlPlaneIP, serverPort); err != nil {
		return err
	}
	go forward(outside, controlPlaneIP+":"+serverPort) // these two end with this process
	go m.serve(control)
	// Nodes make their namespaces, start containerd and import images meanwhile.
	for _, n := range c.NodeNames() {
		if err := m.startNode(n); err != nil {
			return err
		}
	}
	if err := m.orEnd(ctx, m.boot); err != nil {
		return errors.Join(err, m.nodeLogs())
	}
	m.say("cluster ready: export KUBECONFIG=%s", c.path("kubeconfig"))
	if err := m.ready(); err != nil {
		return err
	}
	select {
	case err := <-m.ended:
		return err
	case <-ctx.Done():
		return m.powerOff()
	}
}

// network makes a bridge for the nodes.
func (m *master) network() error {
	// Mounts of this namespace stay in it.
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", m.path("etcd"), "tmpfs", 0, "size=4g,mode=700"); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte("lab-cp")); err != nil {
		return err
	}
	for _, line := range []string{"link set lo up", "link add br0 type bridge", "addr add " + controlPlaneIP + "/24 dev br0", "link set br0 up"} {
		if err := command("ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

// boot waits for the API server, starts the rest and waits for that.
func (m *master) boot(ctx context.Context) error {
	if err := m.awaitReady(ctx); err != nil {
		return err
	}
	m.say("kube-apiserver ready")
	for _, n := range m.NodeNames() {
		if err := m.post(ctx, "/api/v1/nodes", fmt.Sprintf(`{"apiVersion": "v1", "kind": "Node",
			"metadata": {"name": %q, "labels": {"kubernetes.io/hostname": %q}}, "spec": {"podCIDR": %q, "podCIDRs": [%q]}}`, n, n, podNet(n), podNet(n))); err != nil {
			return err
		}
	}
	common := []string{"--kube-api-qps=500", "--kube-api-burst=1000", "--leader-elect=false", "--profiling=false", "--bind-address=127.0.0.1"}
	manager := []string{"--use-service-account-credentials=true", "--kubeconfig=" + m.pki("system:kube-controller-manager.kubeconfig"),
		"--service-account-private-key-file=" + m.pki("service-accounts.key"), "--root-ca-file=" + m.pki("ca.crt"),
		"--cluster-signing-cert-file=" + m.pki("ca.crt"), "--cluster-signing-key-file=" + m.pki("ca.key"),
		"--node-monitor-period=2s", "--node-monitor-grace-period=" + m.Grace.String()}
	if err := m.start("kube-controller-manager", m.kube("kube-controller-manager"), append(manager, common...)...); err != nil {
		return err
	}
	if err := m.start("kube-scheduler", m.kube("kube-scheduler"), append(common, "--kubeconfig="+m.pki("system:kube-scheduler.kubeconfig"))...); err != nil {
		return err
	}
	for _, n := range m.NodeNames() {
		node := m.node(n)
		err := await(ctx, time.Minute, "node "+n+" to be Ready", func() bool { return node.gone() || m.nodeReady(ctx, n) })
		if err != nil {
			return err
		}
		if node.gone() {
			return fmt.Errorf("node %s has ended", n)
		}
		m.say("node %s Ready", n)
	}
	// Without it no pod can be made.
	err := await(ctx, time.Minute, "the default service account", func() bool { return m.exists(ctx, "/api/v1/namespaces/default/serviceaccounts/default") })
	if err != nil || !m.DNS {
		return err
	}
	return m.dns(ctx)
}

// dns runs CoreDNS and waits for it.
func (m *master) dns(ctx context.Context) error {
	apply := exec.CommandContext(ctx, m.kube("kubectl"), "--kubeconfig", m.pki("admin.kubeconfig"), "apply", "-f", "-")
	apply.Stdin = strings.NewReader(coreDNS)
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("run CoreDNS: %w: %s", err, out)
	}
	return await(ctx, time.Minute, "CoreDNS", func() bool {
		data, err := m.get(ctx, "/apis/apps/v1/namespaces/kube-system/deployments/coredns")
		return err == nil && strings.Contains(string(data), `"availableReplicas":1`)
	})
}

// startNode starts process 1 of a node, gives it its link, and lets it go on.
func (m *master) startNode(n string) error {
	log, err := os.OpenFile(m.path("log", n+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", "node", m.Dir, n)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID}
	linked, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make the namespaces of %s: %w", n, err)
	}
	veth := "v-" + n
	for _, line := range []string{
		"link add " + veth + " type veth peer name eth0 netns " + strconv.Itoa(cmd.Process.Pid),
		"link set " + veth + " master br0 up",
		"route replace " + podNet(n) + " via " + nodeIP(n),
	} {
		if err := command("ip", strings.Fields(line)...); err != nil {
			return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
	}
	linked.Close() // for this the node waits
	started := &node{Cmd: cmd, ended: make(chan struct{})}
	go func() { // ends with the node, and that with this process at the latest
		_ = cmd.Wait() // its log says why
		close(started.ended)
	}()
	m.mu.Lock()
	m.nodes[n] = started
	m.mu.Unlock()
	return nil
}

func (m *master) node(n string) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[n]
}

// killNode ends process 1 of a node, and with it the kernel ends the node.
func (m *master) killNode(n string) error {
	m.mu.Lock()
	node := m.nodes[n]
	delete(m.nodes, n)
	m.mu.Unlock()
	if node == nil {
		return fmt.Errorf("node %q does not run", n)
	}
	err := node.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-node.ended
	// Its end of the link goes with its network, which the kernel takes down a moment later.
	_ = command("ip", "link", "del", "v-"+n)
	return err
}

func (m *master) powerOff() error {
	m.say("stopping")
	var errs []error
	for _, n := range m.NodeNames() {
		if m.node(n) != nil {
			errs = append(errs, m.killNode(n))
		}
	}
	m.stop()
	return errors.Join(errs...)
}

// nodeLogs says what nodes wrote, for one that does not come up.
func (m *master) nodeLogs() error {
	var errs []error
	for _, n := range m.NodeNames() {
		errs = append(errs, fmt.Errorf("log of %s:\n%s", n, tail(m.path("log", n+".log"))))
	}
	return errors.Join(errs...)
}

func (m *master) listen() (net.Listener, error) {
	socket := m.path("control.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", socket)
}

// serve answers lines of commands: "pid n1", "kill n1", "start n1", "link n1 up".
func (m *master) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprintln(conn, m.answer(strings.Fields(line)))
		}()
	}
}

func (m *master) answer(words []string) string {
	if len(words) < 2 || nodeNumber(words[1]) < 1 || nodeNumber(words[1]) > m.Nodes {
		return fmt.Sprintf("%q: there is no such node; there are %v", words, m.NodeNames())
	}
	n := words[1]
	node := m.node(n)
	var err error
	switch words[0] {
	case "pid":
		if node == nil {
			return fmt.Sprintf("node %q does not run", n)
		}
		return strconv.Itoa(node.Process.Pid)
	case "kill":
		err = m.killNode(n)
	case "start":
		if node != nil {
			return fmt.Sprintf("node %q runs", n)
		}
		err = m.startNode(n)
	case "link":
		if len(words) != 3 {
			return "link NODE up|down"
		}
		err = command("ip", "link", "set", "v-"+n, words[2])
	default:
		return fmt.Sprintf("unknown command %q", words[0])
	}
	if err != nil {
		return err.Error()
	}
	return done
}

// forward passes connections on. Each ends when one of its sides does.
func forward(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			ended := make(chan struct{}, 2)
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from) // the error is the other side's end
				ended <- struct{}{}
			}
			go pass(out, in)
			go pass(in, out)
			<-ended
		}()
	}
}
