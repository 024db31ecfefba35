// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/image"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// The addresses of a cluster. Each has its own network: they are the same in all.
const (
	controlPlaneIP = "10.89.0.1"
	serverPort     = "6443"
	serviceCIDR    = "10.96.0.0/16"
	kubernetesIP   = "10.96.0.1"
	dnsIP          = "10.96.0.10"
	podCIDR        = "10.244.0.0/16"
)

// nodeIP is the address of the node n1, n2, …; its pods have podNet.
func nodeIP(name string) string { return fmt.Sprintf("10.89.0.%d", 10+nodeNumber(name)) }
func podNet(name string) string { return fmt.Sprintf("10.244.%d.0/24", nodeNumber(name)) }

func nodeNumber(name string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "n"))
	if err != nil {
		return 0
	}
	return n
}

// cluster is what every process of a cluster knows: they read it from its folder.
type cluster struct {
	lab.Options
	Tools lab.Tools
	Runc  string
	Dir   string `json:"-"`
}

const clusterFile = "cluster.json"

// prepare makes the folder of a cluster that is about to boot.
func prepare(dir string, o lab.Options, wanted ...string) (*cluster, error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	tree, err := lab.Tree()
	if err != nil {
		return nil, err
	}
	c := &cluster{Options: o, Dir: dir}
	if c.Tools, err = lab.Find(tree, o.Minor, wanted...); err != nil {
		return nil, err
	}
	if err := c.clear(); err != nil {
		return nil, err
	}
	for _, d := range []string{c.path("pki"), c.path("log"), c.path("images")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if o.Nodes > 0 {
		if c.Runc, err = exec.LookPath("runc"); err != nil {
			return nil, fmt.Errorf("find runc: %w: sudo tools/deps.sh cluster installs it", err)
		}
		if err := c.makeImages(tree); err != nil {
			return nil, err
		}
	}
	// Nodes see of the machine what is in the cluster's folder.
	for i, file := range c.Images {
		if c.Images[i], err = c.bring(file); err != nil {
			return nil, err
		}
	}
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return nil, err
	}
	return c, os.WriteFile(c.path(clusterFile), data, 0o644)
}

// bring puts a file into the folder images, and returns where it is then.
func (c *cluster) bring(file string) (string, error) {
	to := c.path("images", filepath.Base(file))
	if file == to || os.Link(file, to) == nil {
		return to, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	return to, errors.Join(err, out.Close())
}

// clear removes what an earlier cluster left in the folder, unless it still runs.
func (c *cluster) clear() error {
	if data, err := os.ReadFile(c.path("up.pid")); err == nil {
		if pid, err := strconv.Atoi(string(data)); err == nil && syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("the cluster in %s runs already", c.Dir)
		}
	}
	old, err := filepath.Glob(c.path("*"))
	for _, f := range old {
		err = errors.Join(err, os.RemoveAll(f))
	}
	return err
}

// makeImages builds the actor and writes the images that every node imports.
func (c *cluster) makeImages(tree string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", c.path("actor"), "./test/cluster/actor")
	cmd.Dir, cmd.Env = tree, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the actor: %w: %s", err, bytes.TrimSpace(out))
	}
	add := func(name, program string, args ...string) error {
		inside := "/" + filepath.Base(program)
		base, _, _ := strings.Cut(filepath.Base(name), ":")
		f, err := os.Create(c.path("images", base+".tar"))
		if err != nil {
			return err
		}
		defer f.Close()
		im := image.Image{Name: name, Architecture: runtime.GOARCH, Files: []image.File{{Path: inside, Source: program}},
			Entrypoint: append([]string{inside}, args...), Env: []string{"PATH=/"}, Uncompressed: true}
		if err := im.Write(f); err != nil {
			return err
		}
		c.Images = append(c.Images, f.Name())
		return nil
	}
	if err := add(lab.Pause, c.path("actor"), "pause"); err != nil {
		return err
	}
	if err := add(lab.Actor, c.path("actor")); err != nil {
		return err
	}
	if c.DNS {
		return add(lab.CoreDNS, filepath.Join(c.Tools.CoreDNS, "coredns"))
	}
	return nil
}

