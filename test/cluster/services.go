// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// The configuration of a node's services: templates over settings.
var (
	//go:embed config/containerd.toml
	containerdConfig string
	//go:embed config/kubelet.yaml
	kubeletConfig string
	//go:embed config/kube-proxy.yaml
	proxyConfig string
	//go:embed config/cni.conflist
	cniConfig string
)

// settings is what the templates read.
type settings struct {
	*cluster
	Node, IP, PodNet    string
	PKI, DNSIP, PodCIDR string
	CgroupV1            bool
}

// nodeServices starts containerd, imports the images, then starts kubelet and kube-proxy, and stays. It ends when one of them but containerd does, which is started again.
func nodeServices(c *cluster, n string) error {
	p := newProcesses(c)
	defer p.stop()
	homes, err := cgroupHomes()
	if err != nil {
		return err
	}
	s := settings{cluster: c, Node: n, IP: nodeIP(n), PodNet: podNet(n), PKI: c.path("pki"), DNSIP: dnsIP, PodCIDR: podCIDR, CgroupV1: homes["memory"] != ""}
	if err := s.write(); err != nil {
		return err
	}
	if err := p.keep(n+"-containerd", filepath.Join(c.Tools.Containerd, "containerd"), "--config", "/etc/containerd/config.toml"); err != nil {
		return err
	}
	if err := p.orEnd(context.Background(), p.images); err != nil {
		return err
	}
	err = p.start(n+"-kubelet", c.kube("kubelet"), "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig="+c.pki("system:node:"+n+".kubeconfig"),
		"--hostname-override="+n, "--node-ip="+s.IP, "--v=2")
	if err != nil {
		return err
	}
	if c.Proxy != "none" {
		if err := p.start(n+"-kube-proxy", c.kube("kube-proxy"), "--config=/etc/kubernetes/kube-proxy.yaml", "--v=2"); err != nil {
			return err
		}
	}
	return <-p.ended
}

// write writes all configuration, and puts the CNI plug-ins where containerd looks for them.
func (s settings) write() error {
	files := map[string]string{"/etc/containerd/config.toml": containerdConfig, "/etc/kubernetes/kubelet.yaml": kubeletConfig, "/etc/kubernetes/kube-proxy.yaml": proxyConfig}
	if s.CNI != "none" {
		files["/etc/cni/net.d/10-lab.conflist"] = cniConfig
	}
	for file, text := range files {
		t, err := template.New(filepath.Base(file)).Parse(text)
		if err != nil {
			return err
		}
		var out strings.Builder
		if err := t.Execute(&out, s); err != nil {
			return err
		}
		if err := put(file, out.String()); err != nil {
			return err
		}
	}
	plugins, err := filepath.Glob(s.Tools.CNI + "/*")
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/opt/cni/bin", 0o755); err != nil {
		return err
	}
	for _, plugin := range plugins {
		link := filepath.Join("/opt/cni/bin", filepath.Base(plugin))
		_ = os.Remove(link) // of an earlier life
		if err := os.Symlink(plugin, link); err != nil {
			return err
		}
	}
	return nil
}

// images waits for containerd and imports what the node has not.
func (p *processes) images(ctx context.Context) error {
	err := await(ctx, time.Minute, "containerd", func() bool {
		_, err := os.Stat("/run/containerd/containerd.sock")
		return err == nil
	})
	if err != nil {
		return err
	}
	for _, file := range p.Images {
		mark := filepath.Join("/var/lib/containerd", "imported-"+filepath.Base(file))
		if _, err := os.Stat(mark); err == nil {
			continue
		}
		cmd := exec.CommandContext(ctx, filepath.Join(p.Tools.Containerd, "ctr"), "-n", "k8s.io", "images", "import", file)
		cmd.Env = p.environ()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", file, err, bytes.TrimSpace(out))
		}
		if err := put(mark, ""); err != nil {
			return err
		}
	}
	p.say("%d images imported", len(p.Images))
	return nil
}
