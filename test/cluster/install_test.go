// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/vigie-io/vigie/internal/image"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// The images of vigie in the tests: the same program under two versions, and one that believes that it is seven minutes later.
const (
	vigieImage = "lab.test/vigie:1"
	nextImage  = "lab.test/vigie:2"
	aheadImage = "lab.test/vigie:ahead"
)

// made are the folders that the tests of this package share; they go with its process.
var made []string

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range made {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// products are the programs and images that have been built for the tests of this package, in one folder.
var products = struct {
	mu    sync.Mutex
	dir   string
	built map[string]bool
}{built: map[string]bool{}}

// archive is the file with an image of vigie, built once. The program itself is beside it: vigie-VERSION.
func archive(name string) (string, error) {
	products.mu.Lock()
	defer products.mu.Unlock()
	if products.dir == "" {
		dir, err := os.MkdirTemp("", "vigie-product-")
		if err != nil {
			return "", err
		}
		made, products.dir = append(made, dir), dir
	}
	_, version, _ := strings.Cut(name, ":")
	program := filepath.Join(products.dir, "vigie-"+version)
	file := program + ".tar"
	if products.built[name] {
		return file, nil
	}
	tree, err := lab.Tree()
	if err != nil {
		return "", err
	}
	flags := "-s -w -X main.version=" + version
	if name == aheadImage {
		flags += " -X main.clockAhead=7m"
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", program, "./cmd/vigie")
	build.Dir, build.Env = tree, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build vigie: %w: %s", err, out)
	}
	im := image.Image{Name: name, Architecture: runtime.GOARCH, Files: []image.File{{Path: "/vigie", Source: program}},
		Entrypoint: []string{"/vigie"}, Env: []string{"PATH=/"}, Uncompressed: true}
	var out bytes.Buffer
	if err := im.Write(&out); err != nil {
		return "", err
	}
	products.built[name] = true
	return file, os.WriteFile(file, out.Bytes(), 0o644)
}

// product is the program as this machine runs it.
func product() (string, error) {
	file, err := archive(vigieImage)
	return strings.TrimSuffix(file, ".tar"), err
}

// bootWithVigie boots a cluster whose nodes have vigie's image, and these others.
func bootWithVigie(t testing.TB, o lab.Options, others ...string) *lab.Cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a cluster makes namespaces and needs root")
	}
	if os.Getenv(lab.Enabled) == "" {
		t.Skip("a real cluster is booted by make test-cluster (" + lab.Enabled + "=1)") // before vigie is built for it
	}
	if tree, err := lab.Tree(); err == nil {
		if _, err := lab.Find(tree, cmp.Or(o.Minor, lab.DefaultMinor), "containerd", "cni"); errors.Is(err, lab.ErrNotBuilt) {
			t.Skip(err)
		}
	}
	for _, name := range append([]string{vigieImage}, others...) {
		file, err := archive(name)
		if err != nil {
			t.Fatal(err)
		}
		o.Images = append(o.Images, file)
	}
	return lab.Boot(t, o)
}

// cli is the command line against the cluster.
func cli(t testing.TB, c *lab.Cluster, args ...string) *exec.Cmd {
	t.Helper()
	program, err := product()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), program, append(args, "--kubeconfig", c.Kubeconfig, "--timeout", "2m")...)
}

// vigie runs it.
func vigie(t testing.TB, c *lab.Cluster, args ...string) {
	t.Helper()
	out, err := cli(t, c, args...).CombinedOutput()
	if err != nil {
		state, _ := c.Kubectl(t.Context(), "-n", "vigie-system", "describe", "pods").CombinedOutput()
		logs, _ := c.Kubectl(t.Context(), "-n", "vigie-system", "logs", "--all-containers", "--prefix", "--tail=40", "-l", "app.kubernetes.io/name=vigie").CombinedOutput()
		t.Fatalf("vigie %s: %v\n%s\n%s\n%s", strings.Join(args, " "), err, out, state, logs)
	}
}

