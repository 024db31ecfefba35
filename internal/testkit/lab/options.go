// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxNodes is how many nodes a cluster can have: fs.inotify.max_user_instances bounds them.
const MaxNodes = 12

// Options say what cluster to boot. The zero value is a cluster of one node with the default Kubernetes.
type Options struct {
	Minor   string // of Kubernetes: one of Minors
	Nodes   int    // n1, n2, …; at most MaxNodes
	NoNodes bool   // a control plane alone
	Proxy   string // kube-proxy's mode: iptables (default), nftables, none
	CNI     string // the plug-in of pod networks: ptp (default), bridge, none
	DNS     bool   // CoreDNS runs before the cluster is ready
	// Images are archives that every node imports at its boot, beside Actor and Pause. Nothing can be pulled.
	Images []string
	// APIServer are more arguments of kube-apiserver, Kubelet more lines of KubeletConfiguration.
	APIServer []string
	Kubelet   string
	// Grace is how long the control plane believes in a silent node; 8 s by default, and minutes beside kwok.
	Grace time.Duration
}

// Images that every node has.
const (
	// Actor is an image with the program test/cluster/actor: a server, a client, and small deeds to see.
	Actor = "lab.test/actor:1"
	// Pause is the image of pod sandboxes.
	Pause = "lab.test/pause:1"
	// CoreDNS is there when Options.DNS is set.
	CoreDNS = "lab.test/coredns:1"
)

// Complete fills in the defaults and says what is wrong.
func (o *Options) Complete() error {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.Minor, DefaultMinor)
	set(&o.Proxy, "iptables")
	set(&o.CNI, "ptp")
	if o.Nodes == 0 && !o.NoNodes {
		o.Nodes = 1
	}
	if o.Grace == 0 {
		o.Grace = 8 * time.Second
	}
	var errs []error
	if !slices.Contains(Minors(), o.Minor) {
		errs = append(errs, fmt.Errorf("minor %q: there are %v", o.Minor, Minors()))
	}
	if o.Nodes < 0 || o.Nodes > MaxNodes || o.NoNodes && o.Nodes > 0 {
		errs = append(errs, fmt.Errorf("%d nodes: from 1 to %d, or none with NoNodes", o.Nodes, MaxNodes))
	}
	if !slices.Contains([]string{"iptables", "nftables", "none"}, o.Proxy) {
		errs = append(errs, fmt.Errorf("proxy %q: iptables, nftables or none", o.Proxy))
	}
	if !slices.Contains([]string{"ptp", "bridge", "none"}, o.CNI) {
		errs = append(errs, fmt.Errorf("cni %q: ptp, bridge or none", o.CNI))
	}
	return errors.Join(errs...)
}

// NodeNames are the names of the nodes.
func (o *Options) NodeNames() []string {
	names := make([]string, o.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	return names
}
