// SPDX-License-Identifier: Apache-2.0

// Package lab gives tests a real Kubernetes: a whole cluster on this machine in some five seconds (Boot), or etcd and kube-apiserver
// alone in some four (API). In: what the test wants. Out: a kubeconfig, and a hand on the nodes. What runs is built once by
// `make cluster-tools`; a test that finds it missing skips, and says so. The command test/cluster does the work and says how.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cluster is a Kubernetes that runs while the test does.
type Cluster struct {
	Options
	// Kubeconfig is a file by which this machine reaches the API server as its administrator.
	Kubeconfig string
	// Dir has the logs in log/, and all else that belongs to the cluster.
	Dir     string
	Tools   Tools
	program string
}

// Enabled is the environment variable that has tests boot clusters.
const Enabled = "VIGIE_CLUSTER"

// Boot boots a cluster and takes it down when the test ends. The logs of one whose test failed stay.
func Boot(t testing.TB, o Options) *Cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a cluster makes namespaces and needs root")
	}
	for _, program := range []string{"runc", "iptables", "conntrack"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("a cluster needs %s: sudo tools/deps.sh cluster installs it", program)
		}
	}
	wanted := []string{"containerd", "cni"}
	if o.DNS {
		wanted = append(wanted, "coredns")
	}
	return start(t, "up", o, wanted...)
}

// API starts etcd and kube-apiserver of this minor alone: enough for controllers and admission, needs no privilege. There is no
// controller manager: nothing collects garbage, and namespaces stay Terminating. args are more arguments of kube-apiserver.
func API(t testing.TB, minor string, args ...string) *Cluster {
	t.Helper()
	return start(t, "api", Options{Minor: minor, NoNodes: true, APIServer: args})
}

func start(t testing.TB, command string, o Options, wanted ...string) *Cluster {
	t.Helper()
	// Minutes of work, whether or not the programs are there: make test does without.
	if os.Getenv(Enabled) == "" {
		t.Skip("a real cluster is booted by make test-cluster (" + Enabled + "=1)")
	}
	if err := o.Complete(); err != nil {
		t.Fatal(err)
	}
	tree, err := Tree()
	if err != nil {
		t.Skip(err)
	}
	c := &Cluster{Options: o}
	c.Tools, err = Find(tree, o.Minor, wanted...)
	if errors.Is(err, ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.folder(tree, t.Name()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.clean(t) })
	options, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(filepath.Dir(c.program), "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	up := exec.Command(c.program, command, "-dir", c.Dir, "-lifeline", "-options", string(options))
	up.Dir, up.Stdout, up.Stderr = tree, log, log
	up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the test, which ends the cluster
	lifeline, err := up.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	t.Cleanup(func() {
		lifeline.Close()
		if err := <-ended; err != nil && !t.Failed() {
			t.Errorf("the cluster did not end well: %v\n%s", err, c.upLog())
		}
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(c.Dir, "ready")); err == nil {
			return c
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the cluster does not boot: %v\n%s", err, c.upLog())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the cluster is not ready:\n%s", c.upLog())
		}
	}
}

// folder makes the cluster's folder, not in the test's own: a cluster must lie below the cache, beside what it runs. The program
// that makes clusters is built there from this tree.
func (c *Cluster) folder(tree, test string) error {
	cache, err := Cache()
	if err != nil {
		return err
	}
	run := filepath.Join(cache, "run")
	if err := os.MkdirAll(run, 0o755); err != nil {
		return err
	}
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' {
			return '-'
		}
		return r
	}, test)
	// Short: unix sockets lie in it.
	if c.Dir, err = os.MkdirTemp(run, name[:min(len(name), 20)]+"-"); err != nil {
		return err
	}
	if err := os.Chmod(c.Dir, 0o755); err != nil {
		return err
	}
	c.Kubeconfig, c.program = filepath.Join(c.Dir, "kubeconfig"), filepath.Join(c.Dir+".bin", "cluster")
	build := exec.Command("go", "build", "-o", c.program, "./test/cluster")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build test/cluster: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// clean removes what the cluster left, but for the logs of a failed test.
func (c *Cluster) clean(t testing.TB) {
	os.RemoveAll(filepath.Dir(c.program))
	if t.Failed() {
		t.Logf("logs are kept in %s", filepath.Join(c.Dir, "log"))
		for _, large := range []string{"nodes", "images", "etcd"} {
			os.RemoveAll(filepath.Join(c.Dir, large))
		}
		return
	}
	os.RemoveAll(c.Dir)
}

func (c *Cluster) upLog() string {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(c.program), "up.log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Exec is a command on a node, or in the network of the control plane ("cp"), with kubectl and ctr in its path. It ends with ctx, all that
// it has started included.
func (c *Cluster) Exec(ctx context.Context, node string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.program, append([]string{"exec", "-dir", c.Dir, node}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Output runs a command on a node and returns what it printed on both streams. The test fails when the command does.
func (c *Cluster) Output(t testing.TB, node string, argv ...string) string {
	t.Helper()
	out, err := c.Exec(t.Context(), node, argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("on %s: %s: %v: %s", node, strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// Kubectl is kubectl as the administrator of the cluster.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(c.Tools.Kube, "kubectl"), append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
}

// Apply applies manifests.
func (c *Cluster) Apply(t testing.TB, manifests string) {
	t.Helper()
	cmd := c.Kubectl(t.Context(), "apply", "--server-side", "-f", "-")
	cmd.Stdin = strings.NewReader(manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("apply: %v: %s", err, out)
	}
}

// Await polls until kubectl with these arguments prints what is wanted, and fails the test after a minute.
func (c *Cluster) Await(t testing.TB, want string, args ...string) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var err error
		if out, err = c.Kubectl(t.Context(), args...).CombinedOutput(); err == nil && strings.TrimSpace(string(out)) == strings.TrimSpace(want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("kubectl %s: waited in vain for %q, it is %q (%v)", strings.Join(args, " "), want, out, err)
		}
	}
}

// Import imports an archive of an image on every node.
func (c *Cluster) Import(t testing.TB, file string) {
	t.Helper()
	c.do(t, "import", file)
}

// Kill cuts the power of a node.
func (c *Cluster) Kill(t testing.TB, node string) {
	t.Helper()
	c.do(t, "kill", node)
}

// Start boots a node again, with its disk, after Kill. It does not wait for it to be Ready.
func (c *Cluster) Start(t testing.TB, node string) {
	t.Helper()
	c.do(t, "start", node)
}

// Link cuts a node off, and heals that.
func (c *Cluster) Link(t testing.TB, node string, up bool) {
	t.Helper()
	c.do(t, "link", node, map[bool]string{true: "up", false: "down"}[up])
}

func (c *Cluster) do(t testing.TB, command string, args ...string) {
	t.Helper()
	out, err := exec.Command(c.program, append([]string{command, "-dir", c.Dir}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", command, args, err, out)
	}
}
