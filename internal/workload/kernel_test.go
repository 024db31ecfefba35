// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/workload/cri"
	"github.com/vigie-io/vigie/internal/workload/host"
)

// TestKernel moves a process through real cgroups of the shapes that systemd, Docker and Kubernetes
// make, in every hierarchy that vigie may be told of, and resolves it by the id that the kernel gives.
func TestKernel(t *testing.T) {
	tree := openTree(t)
	id, podID := randomID(t), randomID(t)
	losses := new(pipeline.Losses)
	socket := serveDocker(t, map[string]map[string]any{
		id:    {"Id": id, "Name": "/web", "Config": map[string]any{"Image": "nginx"}},
		podID: {"Id": podID, "Name": "/k8s_api", "Config": map[string]any{"Labels": map[string]string{"io.kubernetes.pod.name": "api-0"}}},
	})
	r := New(Config{Cgroups: tree, Login: func(uint32) string { return "alice" }, Losses: losses,
		Runtimes: cri.New(cri.Config{Endpoints: []cri.Endpoint{{Runtime: "docker", API: cri.DockerAPI, Socket: socket}}})})
	var told recorder
	r.OnChange(told.changed)
	start(t, r)

	unit := "vigie-test-" + id[:12]
	for _, h := range tree.Hierarchies() {
		if h.ID != 0 && !slices.ContainsFunc(h.Controllers, func(c string) bool { return c == "pids" || c == "memory" || c == "name=systemd" }) {
			continue
		}
		for _, c := range []struct {
			path, name string
			kind       model.WorkloadKind
		}{
			{"/system.slice/" + unit + ".service", unit + ".service", model.WorkloadUnit},
			{"/user.slice/user-1000.slice/session-" + unit + ".scope", "session-" + unit + " (alice)", model.WorkloadSession},
			{"/docker/" + id, "web", model.WorkloadContainer},
			{"/kubepods/burstable/pod" + pod + "/" + podID, "api-0", model.WorkloadPod},
			{"/" + unit + "/accounting", "", ""},
		} {
			pid := inCgroup(t, h, c.path)
			hierarchy, cgroup := cgroupOf(t, pid, h)
			w := r.Lookup(hierarchy, cgroup)
			if c.kind == "" {
				if w != nil {
					t.Errorf("hierarchy %d: %s: got %+v, want none", h.ID, c.path, w)
				}
				continue
			}
			if w == nil || w.Kind != c.kind || w.Cgroup != c.path {
				t.Errorf("hierarchy %d: %s: got %+v", h.ID, c.path, w)
				continue
			}
			waitFor(t, c.path+" to be called "+c.name, func() bool { return r.Lookup(hierarchy, cgroup).Name == c.name })
		}
	}
	if n := r.Stats().Walks; n != 0 {
		t.Errorf("%d walks: the kernel did not find cgroups by id", n)
	}
	for _, l := range losses.Snapshot() {
		if l.Count != 0 {
			t.Errorf("lost: %+v", l)
		}
	}
	waitFor(t, "one change for each container", func() bool { return len(told.all()) == 2 })
}

// TestForHost runs on whatever this host is: the test's own process has the workload that its cgroup says.
func TestForHost(t *testing.T) {
	tree := openTree(t)
	r := ForHost("/", nil, slog.New(slog.DiscardHandler), new(pipeline.Losses))
	start(t, r)
	if r.Stats().Cgroups == 0 {
		t.Error("no cgroup was read")
	}
	for _, h := range tree.Hierarchies() {
		hierarchy, id := cgroupOf(t, os.Getpid(), h)
		path, err := tree.Path(hierarchy, id)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := host.Parse(path, nil)
		if w := r.Lookup(hierarchy, id); (w != nil) != ok || ok && !strings.HasPrefix(path, w.Cgroup) {
			t.Errorf("hierarchy %d: %s is %+v", hierarchy, path, w)
		}
	}
}

func openTree(t *testing.T) *host.Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups, and CAP_DAC_READ_SEARCH to open them by id")
	}
	tree, err := host.Open("/proc")
	if err != nil {
		t.Skipf("needs a mounted cgroup hierarchy: %v", err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

// inCgroup starts a process that waits, in a cgroup that is made for it. Both go away with the test,
// and so does every cgroup above that was not there before.
func inCgroup(t *testing.T, h host.Hierarchy, path string) (pid int) {
	t.Helper()
	dir := h.Mount
	for part := range strings.SplitSeq(path[1:], "/") {
		made := filepath.Join(dir, part)
		dir = made
		if err := os.Mkdir(made, 0o755); os.IsExist(err) {
			continue
		} else if err != nil {
			t.Skipf("needs a writable cgroup hierarchy: %v", err)
		}
		t.Cleanup(func() {
			waitFor(t, made+" to be removed", func() bool {
				err := os.Remove(made)
				return err == nil || os.IsNotExist(err)
			})
		})
	}
	child := exec.Command("cat")
	input, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		_ = child.Wait()
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(child.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	return child.Process.Pid
}

// cgroupOf is what the kernel says about a process: the id of the cgroup that /proc names.
func cgroupOf(t *testing.T, pid int, h host.Hierarchy) (hierarchy uint32, id uint64) {
	t.Helper()
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if fields[0] != strconv.FormatUint(uint64(h.ID), 10) {
			continue
		}
		handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(h.Mount, fields[2]), 0)
		if err != nil {
			t.Fatal(err)
		}
		return h.ID, binary.NativeEndian.Uint64(handle.Bytes())
	}
	t.Fatalf("process %d is in no cgroup of hierarchy %d", pid, h.ID)
	return 0, 0
}

// serveDocker is a Docker daemon that has these containers, by id.
func serveDocker(t *testing.T, containers map[string]map[string]any) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/containers/"), "/json")
		if answer, ok := containers[id]; ok {
			_ = json.NewEncoder(w).Encode(answer)
			return
		}
		http.NotFound(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return socket
}

func randomID(t *testing.T) string {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}
