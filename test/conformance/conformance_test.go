// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/image"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

var (
	only   = flag.String("suite", "", "only this one: e2e or cyclonus")
	focus  = flag.String("focus", "", "only cases whose name this expression matches")
	budget = flag.Duration("for", 0, "end after this long; the next run goes on from there. 0: when all cases have run")
	fresh  = flag.Bool("fresh", false, "forget what is known of this binary, and run all cases again")
	report = flag.String("report", "", "folder to which the report is written")
	render = flag.Bool("render", false, "run nothing, write the report alone")
	cni    = flag.String("cni", "ptp", "plug-in of pod networks: ptp or bridge")
	target = flag.String("destination", "service-name", "of cyclonus' probes: service-name, service-ip or pod-ip; the last two do without DNS")
	proxy  = flag.String("proxy", "iptables", "mode of kube-proxy: iptables or nftables")
)

// agnhost is in the images that the suites' pods are made of, by the names and versions that they ask for.
const (
	agnhostOfKubernetes = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
	agnhostOfCyclonus   = "registry.k8s.io/e2e-test-images/agnhost:2.43"
	workerOfCyclonus    = "docker.io/mfenwick100/cyclonus-worker:latest" // agnhost, and what makes its pods' probes
	vigieImage          = "lab.test/vigie:1"
)

// suite is a program that runs cases: see test/cluster/tools.
type suite struct {
	name    string // in the report
	tool    string // folder of its module, and name of its program
	program func(lab.Tools) string
	args    func(*lab.Cluster) []string
	clear   []string // namespaces that a case which broke off leaves behind
}

func suites() []suite {
	return []suite{
		{name: "Kubernetes e2e", tool: "e2e", program: func(t lab.Tools) string { return filepath.Join(t.E2E, "e2e") },
			args: func(c *lab.Cluster) []string {
				// Logs of the nodes are read by ssh, which they have not.
				return []string{"--kubeconfig", c.Kubeconfig, "--provider", "local", "--disable-log-dump", "--ginkgo.no-color", "--ginkgo.v", "--kubectl-path", filepath.Join(c.Tools.Kube, "kubectl")}
			}},
		{name: "cyclonus", tool: "cyclonus", program: func(t lab.Tools) string { return filepath.Join(t.Cyclonus, "cyclonus") },
			args:  func(*lab.Cluster) []string { return []string{"-destination", *target} },
			clear: []string{"x", "y", "z"}},
	}
}

// TestConformance runs the suites in one cluster.
func TestConformance(t *testing.T) {
	if os.Getenv(lab.Enabled) == "" {
		t.Skip("run by make test-conformance (" + lab.Enabled + "=1)")
	}
	tree, err := lab.Tree()
	if err != nil {
		t.Fatal(err)
	}
	dns := *target == "service-name"
	wanted := []string{"containerd", "cni", "cyclonus", "e2e"}
	if dns {
		wanted = append(wanted, "coredns")
	}
	tools, err := lab.Find(tree, lab.DefaultMinor, wanted...)
	if errors.Is(err, lab.ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	vigie := filepath.Join(dir, "vigie")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=1", "-o", vigie, "./cmd/vigie")
	build.Dir, build.Env = tree, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build vigie: %v\n%s", err, out)
	}
	commit := say(t, tree, "git", "describe", "--tags", "--always", "--dirty") // now: who waits hours may work on
	known := stateOf(t, vigie, tools)
	if !*render {
		runAll(t, dir, vigie, tools, known, dns)
	}
	if *report != "" {
		writeReport(t, tools, tree, known, commit)
	}
}

