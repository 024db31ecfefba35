// SPDX-License-Identifier: Apache-2.0

// Command cluster boots a real Kubernetes on this machine: a control plane in a network of its own, and nodes that are each a
// set of namespaces (network, mounts, processes, names, IPC, cgroups) in which kubelet, containerd, runc and kube-proxy run. In: how
// many nodes, which Kubernetes, which CNI and proxy. Out: a folder with a kubeconfig that works on this machine, logs, and a socket by
// which nodes are killed, started and cut off. Tests use it by internal/testkit/lab.
//
//	cluster build [NAME…]          builds what a cluster runs, once for each version
//	cluster up -nodes 2            boots and stays until it is interrupted
//	cluster api                    etcd and kube-apiserver alone
//	cluster exec n1 ctr …          runs a command on a node; on "cp" in the control plane's network
//	cluster import FILE.tar        imports an image on every node
//	cluster kill|start n1          a power cut; the node again, with its disk
//	cluster link n1 down|up        cuts the node off, and heals that
//	cluster down                   ends what up began
//
// All of them take -dir, the cluster's folder below the cache folder's vigie/cluster/run; "hand" by default.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: cluster build|up|api|exec|import|kill|start|link|down [-dir NAME] …")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	name, args := args[0], args[1:]
	// The parts of a cluster, which up starts in their namespaces.
	switch name {
	case "control-plane":
		return within(args, 1, func(c *cluster) error { return controlPlane(ctx, c) })
	case "node":
		return within(args, 2, func(c *cluster) error { return nodeInit(c, args[1]) })
	case "services":
		return within(args, 2, func(c *cluster) error { return nodeServices(c, args[1]) })
	case "build":
		return build(ctx, args)
	}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	dir := fs.String("dir", "hand", "the cluster's folder")
	var o lab.Options
	lifeline := false
	if name == "up" || name == "api" {
		optionFlags(fs, &o)
		fs.BoolVar(&lifeline, "lifeline", false, "end when standard input does")
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if !filepath.IsAbs(*dir) {
		cache, err := lab.Cache()
		if err != nil {
			return err
		}
		*dir = filepath.Join(cache, "run", *dir)
	}
	if lifeline {
		ctx = untilEOF(ctx, os.Stdin)
	}
	switch name {
	case "up":
		return up(ctx, *dir, o)
	case "api":
		return api(ctx, *dir, o)
	}
	return within([]string{*dir}, 1, func(c *cluster) error { return c.command(ctx, name, fs.Args()) })
}

// command does what is done to a cluster that runs.
func (c *cluster) command(ctx context.Context, name string, args []string) error {
	want := map[string]int{"exec": 2, "import": 1, "kill": 1, "start": 1, "link": 2, "down": 0}
	n, known := want[name]
	if !known {
		return fmt.Errorf("unknown command %q", name)
	}
	if len(args) < n {
		return fmt.Errorf("%s wants %d arguments", name, n)
	}
	switch name {
	case "exec":
		return c.exec(args[0], args[1:])
	case "import":
		return c.importEverywhere(ctx, args[0])
	case "down":
		return c.down(ctx)
	}
	answer, err := c.ask(name + " " + strings.Join(args, " "))
	if err == nil && answer != done {
		err = errors.New(answer)
	}
	return err
}

func build(ctx context.Context, names []string) error {
	tree, err := lab.Tree()
	if err != nil {
		return err
	}
	return lab.Build(ctx, tree, os.Stderr, names...)
}

func optionFlags(fs *flag.FlagSet, o *lab.Options) {
	fs.StringVar(&o.Minor, "minor", "", fmt.Sprintf("of Kubernetes: one of %v", lab.Minors()))
	fs.IntVar(&o.Nodes, "nodes", 0, "how many")
	fs.BoolVar(&o.NoNodes, "no-nodes", false, "a control plane alone")
	fs.StringVar(&o.Proxy, "proxy", "", "kube-proxy: iptables, nftables or none")
	fs.StringVar(&o.CNI, "cni", "", "ptp, bridge or none")
	fs.BoolVar(&o.DNS, "dns", false, "run CoreDNS")
	fs.DurationVar(&o.Grace, "grace", 0, "how long the control plane believes in a silent node")
	fs.StringVar(&o.Kubelet, "kubelet", "", "more lines of KubeletConfiguration")
	fs.Func("apiserver", "one more argument of kube-apiserver", func(s string) error {
		o.APIServer = append(o.APIServer, s)
		return nil
	})
	fs.Func("options", "all of these, as JSON", func(s string) error { return json.Unmarshal([]byte(s), o) })
	fs.Func("image", "one more archive that nodes import", func(s string) error {
		s, err := filepath.Abs(s)
		o.Images = append(o.Images, s)
		return err
	})
}
