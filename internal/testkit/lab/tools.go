// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// DefaultMinor is the Kubernetes that a cluster runs when nobody asks for another.
const DefaultMinor = "1.36"

// Minors lists the minors of Kubernetes that a cluster can run.
func Minors() []string { return []string{"1.36", "1.35"} }

// tool is one module below test/cluster/tools, which names the version of a project; two also have a program that runs its tests.
type tool struct {
	name string // of its folder
	// module is the project, whose version stands in the module's list.
	module string
	// build is the arguments of go build but for -o; "tool" stands for the programs that go.mod lists.
	build func(version string) []string
	// output is the file that is built; empty: each program by its own name.
	output string
	// asked: built only when it is named.
	asked bool
	// also is done after the build, in the folder of the programs.
	also func(ctx context.Context, moduleDir, out string) error
}

// tools lists them in the order in which they are built.
func tools() []tool {
	with := func(packages ...string) func(string) []string {
		return func(string) []string { return append([]string{"-ldflags", "-s -w"}, packages...) }
	}
	plain := with("tool")
	list := []tool{
		{name: "etcd", module: "go.etcd.io/etcd/server/v3", build: plain, output: "etcd"},
		{name: "kube-" + DefaultMinor, module: "k8s.io/kubernetes", build: kubeBuild},
		{name: "containerd", module: "github.com/containerd/containerd/v2", build: containerdBuild},
		{name: "cni", module: "github.com/containernetworking/plugins", build: plain},
		{name: "coredns", module: "github.com/coredns/coredns", build: plain},
		{name: "kwok", module: "sigs.k8s.io/kwok", build: plain, also: kwokStages},
		{name: "cyclonus", module: "github.com/mattfenwick/cyclonus", build: with(".", "./worker"), asked: true},
		{name: "e2e", module: "k8s.io/kubernetes", build: with(".", "tool"), asked: true},
	}
	for _, minor := range Minors()[1:] {
		list = append(list, tool{name: "kube-" + minor, module: "k8s.io/kubernetes", build: kubeBuild})
	}
	return list
}

// kubeBuild stamps the version, without which clients refuse to talk.
func kubeBuild(version string) []string {
	const pkg = "k8s.io/component-base/version"
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	flags := []string{"-s", "-w"}
	for _, kv := range []string{"gitVersion=" + version, "gitMajor=" + parts[0], "gitMinor=" + parts[1], "gitTreeState=clean",
		"gitCommit=" + strings.Repeat("0", 40), "buildDate=1970-01-01T00:00:00Z"} {
		flags = append(flags, "-X", pkg+"."+kv)
	}
	return []string{"-ldflags", strings.Join(flags, " "), "tool"}
}

func containerdBuild(version string) []string {
	return []string{"-tags", "no_btrfs no_zfs no_devmapper osusergo netgo",
		"-ldflags", "-s -w -X github.com/containerd/containerd/v2/version.Version=" + version, "tool"}
}

