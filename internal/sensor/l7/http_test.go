// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func (w *world) nginx(server string) *exec.Cmd {
	w.t.Helper()
	nginx := w.need("nginx", "nginx-light")
	w.file("small.html", "hello")
	w.file("large.bin", strings.Repeat("secret-of-the-body ", 50000))
	conf := w.file("nginx.conf", `
master_process off; daemon off; pid `+w.dir+`/nginx.pid; error_log stderr; user root;
events { worker_connections 64; }
http {
	access_log off; client_body_temp_path `+w.dir+`; proxy_temp_path `+w.dir+`; fastcgi_temp_path `+w.dir+`;
	uwsgi_temp_path `+w.dir+`; scgi_temp_path `+w.dir+`;
	server { root `+w.dir+`; `+server+` error_page 405 =200 $uri; }
}`)
	return w.serve("127.0.0.1:80", nginx, "-c", conf, "-p", w.dir)
}

func at(p string) func(*model.Request) bool {
	return func(r *model.Request) bool { return r.Path == p }
}

func TestCurlAsksNginx(t *testing.T) {
	w := newWorld(t)
	curl := w.need("curl", "curl")
	w.nginx("listen 127.0.0.1:80;")
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	w.run(curl, "-s", "-u", "anna:secret-of-anna", "-H", "traceparent: "+parent, "-H", "Cookie: session=secret-of-the-cookie",
		"http://127.0.0.1/small.html?token=secret-of-the-query", "http://127.0.0.1/large.bin?again", "http://127.0.0.1/orders/471100815/items")
	w.run(curl, "-s", "-d", "card=secret-of-the-form", "http://127.0.0.1/small.html/9")

	for _, role := range []string{"client", "server"} {
		e := w.request(role, at("/small.html"))
		r := e.Request
		if r.Protocol != "http" || r.Version != "HTTP/1.1" || r.Method != http.MethodGet || r.Status != 200 || r.StatusText != "OK" || r.Host != "127.0.0.1" ||
			r.Failed || r.ResponseBytes != 5 || r.Latency <= 0 || r.Duration < r.Latency || r.TLS != "" {
			t.Errorf("%s: %+v", role, r)
		}
		if r.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || r.ParentSpanID != "00f067aa0ba902b7" || !r.Sampled {
			t.Errorf("%s: trace %s, parent %s, sampled %v", role, r.TraceID, r.ParentSpanID, r.Sampled)
		}
		server := netip.MustParseAddrPort("127.0.0.1:80")
		if end := map[string]netip.AddrPort{"client": r.Remote, "server": r.Local}[role]; end != server || r.Cookie == 0 || e.Key.IsZero() {
			t.Errorf("%s: ends %v and %v, cookie %d, process %+v", role, r.Local, r.Remote, r.Cookie, e.Key)
		}
		if r := w.request(role, at("/large.bin")).Request; r.ResponseBytes != 950000 || r.Duration <= r.Latency {
			t.Errorf("%s: the large one: %+v", role, r)
		}
		if r := w.request(role, at("/orders/{id}/items")).Request; r.Status != 404 || !r.Failed || r.StatusText != "Not Found" {
			t.Errorf("%s: the missing one: %+v", role, r)
		}
		if r := w.request(role, at("/small.html/{id}")).Request; r.Method != http.MethodPost || r.RequestBytes != 23 || !r.Failed {
			t.Errorf("%s: the form: %+v", role, r)
		}
	}
	w.hidden("secret-of", "c2VjcmV0", "471100815", "session=", "token")
}