// within reads the cluster of the folder that is the first argument.
func within(args []string, want int, do func(*cluster) error) error {
	if len(args) < want {
		return fmt.Errorf("wants %d arguments", want)
	}
	data, err := os.ReadFile(filepath.Join(args[0], clusterFile))
	if err != nil {
		return fmt.Errorf("there is no cluster in %s: %w", args[0], err)
	}
	c := &cluster{Dir: args[0]}
	if err := json.Unmarshal(data, c); err != nil {
		return err
	}
	return do(c)
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

func (c *cluster) pki(name string) string { return c.path("pki", name) }

func (c *cluster) kube(program string) string { return filepath.Join(c.Tools.Kube, program) }

// environ is what commands in the cluster find.
func (c *cluster) environ() []string {
	return append(os.Environ(), "KUBECONFIG="+c.pki("admin.kubeconfig"),
		"PATH="+strings.Join([]string{c.Tools.Kube, c.Tools.Containerd, c.Tools.Kwok, c.Tools.Etcd, os.Getenv("PATH")}, ":"))
}

// done is the answer to a request that was carried out.
const done = "ok"

// ask sends one line to the control plane and returns its answer.
func (c *cluster) ask(line string) (string, error) {
	s, err := net.Dial("unix", c.path("control.sock"))
	if err != nil {
		return "", fmt.Errorf("reach the cluster in %s: %w", c.Dir, err)
	}
	defer s.Close()
	if _, err := fmt.Fprintln(s, line); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(s)
	return strings.TrimSpace(string(answer)), err
}

// exec becomes a command in the namespaces of a node, or of the control plane ("cp").
func (c *cluster) exec(where string, argv []string) error {
	pid, err := os.ReadFile(c.path("cp.pid"))
	if err != nil {
		return fmt.Errorf("the cluster in %s does not run: %w", c.Dir, err)
	}
	enter := []string{"nsenter", "-t", strings.TrimSpace(string(pid)), "-m", "-n", "-u", "-i", "-p"}
	if where != "cp" {
		pid, err := c.ask("pid " + where)
		if err != nil {
			return err
		}
		if _, err := strconv.Atoi(pid); err != nil {
			return fmt.Errorf("enter %s: %s", where, pid)
		}
		// This pid is one of the control plane's pid namespace. cgroups are entered by joining them, the namespace alone would not limit.
		enter = append(enter, "--", "nsenter", "-t", pid, "-m", "-n", "-u", "-i", "-p", "-C")
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	return syscall.Exec(nsenter, append(append(enter, "--"), argv...), c.environ())
}

// importEverywhere imports an archive on every node.
func (c *cluster) importEverywhere(ctx context.Context, file string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, n := range c.NodeNames() {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, self, "exec", "-dir", c.Dir, n, "ctr", "-n", "k8s.io", "images", "import", "-")
		cmd.Stdin = f
		out, err := cmd.CombinedOutput()
		f.Close()
		if err != nil {
			return fmt.Errorf("import %s on %s: %w: %s", file, n, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// down ends the process of up and waits for that.
func (c *cluster) down(ctx context.Context) error {
	data, err := os.ReadFile(c.path("up.pid"))
	if err != nil {
		return fmt.Errorf("the cluster in %s does not run: %w", c.Dir, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the cluster in %s: %w", c.Dir, err)
	}
	return await(ctx, 20*time.Second, "the cluster's end", func() bool { return syscall.Kill(pid, 0) != nil })
}

// await polls for a condition.
func await(ctx context.Context, limit time.Duration, what string, met func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// untilEOF ends the context when r does: whoever holds the other end has gone.
func untilEOF(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with r, and that with this process at the latest
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return ctx
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
