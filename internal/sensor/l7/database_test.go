// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestRedis(t *testing.T) {
	w := newWorld(t)
	server, cli := w.need("redis-server", "redis-server"), w.need("redis-cli", "redis-tools")
	w.serve("127.0.0.1:6379", server, "--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir", w.dir, "--requirepass", "secret-of-redis")
	for _, command := range []string{"SET user:471100815:cart secret-of-the-cart", "GET user:471100815:cart", "LPUSH user:471100815:cart secret-of-the-list"} {
		w.run(append([]string{cli, "-h", "127.0.0.1", "-a", "secret-of-redis"}, strings.Fields(command)...)...)
	}
	for _, role := range []string{"client", "server"} {
		for _, method := range []string{"AUTH", "SET", "GET", "LPUSH"} {
			r := w.request(role, func(r *model.Request) bool { return r.Protocol == "redis" && r.Method == method }).Request
			if r.Latency <= 0 || r.Failed != (method == "LPUSH") || (method == "LPUSH") != (r.StatusText == "WRONGTYPE") ||
				method != "AUTH" && r.Resource != "user:{id}:cart" {
				t.Errorf("%s: %+v", role, r)
			}
		}
	}
	w.hidden("secret-of", "471100815")
}

func TestPostgreSQL(t *testing.T) {
	w := newWorld(t)
	initdb, postgres, psql := w.need("initdb", "postgresql"), w.need("postgres", "postgresql"), w.need("psql", "postgresql-client")
	data := filepath.Join(w.dir, "data")
	cert, key := w.certificate()
	w.run("/bin/chown", "postgres", w.dir, key)
	w.run("/bin/chmod", "600", key)
	w.as = w.credential("postgres") // it does not run as root
	w.run(initdb, "-D", data, "-A", "trust", "-N")
	w.serve("127.0.0.1:5432", postgres, "-D", data, "-h", "127.0.0.1", "-k", w.dir, "-F", "-c", "ssl=on", "-c", "ssl_cert_file="+cert, "-c", "ssl_key_file="+key)

	w.probed("/usr/lib/*/libssl.so.3")
	for mode, library := range map[string]string{"disable": "", "require": "openssl"} {
		out, err := w.try(psql, "host=127.0.0.1 user=postgres dbname=postgres sslmode="+mode, "-c", "drop table if exists users", "-c", "create table users(name text primary key)",
			"-c", "insert into users values ('secret-of-anna')", "-c", "select * from users where name = 'secret-of-anna'", "-c", "insert into users values ('secret-of-anna')")
		if err == nil {
			t.Fatalf("a name was stored twice: %s", out)
		}
		for _, role := range []string{"client", "server"} {
			for _, want := range []struct{ method, table, state string }{{"CREATE", "", ""}, {"INSERT", "users", ""}, {"SELECT", "users", ""}, {"INSERT", "users", "23505"}} {
				r := w.request(role, func(r *model.Request) bool {
					return r.Protocol == "postgresql" && r.TLS == library && r.Method == want.method && r.Resource == want.table && r.StatusText == want.state
				}).Request
				if r.Latency <= 0 || r.Failed != (want.state != "") || r.Duration < r.Latency {
					t.Errorf("%s: %+v", role, r)
				}
			}
		}
	}
	w.hidden("secret-of")
}

func (w *world) credential(name string) *syscall.Credential {
	w.t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		w.t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// try runs a command that may fail.
func (w *world) try(argv ...string) (string, error) {
	w.t.Helper()
	var out []byte
	err := w.ns.Run(func() error {
		var err error
		out, err = exec.Command(argv[0], argv[1:]...).CombinedOutput()
		return err
	})
	return string(out), err
}

func TestMySQL(t *testing.T) {
	w := newWorld(t)
	install, server, client := w.need("mariadb-install-db", "mariadb-server-core"), w.need("mariadbd", "mariadb-server-core"), w.need("mariadb", "mariadb-client-core")
	data := filepath.Join(w.dir, "data")
	w.run(install, "--no-defaults", "--datadir="+data, "--user=root", "--skip-test-db", "--auth-root-authentication-method=normal")
	w.serve("127.0.0.1:3306", server, "--no-defaults", "--datadir="+data, "--user=root", "--bind-address=127.0.0.1", "--socket="+w.dir+"/sock", "--pid-file="+w.dir+"/pid")

	out, err := w.try(client, "--no-defaults", "-h", "127.0.0.1", "-u", "root", "-e", "create database shop; use shop; create table users(name varchar(80) primary key); "+
		"insert into users values ('secret-of-anna'); select * from users where name = 'secret-of-anna'; insert into users values ('secret-of-anna')")
	if err == nil {
		t.Fatalf("a name was stored twice: %s", out)
	}
	for _, role := range []string{"client", "server"} {
		for _, want := range []struct{ method, table, state string }{{"CREATE", "", ""}, {"USE", "", ""}, {"INSERT", "users", ""}, {"SELECT", "users", ""}, {"INSERT", "users", "23000"}} {
			r := w.request(role, func(r *model.Request) bool {
				return r.Protocol == "mysql" && r.Method == want.method && r.Resource == want.table && r.StatusText == want.state
			}).Request
			if r.Latency <= 0 || r.Failed != (want.state != "") || r.Duration < r.Latency {
				t.Errorf("%s: %+v", role, r)
			}
		}
	}
	w.hidden("secret-of")
}

func TestKafka(t *testing.T) {
	w := newWorld(t)
	w.serve("127.0.0.1:9092", w.copyOfTest("kafka-broker", "9092")...)
	w.run(w.copyOfTest("kafka-client", "127.0.0.1:9092")...)
	for _, role := range []string{"client", "server"} {
		for _, want := range []struct{ method, topic string }{{"ApiVersions", ""}, {"Metadata", ""}, {"Produce", "orders"}, {"Fetch", "orders"}} {
			r := w.request(role, func(r *model.Request) bool {
				return r.Protocol == "kafka" && r.Method == want.method && (r.Resource == want.topic || want.topic == "")
			}).Request
			if r.Latency <= 0 || r.Failed || r.NoAnswer || !strings.HasPrefix(r.Version, "v") {
				t.Errorf("%s: %+v", role, r)
			}
		}
	}
	w.hidden("secret-of")
}
