// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline bounds how long a test waits for something that must happen.
const deadline = 60 * time.Second

// The versions that the modules beside this file pin.
const (
	prometheus = "prometheus-v0.305.0"
	jaeger     = "jaeger-v1.76.0"
)

// receiver is the binary of one; where it was not built, the test says how that is done.
func receiver(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	path := filepath.Join(cache, "vigie", "export", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs %s: `make test-export` builds it", name)
	}
	return path
}

// vigie builds the binary, beside the receivers.
func vigie(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a place for the binary: %v", err)
	}
	path := filepath.Join(cache, "vigie", "export", "vigie")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/vigie-io/vigie/cmd/vigie")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build vigie: %v\n%s", err, out)
	}
	return path
}

// output is what a command prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a command until the test ends, or end is called, which waits for it.
func start(t *testing.T, path string, args ...string) (end func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	out := new(output)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(deadline):
			_ = cmd.Process.Kill()
			t.Errorf("%s did not end", path)
		}
		if t.Failed() {
			text := out.String()
			t.Logf("%s:\n%s", filepath.Base(path), text[max(0, len(text)-4000):])
		}
	})
	t.Cleanup(end)
	return end
}

// freePort is a port on loopback that nobody has now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	var last error
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if last = holds(); last == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, last)
}

// get reads JSON from a URL into v.
func get(url string, v any) error {
	res, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, res.Status, body)
	}
	return json.Unmarshal(body, v)
}

// startPrometheus scrapes targets every second, and takes OTLP. Returns its address.
func startPrometheus(t *testing.T, targets ...string) string {
	t.Helper()
	path, dir, address := receiver(t, prometheus), t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	config := "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: vigie\n  static_configs: [{targets: [" +
		strings.Join(targets, ", ") + "]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--web.enable-otlp-receiver", "--log.level=warn")
	eventually(t, "Prometheus", func() error {
		var ready struct{ Status string }
		return get("http://"+address+"/api/v1/status/buildinfo", &ready)
	})
	return address
}

// startJaeger keeps spans in memory. Returns where it takes OTLP over HTTP and gRPC, and where it answers.
func startJaeger(t *testing.T) (overHTTP, overGRPC, query string) {
	t.Helper()
	path, dir := receiver(t, jaeger), t.TempDir()
	overHTTP, overGRPC = fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	query = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	config := fmt.Sprintf(`
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
  telemetry:
    metrics: {level: none}
extensions:
  jaeger_query:
    storage: {traces: memory}
    http: {endpoint: %q}
    grpc: {endpoint: "127.0.0.1:%d"}
  jaeger_storage:
    backends:
      memory: {memory: {max_traces: 1000}}
receivers:
  otlp:
    protocols:
      http: {endpoint: %q}
      grpc: {endpoint: %q}
exporters:
  jaeger_storage_exporter: {trace_storage: memory}
`, query, freePort(t), overHTTP, overGRPC)
	file := filepath.Join(dir, "jaeger.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, path, "--config="+file)
	eventually(t, "Jaeger", func() error {
		var services any
		return get("http://"+query+"/api/services", &services)
	})
	return overHTTP, overGRPC, query
}