// kwokStages puts the life of fake nodes and pods, which kwok's module has as files, into one file beside the program.
func kwokStages(_ context.Context, moduleDir, out string) error {
	var all strings.Builder
	for _, dir := range []string{"node/fast", "node/heartbeat-with-lease", "pod/fast"} {
		root := filepath.Join(moduleDir, "kustomize/stage", dir)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".yaml" || strings.HasPrefix(d.Name(), "kustomization") || strings.Contains(path, "/testdata/") {
				return err
			}
			data, err := os.ReadFile(path)
			fmt.Fprintf(&all, "---\n%s\n", data)
			return err
		})
		if err != nil {
			return fmt.Errorf("read kwok's stages: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(out, "stages.yaml"), []byte(all.String()), 0o644)
}

// Tools are the folders in which the programs of a cluster are.
type Tools struct {
	Kube, Etcd, Containerd, CNI, CoreDNS, Kwok string
	Cyclonus, E2E                              string // of test/conformance: suites of others
}

// ErrNotBuilt: what a cluster runs has not been built yet, or for other versions than the tree names now.
var ErrNotBuilt = errors.New("not built: make cluster-tools builds it, in some minutes, once")

// Find tells where the programs are. The error is ErrNotBuilt, with the name of what is missing, when a wanted one is not there.
func Find(tree, minor string, wanted ...string) (Tools, error) {
	dir := func(name string) string {
		d, err := programs(tree, name)
		if err != nil {
			return ""
		}
		return d
	}
	found := Tools{Kube: dir("kube-" + minor), Etcd: dir("etcd"), Containerd: dir("containerd"), CNI: dir("cni"), CoreDNS: dir("coredns"), Kwok: dir("kwok"),
		Cyclonus: dir("cyclonus"), E2E: dir("e2e")}
	for _, name := range append(wanted, "etcd", "kube-"+minor) {
		d, err := programs(tree, name)
		if err != nil {
			return Tools{}, err
		}
		if _, err := os.Stat(d); err != nil {
			return Tools{}, fmt.Errorf("%s for the test cluster: %w", name, ErrNotBuilt)
		}
	}
	return found, nil
}

// Build builds the named tools, or all that clusters run, where they are not built yet. What it does goes to log.
func Build(ctx context.Context, tree string, log io.Writer, names ...string) error {
	known := tools()
	for _, n := range names {
		if !slices.ContainsFunc(known, func(t tool) bool { return t.name == n }) {
			return fmt.Errorf("there is no tool %q below test/cluster/tools", n)
		}
	}
	for _, t := range known {
		if len(names) > 0 && !slices.Contains(names, t.name) || len(names) == 0 && t.asked {
			continue
		}
		if err := t.make(ctx, tree, log); err != nil {
			return err
		}
	}
	return nil
}

// make builds into a folder beside and renames it, so that what is there is complete.
func (t tool) make(ctx context.Context, tree string, log io.Writer) error {
	out, err := programs(tree, t.name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	source := filepath.Join(tree, "test/cluster/tools", t.name)
	if _, err := goTool(ctx, source, "mod", "download", t.module); err != nil { // without which its folder is not told
		return err
	}
	about, err := goTool(ctx, source, "list", "-m", "-f", "{{.Version}} {{.Dir}}", t.module)
	if err != nil {
		return err
	}
	version, moduleDir, _ := strings.Cut(strings.TrimSpace(about), " ")
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), t.name+"-building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	begun := time.Now()
	fmt.Fprintf(log, "building %s %s\n", t.name, version)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", tmp + "/" + t.output}
	if _, err := goTool(ctx, source, append(args, t.build(version)...)...); err != nil {
		return err
	}
	if t.also != nil {
		if err := t.also(ctx, moduleDir, tmp); err != nil {
			return err
		}
	}
	fmt.Fprintf(log, "built %s in %v: %s\n", t.name, time.Since(begun).Round(time.Second), out)
	return os.Rename(tmp, out)
}

func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w: %s", args[0], dir, err, strings.TrimSpace(errs.String()))
	}
	return string(out), nil
}

// programs is the folder of a tool's programs: in the user's cache, named by what go.mod and go.sum say, and by our own source if there
// is one.
func programs(tree, name string) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	module := filepath.Join(tree, "test/cluster/tools", name)
	files, _ := filepath.Glob(filepath.Join(module, "*.go")) // the patterns are good
	more, _ := filepath.Glob(filepath.Join(module, "*/*.go"))
	files = append(files, more...)
	for _, f := range append([]string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}, files...) {
		data, err := os.ReadFile(f)
		if err != nil {
			return "", fmt.Errorf("find the version of %s: %w", name, err)
		}
		h.Write(data)
	}
	return filepath.Join(cache, fmt.Sprintf("%s-%x", name, h.Sum(nil)[:6])), nil
}

// Cache is the folder of all that is built for clusters, and of the clusters that run.
func Cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the test cluster: %w", err)
	}
	return filepath.Join(dir, "vigie/cluster"), nil
}

// Tree is the root of the repository around the working directory.
func Tree() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "test/cluster/tools")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("not inside the repository: there is no test/cluster/tools above the working directory")
		}
	}
}
