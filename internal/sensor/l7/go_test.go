// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// copyOfTest is the command line of an actor.
func (w *world) copyOfTest(name string, args ...string) []string {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	return append([]string{self, actorPrefix + name}, args...)
}

func TestGRPC(t *testing.T) {
	w := newWorld(t)
	if runtime.GOARCH == "amd64" {
		w.probed("/proc/self/exe") // looking for that takes an emulated processor's whole attention
	}
	w.serve("127.0.0.1:5000", w.copyOfTest("grpc-server", "127.0.0.1:5000")...)
	w.run(w.copyOfTest("grpc-client", "127.0.0.1:5000")...)
	for _, role := range []string{"client", "server"} {
		w.checkHealth(role, "")
	}
	w.hidden("secret-of")
}

// checkHealth looks for the two calls that grpc-client makes.
func (w *world) checkHealth(role, library string) {
	w.t.Helper()
	for status, text := range map[int32]string{0: "OK", 5: "NOT_FOUND"} {
		r := w.request(role, func(r *model.Request) bool {
			return r.Protocol == "grpc" && r.Status == status && r.TLS == library && !r.NoAnswer
		}).Request
		if r.Path != "/grpc.health.v1.Health/Check" || r.StatusText != text || r.Failed != (status != 0) || r.Latency <= 0 || r.Duration < r.Latency ||
			r.RequestBytes == 0 || (role == "client" && r.Remote.Port() != 5000) || (role == "server" && r.Local.Port() != 5000) {
			w.t.Errorf("%s: %+v", role, r)
		}
	}
}

// probed waits until a program or a library has its probes.
func (w *world) probed(pattern string) {
	w.t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		w.t.Skipf("needs %s", pattern)
	}
	f, err := os.Open(found[0])
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if w.sensor.libraries.probed(f) {
			return
		}
	}
	w.t.Fatalf("%s is not probed", found[0])
}

func TestGoTLS(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("Go's TLS is read on amd64 only")
	}
	w := newWorld(t)
	cert, key := w.certificate()
	w.probed("/proc/self/exe")
	w.serve("127.0.0.1:5000", w.copyOfTest("grpc-server", "127.0.0.1:5000", cert, key)...)
	w.run(w.copyOfTest("grpc-client", "127.0.0.1:5000", "tls")...)
	w.serve("127.0.0.1:443", w.copyOfTest("https-server", "127.0.0.1:443", cert, key)...)
	w.run(w.copyOfTest("https-client", "1", "https://127.0.0.1/one/17?secret-of-go")...)
	w.run(w.copyOfTest("https-client", "2", "https://127.0.0.1/two/17?secret-of-go")...)
	for _, role := range []string{"client", "server"} {
		w.checkHealth(role, "go")
		if r := w.said(role, "go", at("/one/{id}")); r.Version != "HTTP/1.1" || r.ResponseBytes != 5 || r.Method != http.MethodPost {
			t.Errorf("%s: %+v", role, r)
		}
		if r := w.said(role, "go", at("/two/{id}")); r.Version != "HTTP/2" || r.ResponseBytes != 5 || r.RequestBytes != 100000 {
			t.Errorf("%s: %+v", role, r)
		}
	}
	w.hidden("secret-of")
}
