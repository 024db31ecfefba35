// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// What the program of test/cluster/tools/cyclonus writes with -model.
type (
	modelCase struct {
		Name  string
		Steps []struct {
			Policies []json.RawMessage
			Probes   []modelProbe
		}
	}
	modelProbe struct {
		From, To modelPod
		Protocol string
		Port     uint16
		Allowed  bool
	}
	modelPod struct {
		Name, Namespace         string
		Labels, NamespaceLabels map[string]string
		Address                 string
	}
)

// TestModel holds that vigie's evaluator, which the kernel's tables are compared with in internal/enforce/pods, says the same as
// cyclonus' model of all of its cases: of SCTP too, which not every kernel has.
func TestModel(t *testing.T) {
	if os.Getenv(lab.Enabled) == "" {
		t.Skip("run by make test-conformance (" + lab.Enabled + "=1)")
	}
	tree, err := lab.Tree()
	if err != nil {
		t.Fatal(err)
	}
	tools, err := lab.Find(tree, lab.DefaultMinor, "cyclonus")
	if errors.Is(err, lab.ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	cases := readModel(t, tools)
	probes := 0
	for _, c := range cases {
		n, wrong := c.compare(t)
		probes += n
		if len(wrong) > 0 {
			t.Errorf("%s: %d of %d probes differ: %s", c.Name, len(wrong), n, strings.Join(wrong[:min(5, len(wrong))], "; "))
		}
	}
	t.Logf("%d cases, %d probes", len(cases), probes)
	if len(cases) < 200 || probes < 100_000 {
		t.Error("that is not the full set")
	}
}

func readModel(t *testing.T, tools lab.Tools) (cases []modelCase) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "model.json")
	if out, err := exec.CommandContext(t.Context(), filepath.Join(tools.Cyclonus, "cyclonus"), "-model", file).CombinedOutput(); err != nil {
		t.Fatalf("write the model: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	data, err := os.ReadFile(file)
	if err := errors.Join(err, json.Unmarshal(data, &cases)); err != nil {
		t.Fatal(err)
	}
	return cases
}

// compare judges the probes of a case, and says which are judged otherwise. What a pod sends to itself is left aside.
func (c modelCase) compare(t *testing.T) (probes int, wrong []string) {
	protocols := map[string]uint8{"TCP": unix.IPPROTO_TCP, "UDP": unix.IPPROTO_UDP, "SCTP": unix.IPPROTO_SCTP}
	for i, s := range c.Steps {
		var stream [][]byte
		for _, p := range s.Policies {
			stream = append(stream, p)
		}
		policies, err := netpol.Parse(c.Name, bytes.Join(stream, []byte("\n---\n")))
		if err != nil {
			t.Fatal(err)
		}
		cluster := &netpol.Cluster{Node: "here"}
		known := map[string]bool{}
		for _, p := range s.Probes {
			for _, pod := range []modelPod{p.From, p.To} {
				pod.enter(cluster, known)
			}
		}
		for _, p := range s.Probes {
			source, err1 := netip.ParseAddr(p.From.Address)
			destination, err2 := netip.ParseAddr(p.To.Address)
			if p.From.Name == p.To.Name || err1 != nil || err2 != nil {
				continue
			}
			probes++
			v := cluster.Verdict(policies, netpol.Conversation{Source: source, Destination: destination, Protocol: protocols[p.Protocol], Port: p.Port})
			if v.Denied == p.Allowed {
				wrong = append(wrong, fmt.Sprintf("step %d: %s to %s, %s/%d: %+v", i+1, p.From.Name, p.To.Name, p.Protocol, p.Port, v))
			}
		}
	}
	return probes, wrong
}

// enter adds a pod and its namespace to the cluster, unless they are known. Its ports are called as cyclonus calls them. A pod that the
// stand-in for a cluster has given no address is left out.
func (p modelPod) enter(c *netpol.Cluster, known map[string]bool) {
	if !known["namespace "+p.Namespace] {
		known["namespace "+p.Namespace] = true
		c.Namespaces = append(c.Namespaces, &model.ClusterNamespace{Name: p.Namespace, Labels: p.NamespaceLabels})
	}
	address, err := netip.ParseAddr(p.Address)
	if known[p.Name] || err != nil {
		return
	}
	known[p.Name] = true
	pod := &model.Pod{UID: p.Name, Namespace: p.Namespace, Name: p.Name, Node: "here", Labels: p.Labels, Addresses: []netip.Addr{address}}
	for _, port := range []uint16{80, 81} {
		for name, protocol := range map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP} {
			pod.Ports = append(pod.Ports, model.PodPort{Name: fmt.Sprintf("serve-%d-%s", port, name), Port: port, Protocol: protocol})
		}
	}
	c.Pods = append(c.Pods, pod)
}
