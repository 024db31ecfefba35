// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/testkit"
)

// deployment has two containers that are written alike, and do different things.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: quiet
        image: web:1
        ports: [{containerPort: 8080, hostPort: 8080}]
        securityContext: {privileged: true}
        volumeMounts: [{name: tmp, mountPath: /tmp}]
      - name: busy
        image: web:1
        ports: [{containerPort: 8081, hostPort: 8081}]
        securityContext: {privileged: true}
        volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, namespace: shop}
spec:
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: idle, image: web:1}]}
`

// TestRunTimeFactsOfARealAgent runs the processes of a pod with two containers in its cgroups beside an agent, and asks it by `vigie scan --live` and
// `vigie fix --live`: what one container did stands against it, what the other did not do proves its fix.
func TestRunTimeFactsOfARealAgent(t *testing.T) {
	testkit.RequireBPF(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups and mount namespaces")
	}
	pod := newPod(t, "web-7d4b9c-x2x1z", "shop", "quiet", "busy")
	pod.add(t, "idle-5f6c7d-q2q3z", "shop", "idle")
	a := newAgent(t, t.TempDir(), "--history-interval", "1s")
	pod.hideRuntimes(a.cmd)
	a.start()

	scratch, err := os.MkdirTemp("/tmp", "vigie-e2e-") // t.TempDir is for its owner alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(scratch) })
	if err := os.Chmod(scratch, 0o777); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	pod.run(t, "quiet", nobody, ":", "echo a > "+scratch+"/a && cat "+scratch+"/a > "+scratch+"/b && rm "+scratch+"/a")

	pod.run(t, "idle", nobody, ":", "cat "+scratch+"/b > "+scratch+"/c")

	elsewhere := filepath.Join("/var/tmp", "vigie-e2e-"+pod.id["busy"][:12])
	t.Cleanup(func() { os.Remove(elsewhere) })
	token := "/run/secrets/kubernetes.io/serviceaccount"
	pod.run(t, "busy", nil, "mount -t tmpfs none /run && mkdir -p "+token+" && echo t > "+token+"/token",
		"cat "+token+"/token && echo b > "+elsewhere+" && chown 1 "+elsewhere)
	port := pod.connect(t, "busy")

	where := `process.workload.name == "web-7d4b9c-x2x1z"`
	a.await("history to have what happened", func() bool {
		out, err := exec.Command(vigie(t), "events", "--since", "10m", "--socket", a.socket, "--type", "accept,file", "--where", where, "-o", "json").Output()
		return err == nil && strings.Contains(string(out), elsewhere) && strings.Contains(string(out), scratch+"/b") && strings.Contains(string(out), `"accept"`)
	})
	manifest := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(manifest, []byte(deployment), 0o600); err != nil {
		t.Fatal(err)
	}

	out, errs, code := run(t, nil, "scan", "--live", "--socket", a.socket, "--watched", "100ms", "-o", "json", manifest)
	if code != 1 {
		t.Fatalf("scan ended with %d: %s", code, errs)
	}
	var report struct {
		Findings []struct {
			Control, Container, Severity, Seen string
			Object                             struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	type judged struct{ severity, seen string }
	said := map[string]judged{}
	for _, f := range report.Findings {
		said[f.Control+" "+f.Container] = judged{f.Severity, f.Seen}
		if f.Container == "" {
			said[f.Control+" of "+f.Object.Name] = judged{f.Severity, f.Seen}
		}
	}
	for finding, want := range map[string]judged{
		"privileged quiet":      {"high", "it never used a capability"},
		"privileged busy":       {"critical", "it uses CHOWN"},
		"host-port quiet":       {"low", "no connection ever came in"},
		"host-port busy":        {"medium", fmt.Sprintf("connections came in on port %d", port)},
		"read-only-root quiet":  {"medium", "it never wrote outside of volumes: the fix breaks nothing"},
		"read-only-root busy":   {"medium", "it writes " + elsewhere},
		"run-as-non-root quiet": {"low", "no process ran as root"},
		"run-as-non-root busy":  {"high", "it runs as root"},
		// Of a pod, whose containers all have the token.
		"service-account-token of web":  {"medium", "the token is read"},
		"service-account-token of idle": {"low", "the token was never read"},
	} {
		if got := said[finding]; got.severity != want.severity || !strings.Contains(got.seen, want.seen) {
			t.Errorf("%s is %+v, want %+v", finding, got, want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}

	out, errs, code = run(t, nil, "fix", "--live", "--socket", a.socket, "--watched", "100ms", "--dry-run", manifest)
	if code != 1 {
		t.Errorf("fix ended with %d: %s", code, errs)
	}
	for _, want := range []string{"no write outside of /tmp", "no capability used", elsewhere} {
		if !strings.Contains(out, want) {
			t.Errorf("fix does not say %q:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "readOnlyRootFilesystem: true"); n != 2 {
		t.Errorf("%d root file systems would become read-only, want those of quiet and idle:\n%s", n, out)
	}
}

// pod is one that a kubelet could have made: its cgroups, and a runtime that knows their names.
type pod struct {
	id     map[string]string   // of containers, by name
	cgroup map[string]*os.File // their directories
	socket string              // of the runtime
	known  map[string]known    // by the runtime: id → container
}

// known is a container as its runtime knows it.
type known struct{ pod, namespace, uid, container string }

func newPod(t *testing.T, name, namespace string, containers ...string) *pod {
	t.Helper()
	p := &pod{id: map[string]string{}, cgroup: map[string]*os.File{}, socket: filepath.Join(t.TempDir(), "docker.sock"), known: map[string]known{}}
	p.add(t, name, namespace, containers...)
	listener, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		for id, c := range p.known {
			if len(parts) >= 2 && parts[len(parts)-2] == id {
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(map[string]any{"Id": id, "Name": "/k8s_" + c.container, "Config": map[string]any{"Image": "web:1", "Labels": map[string]string{
					"io.kubernetes.pod.name": c.pod, "io.kubernetes.pod.namespace": c.namespace, "io.kubernetes.pod.uid": c.uid, "io.kubernetes.container.name": c.container}}})
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return p
}

// add makes another pod that the same runtime knows, before the agent asks for it. Names of containers are those of one pod only.
func (p *pod) add(t *testing.T, name, namespace string, containers ...string) {
	t.Helper()
	root := cgroup2(t)
	uid := "0b8e4d8e-6d1c-4c6f-9d3a-" + randomHex(t, 6)
	for _, c := range containers {
		p.id[c] = randomHex(t, 32)
		p.known[p.id[c]] = known{name, namespace, uid, c}
		dir := root
		for _, part := range []string{"kubepods", "burstable", "pod" + uid, p.id[c]} {
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); os.IsExist(err) {
				continue
			} else if err != nil {
				t.Skipf("needs a writable cgroup2 hierarchy: %v", err)
			}
			made := dir
			t.Cleanup(func() {
				await(t, made+" to be removed", func() bool { err := os.Remove(made); return err == nil || os.IsNotExist(err) })
			})
		}
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		p.cgroup[c] = f
	}
}

// hideRuntimes gives a command a /run of its own, in which the pod's runtime is the only one.
func (p *pod) hideRuntimes(cmd *exec.Cmd) {
	script := `mount -t tmpfs none /run && ln -s "$1" /run/docker.sock && shift && exec "$@"`
	cmd.Args = append([]string{"unshare", "--mount", "/bin/sh", "-c", script, "sh", p.socket, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Err = exec.LookPath("unshare")
}

// run runs a script in a container, after another outside of it that makes ready what it needs, in a mount namespace of root's.
func (p *pod) run(t *testing.T, container string, as *syscall.Credential, before, script string) {
	t.Helper()
	argv := []string{"/bin/sh", "-c", before + " && echo ready && read go && " + script}
	if as == nil {
		argv = append([]string{"unshare", "--mount"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		_ = cmd.Wait()
		t.Fatalf("%v: %v: %s", argv, err, &errs)
	}
	if err := os.WriteFile(filepath.Join(p.cgroup[container].Name(), "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, &errs)
	}
}

// connect has a container take a connection, and gives its port.
func (p *pod) connect(t *testing.T, container string) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(os.Args[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(p.cgroup[container].Fd())}
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), "VIGIE_E2E_PEER=echo"), []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port
}

func randomHex(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// cgroup2 is where the hierarchy of version 2 is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return fields[4]
		}
	}
	t.Skip("needs a mounted cgroup2 hierarchy")
	return ""
}