// agentOf is the agent's pod on a node.
func agentOf(t testing.TB, c *lab.Cluster, node string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), "-n", "vigie-system", "get", "pods", "-l", "app.kubernetes.io/component=agent", "--field-selector", "spec.nodeName="+node,
		"-o", "jsonpath={.items[*].metadata.name}").Output()
	if err != nil || len(strings.Fields(string(out))) != 1 {
		t.Fatalf("the agent of %s is %q (%v)", node, out, err)
	}
	return string(out)
}

// event is what the tests read of an event.
type event struct {
	Type    string
	Process struct {
		Args     []string
		Workload struct{ Kind, Name, Namespace string }
	}
	Verdict struct{ Policy, Action string }
	Flow    struct {
		Destination struct{ Address string }
	}
}

// events asks the agent of a node. It polls until one is as wanted.
func awaitEvent(t testing.TB, c *lab.Cluster, node, what string, wanted func(event) bool, args ...string) {
	t.Helper()
	agent := agentOf(t, c, node)
	args = append([]string{"-n", "vigie-system", "exec", agent, "--", "/vigie", "events", "-o", "json", "--since", "10m"}, args...)
	var out []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var err error
		if out, err = c.Kubectl(t.Context(), args...).Output(); err != nil {
			continue
		}
		for line := range bytes.Lines(out) {
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if wanted(e) {
				return
			}
		}
	}
	t.Fatalf("waited in vain for %s on %s; the events end with\n%s", what, node, out[max(0, len(out)-4000):])
}