// runAll boots the cluster, installs vigie, and runs the suites.
func runAll(t *testing.T, dir, vigie string, tools lab.Tools, known string, dns bool) {
	images := writeImages(t, dir, vigie, tools)
	c := lab.Boot(t, lab.Options{Nodes: 2, DNS: dns, CNI: *cni, Proxy: *proxy, Images: images})
	out, err := exec.CommandContext(t.Context(), vigie, "install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.enabled=false",
		"--image", vigieImage, "--kubeconfig", c.Kubeconfig, "--timeout", "3m").CombinedOutput()
	if err != nil {
		t.Fatalf("vigie install: %v\n%s", err, out)
	}
	t.Cleanup(func() { keepLogs(t, c, known) })
	ctx := t.Context()
	if *budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *budget)
		defer cancel()
	}
	// Side by side: the specs of Kubernetes wait most of their time.
	t.Run("suites", func(t *testing.T) {
		for _, s := range suites() {
			if *only == "" || *only == s.tool {
				t.Run(s.tool, func(t *testing.T) {
					t.Parallel()
					s.run(ctx, t, c, known)
				})
			}
		}
	})
}

// run runs the cases that have not passed yet, each once. A program that ends before its last case is started again behind that.
func (s suite) run(ctx context.Context, t *testing.T, c *lab.Cluster, known string) {
	file := filepath.Join(known, s.tool+".jsonl")
	log, err := os.OpenFile(filepath.Join(known, s.tool+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	done := map[string]bool{}
	results := s.read(t, file)
	for _, name := range s.cases(t, c.Tools) {
		done[name] = results[name].Outcome == Passed || excused(name) != ""
	}
	for {
		before := runs(results)
		err := s.start(ctx, t, c, file, done, log)
		if err == nil || ctx.Err() != nil {
			break
		}
		t.Logf("%s ended: %v; see %s", s.tool, err, log.Name())
		after := s.read(t, file)
		if runs(after) == before {
			t.Errorf("%s ends before its next case", s.tool)
			break
		}
		for name, r := range after {
			done[name] = done[name] || r.Runs > results[name].Runs
		}
		results = after
		for _, namespace := range s.clear {
			out, err := c.Kubectl(ctx, "delete", "namespace", namespace, "--ignore-not-found").CombinedOutput()
			if err != nil && ctx.Err() == nil {
				t.Fatalf("clear the cluster: %v: %s", err, out)
			}
		}
	}
	wanted := regexp.MustCompile(*focus)
	left := 0
	for _, r := range Order(s.cases(t, c.Tools), s.read(t, file), excused) {
		if r.Outcome == Failed && explain(s.name, r.Name) == "" {
			t.Errorf("%s: %s", r.Name, r.Reason)
		}
		if r.Outcome == NotRun && wanted.MatchString(r.Name) {
			left++
		}
	}
	if left > 0 && ctx.Err() == nil {
		t.Errorf("%d cases have not run", left)
	}
	t.Logf("%d cases are left", left)
}

// start runs the program for all cases that are not done, until it ends or ctx does.
func (s suite) start(ctx context.Context, t *testing.T, c *lab.Cluster, file string, done map[string]bool, log io.Writer) error {
	var names strings.Builder
	for _, name := range slices.Sorted(maps.Keys(done)) {
		if done[name] {
			fmt.Fprintln(&names, name)
		}
	}
	list := filepath.Join(t.TempDir(), "done")
	if err := os.WriteFile(list, []byte(names.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, s.program(c.Tools), append(s.args(c), "-results", file, "-done", list, "-focus", *focus)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd.Run()
}

// runs counts all results that there have been.
func runs(results map[string]Result) (n int) {
	for _, r := range results {
		n += r.Runs
	}
	return n
}

func (suite) read(t *testing.T, file string) map[string]Result {
	t.Helper()
	results, err := ReadResults(file)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// cases are the names of all cases of the suite.
func (s suite) cases(t *testing.T, tools lab.Tools) []string {
	out, err := exec.CommandContext(t.Context(), s.program(tools), "-list").Output()
	if err != nil {
		t.Fatalf("list the cases of %s: %v", s.tool, err)
	}
	return slices.DeleteFunc(strings.Split(string(out), "\n"), func(s string) bool { return s == "" })
}

// stateOf is the folder with what these programs have said of this binary in this kind of cluster.
func stateOf(t *testing.T, vigie string, tools lab.Tools) string {
	f, err := os.Open(vigie)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(h, tools.E2E, tools.Cyclonus, tools.Kube) // named by their versions
	cache, err := lab.Cache()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "conformance", fmt.Sprintf("%s-%s-%s-%x", *cni, *proxy, *target, h.Sum(nil)[:6]))
	if *fresh {
		err = os.RemoveAll(dir)
	}
	if err := errors.Join(err, os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Logf("results and logs are in %s", dir)
	return dir
}

// writeImages writes what the nodes import: they can pull nothing.
func writeImages(t *testing.T, dir, vigie string, tools lab.Tools) (files []string) {
	agnhost := image.File{Path: "/agnhost", Source: filepath.Join(tools.E2E, "agnhost")}
	for name, content := range map[string][]image.File{
		vigieImage:          {{Path: "/vigie", Source: vigie}},
		agnhostOfKubernetes: {agnhost},
		agnhostOfCyclonus:   {agnhost},
		workerOfCyclonus:    {agnhost, {Path: "/worker", Source: filepath.Join(tools.Cyclonus, "worker")}},
	} {
		f, err := os.Create(filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(name)+".tar"))
		if err != nil {
			t.Fatal(err)
		}
		err = image.Image{Name: name, Architecture: runtime.GOARCH, Files: content, Entrypoint: []string{content[0].Path}, Env: []string{"PATH=/"},
			Uncompressed: true}.Write(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		files = append(files, f.Name())
	}
	return files
}

// keepLogs keeps what the agents said, for cases that failed.
func keepLogs(t *testing.T, c *lab.Cluster, known string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	out, err := c.Kubectl(ctx, "-n", "vigie-system", "logs", "--prefix", "--tail=-1", "-l", "app.kubernetes.io/component=agent").CombinedOutput()
	if err := errors.Join(err, os.WriteFile(filepath.Join(known, "agents.log"), out, 0o644)); err != nil {
		t.Logf("the agents' logs are not kept: %v", err)
	}
}

func writeReport(t *testing.T, tools lab.Tools, tree, known, commit string) {
	t.Helper()
	var all []Suite
	for _, s := range suites() {
		results, err := ReadResults(filepath.Join(known, s.tool+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Suite{Name: s.name, File: s.tool + ".xml", Results: Order(s.cases(t, tools), results, excused)})
	}
	to := *report
	if !filepath.IsAbs(to) {
		to = filepath.Join(tree, to)
	}
	write := func(name string, do func(io.Writer) error) {
		f, err := os.Create(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write("report.md", func(w io.Writer) error { return WriteReport(w, facts(t, tree, commit), all, explain) })
	for _, s := range all {
		write(s.File, s.WriteJUnit)
	}
}

// facts say what was tested on what.
func facts(t *testing.T, tree, commit string) []Fact {
	t.Helper()
	return []Fact{
		{"vigie", commit + ", installed by `vigie install`"},
		{"Kubernetes", version(t, tree, "kube-"+lab.DefaultMinor, "k8s.io/kubernetes") + ", two nodes of test/cluster with containerd " + version(t, tree, "containerd", "github.com/containerd/containerd/v2")},
		{"network", "plug-in " + *cni + ", kube-proxy " + *proxy + ", IPv4"},
		{"kernel", say(t, tree, "uname", "-srm")},
		{"Kubernetes e2e", version(t, tree, "e2e", "k8s.io/kubernetes") + ", package test/e2e/network/netpol; agnhost of the same version"},
		{"cyclonus", version(t, tree, "cyclonus", "github.com/mattfenwick/cyclonus") + ", all generated cases, servers for TCP and UDP, probes by " + *target},
		{"written", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
	}
}

// say is what a command prints.
func say(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}

// version is that of a module in the list of a tool.
func version(t *testing.T, tree, tool, module string) string {
	data, err := os.ReadFile(filepath.Join(tree, "test/cluster/tools", tool, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(data)
	if m == nil {
		t.Fatalf("%s of %s has no version", module, tool)
	}
	return cmp.Or(string(m[1]), "unknown")
}