// traces is what an installation might leave: objects, and on each node pins, mounts, files and programs on its cgroup.
func traces(t testing.TB, c *lab.Cluster) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	kinds, err := c.Kubectl(t.Context(), "api-resources", "--verbs=list", "-o", "name").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, kind := range strings.Fields(string(kinds)) {
		if !strings.HasPrefix(kind, "events") && !strings.HasPrefix(kind, "leases") {
			list = append(list, kind)
		}
	}
	objects, err := c.Kubectl(t.Context(), "get", strings.Join(list, ","), "-A", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`).Output()
	if err != nil {
		t.Fatal(err)
	}
	found["objects"] = strings.Split(strings.TrimSpace(string(objects)), "\n")
	for _, n := range c.NodeNames() {
		sh := func(argv ...string) []string { return strings.Split(strings.TrimSpace(c.Output(t, n, argv...)), "\n") }
		found[n+" pins"] = sh("find", "/sys/fs/bpf")
		found[n+" files"] = sh("find", "/var/lib", "/run", "/etc", "-maxdepth", "1")
		found[n+" mounts"] = sh("awk", "{print $5}", "/proc/self/mountinfo")
		found[n+" programs"] = attached(t, c.Cgroup(t, n))
	}
	for _, l := range found {
		slices.Sort(l)
	}
	return found
}

// attached counts programs on a cgroup, by their hook.
func attached(t testing.TB, cgroup string) []string {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var list []string
	for _, hook := range []ebpf.AttachType{ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetSockCreate, ebpf.AttachCGroupSockOps,
		ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCgroupInetSockRelease} {
		q, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: hook})
		if err != nil {
			t.Fatalf("query the programs of %s: %v", hook, err)
		}
		if len(q.Programs) > 0 {
			list = append(list, fmt.Sprintf("%s: %d", hook, len(q.Programs)))
		}
	}
	return list
}

// differ says what is in one and not in the other.
func differ(before, after map[string][]string) string {
	var out strings.Builder
	for name := range before {
		for _, x := range after[name] {
			if !slices.Contains(before[name], x) {
				fmt.Fprintf(&out, "%s: %s is new\n", name, x)
			}
		}
		for _, x := range before[name] {
			if !slices.Contains(after[name], x) {
				fmt.Fprintf(&out, "%s: %s is gone\n", name, x)
			}
		}
	}
	return out.String()
}

// attachTCX puts a program that lets everything pass on a node's link, as a CNI might have, and returns its id.
func attachTCX(t testing.TB, c *lab.Cluster, node string) ebpf.ProgramID {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}}) // TCX_NEXT
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	err = c.Do(node, func() error {
		device, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Program: prog, Attach: ebpf.AttachTCXIngress, Interface: device.Attrs().Index})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatalf("attach a tcx program on %s: %v", node, err)
	}
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// tcxOf lists the programs on a node's link.
func tcxOf(t testing.TB, c *lab.Cluster, node string) (ids []ebpf.ProgramID) {
	t.Helper()
	err := c.Do(node, func() error {
		device, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		q, err := link.QueryPrograms(link.QueryOptions{Target: device.Attrs().Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		for _, p := range q.Programs {
			ids = append(ids, p.ID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestInstallUpgradeUninstall(t *testing.T) {
	for _, o := range []lab.Options{
		{Nodes: 2, CNI: "ptp", Proxy: "iptables"},
		{Nodes: 2, CNI: "bridge", Proxy: "nftables"},
		{Nodes: 1, CNI: "bridge", Proxy: "iptables", Minor: "1.35"},
	} {
		t.Run(o.CNI+" "+o.Proxy+o.Minor, func(t *testing.T) {
			c := bootWithVigie(t, o, nextImage)
			c.Apply(t, web)
			names, addresses := webPods(t, c)
			last := c.NodeNames()[c.Nodes-1]
			neighbour := attachTCX(t, c, "n1")
			for _, n := range c.NodeNames() {
				c.Output(t, n, "rm", "-rf", "/var/lib/vigie") // the node sees what this machine's agents left in its own
			}
			before := traces(t, c)

			install := []string{"install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.enabled=false", "--image"}
			vigie(t, c, append(install, vigieImage)...)
			if during := differ(before, traces(t, c)); !strings.Contains(during, "DaemonSet vigie-system/vigie-agent is new") || !strings.Contains(during, "n1 files: /run/vigie is new") {
				t.Errorf("what is installed is\n%s", during)
			}
			seen := func() {
				t.Helper()
				for node, pod := range names {
					mark := fmt.Sprintf("http://%s:8080/%s-%d", addresses[last], node, time.Now().UnixNano())
					in(t, c, pod, "get", mark)
					awaitEvent(t, c, node, "the exec in "+pod, func(e event) bool {
						return slices.Contains(e.Process.Args, mark) && e.Process.Workload.Name == pod && e.Process.Workload.Namespace == "default"
					}, "--type", "exec", "--workload", pod)
					awaitEvent(t, c, node, "the conversation of "+pod, func(e event) bool {
						return slices.Contains(e.Process.Args, mark) && strings.HasPrefix(e.Flow.Destination.Address, addresses[last])
					}, "--type", "flow", "--workload", pod)
				}
				if ids := tcxOf(t, c, "n1"); !slices.Contains(ids, neighbour) {
					t.Errorf("the program that was there is not among %v", ids)
				}
			}
			seen()

			old := agentOf(t, c, "n1")
			vigie(t, c, append(install, nextImage)...)
			if agentOf(t, c, "n1") == old {
				t.Error("the upgrade has left the agent as it was")
			}
			seen()

			c.Apply(t, "{apiVersion: vigie.io/v1alpha1, kind: WorkloadPolicy, metadata: {name: mine, namespace: default}, "+
				"spec: {selector: {matchLabels: {app: none}}, mode: audit, files: {deny: [{path: /x, access: [read]}]}}}")
			var exit *exec.ExitError
			if out, err := cli(t, c, "uninstall").CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "WorkloadPolicy default/mine") {
				t.Errorf("beside a policy uninstall says (%v) %s", err, out)
			}
			seen()
			vigie(t, c, "uninstall", "--delete-policies")
			if after := differ(before, traces(t, c)); after != "" {
				t.Errorf("after the uninstall\n%s", after)
			}
			in(t, c, names["n1"], "get", "http://"+addresses[last]+":8080/")
		})
	}
}
