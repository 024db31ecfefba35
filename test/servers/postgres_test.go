// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// postgres is Debian's, with a cluster of its own, whose superuser the attacker is.
type postgres struct {
	t    *testing.T
	unit *unit
	bin  string // the directory of its programs
	main *process
}

const pgData = "/var/lib/postgresql/main"

func newPostgres(t *testing.T, s *site, u *unit, bin string) *postgres {
	t.Helper()
	p := &postgres{t: t, unit: u, bin: bin}
	s.own(u.as, "/var/lib/postgresql", "/run/postgresql", pgData)
	s.must(func() error { return os.Chmod(pgData, 0o700) })
	if _, err := u.client(p.bin+"/initdb", "-D", pgData, "-A", "trust", "--locale", "C.UTF-8"); err != nil {
		t.Fatal(err)
	}
	s.must(func() error {
		f, err := os.OpenFile(pgData+"/postgresql.conf", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(`
listen_addresses = '127.0.0.1'
logging_collector = on
archive_mode = on
wal_level = logical
max_wal_size = 64MB
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
track_io_timing = on
`)
		return err
	})
	return p
}

func (p *postgres) start() {
	p.t.Helper()
	p.main = p.unit.start(p.bin+"/postgres", "-D", pgData)
	p.main.awaitReady(p.t, p.serves)
}

func (p *postgres) pid() int { return p.main.cmd.Process.Pid }

func (p *postgres) stop() {
	p.t.Helper()
	p.main.end(p.t, syscall.SIGINT) // fast
}

func (p *postgres) serves() error {
	_, err := p.query("postgres", "SELECT count(*) FROM pg_class")
	return err
}

// query runs statements, each in a transaction of its own.
func (p *postgres) query(database string, statements ...string) (string, error) {
	args := []string{"/usr/bin/psql", "-h", "127.0.0.1", "-U", "postgres", "-d", database, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	return p.unit.client(args...)
}

func (p *postgres) must(database string, statements ...string) string {
	p.t.Helper()
	text, err := p.query(database, statements...)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func (p *postgres) load(label string) {
	p.t.Helper()
	for _, name := range []string{"shop", "stock", "books"} {
		p.must("postgres", "CREATE DATABASE "+name+"_"+label)
	}
	db := "shop_" + label
	p.must(db,
		"CREATE EXTENSION dblink",
		"CREATE TABLE orders (id serial PRIMARY KEY, what text, at timestamptz DEFAULT now())",
		"INSERT INTO orders (what) SELECT repeat('"+label+"', 20) || i FROM generate_series(1, 30000) i",
		"CREATE INDEX ON orders (what)",
		"UPDATE orders SET what = what || '!' WHERE id % 3 = 0",
		"DELETE FROM orders WHERE id % 7 = 0",
		"SET work_mem = '64kB'; SELECT count(*) FROM (SELECT a.what FROM orders a JOIN orders b USING (id) ORDER BY a.what DESC) x",
		"SET max_parallel_workers_per_gather = 2; SELECT count(DISTINCT what) FROM orders",
		"CREATE TEMP TABLE notes AS SELECT * FROM orders LIMIT 100",
		"SELECT now() AT TIME ZONE 'Europe/Paris', to_tsvector('english', what) FROM orders LIMIT 5",
		"SELECT * FROM dblink('host=127.0.0.1 user=postgres dbname="+db+"', 'SELECT 1') AS t(i int)",
		"DO $$ BEGIN PERFORM lo_from_bytea(0, '"+label+"'); END $$",
		"CREATE UNLOGGED TABLE quick (i int); DROP TABLE quick",
		"TRUNCATE orders",
		"CHECKPOINT",
		"ANALYZE",
	)
	p.must(db, "VACUUM FULL")
	p.must("postgres", "VACUUM", "ALTER SYSTEM SET log_min_duration_statement = '10s'", "SELECT pg_reload_conf()", "SELECT pg_rotate_logfile()",
		"SELECT pg_switch_wal()", "DROP DATABASE books_"+label)
	bench := []string{"/usr/bin/pgbench", "-h", "127.0.0.1", "-U", "postgres"}
	for _, args := range [][]string{{"-q", "-i", "-s", "1"}, {"-c", "4", "-j", "2", "-t", "50"}, {"-S", "-C", "-c", "2", "-t", "20"}} {
		if _, err := p.unit.client(append(append(bench, args...), "stock_"+label)...); err != nil {
			p.t.Fatalf("load %s: %v", label, err)
		}
	}
	p.must("postgres", "CHECKPOINT")
	p.stop()
	p.start()
	if got := p.must("stock_"+label, "SELECT count(*) FROM pgbench_accounts"); got != "100000" {
		p.t.Fatalf("load %s: after a restart there are %s rows", label, got)
	}
}

// sql is an attack by statements.
func (p *postgres) sql(statements ...string) func() error {
	return func() error {
		_, err := p.query("shop_second", statements...)
		return err
	}
}

func TestPostgreSQL(t *testing.T) {
	bin := filepath.Dir(needProgram(t, "/usr/lib/postgresql/*/bin/postgres"))
	lib := filepath.Join(filepath.Dir(bin), "lib")
	s := newSite(t)
	a := startAgent(t)
	u := newUnit(t, s, "postgresql", accountOf(t, "postgres"))
	p := newPostgres(t, s, u, bin)
	g := &siege{agent: a, site: s, unit: u, server: p, binary: bin + "/postgres", policy: "postgresql",
		traps: setTraps(t, s, elsewhere+":5432", elsewhere+":8888", bystander)}
	besiege(t, g)
	shell := s.real("/bin/sh")
	written := func(name string) func() bool { return func() bool { return s.text(name) != "" } }
	untouched := func(name string) func() bool {
		before := s.text(name)
		return func() bool { return s.text(name) != before }
	}
	s.must(func() error { return os.Chmod(lib+"/plpgsql.so", 0o666) })
	s.put("/tmp/evil.so", readFile(t, lib+"/plpgsql.so"), 0o755)
	g.attack(
		attack{"COPY FROM PROGRAM", p.sql("CREATE TEMP TABLE x (t text)", "COPY x FROM PROGRAM 'id; : >/tmp/by-copy-from'"), "exec", shell, written("/tmp/by-copy-from")},
		attack{"COPY TO PROGRAM", p.sql("COPY (SELECT 1) TO PROGRAM 'cat >/tmp/by-copy-to'"), "exec", shell, written("/tmp/by-copy-to")},
		attack{"COPY FROM /etc/shadow", p.sql("CREATE TEMP TABLE x (t text)", "COPY x FROM '"+shadow+"'"), "read", shadow, nil},
		attack{"pg_read_file of /etc/shadow", p.sql("SELECT pg_read_file('" + shadow + "')"), "read", shadow, nil},
		attack{"pg_read_binary_file of a private key", p.sql("SELECT pg_read_binary_file('" + secret + "')"), "read", secret, nil},
		attack{"lo_import of a private key", p.sql("SELECT lo_import('" + secret + "')"), "read", secret, nil},
		attack{"COPY TO authorized_keys", p.sql("COPY (SELECT 'ssh-rsa x') TO '/root/.ssh/authorized_keys'"), "write", "/root/.ssh/authorized_keys", written("/root/.ssh/authorized_keys")},
		attack{"COPY TO a cron job", p.sql("COPY (SELECT '* * * * * root id') TO '/etc/cron.d/pg'"), "write", "/etc/cron.d/pg", written("/etc/cron.d/pg")},
		attack{"lo_export over a library of its own", p.export("5001", lib+"/plpgsql.so"), "write", lib + "/plpgsql.so", untouched(lib + "/plpgsql.so")},
		attack{"lo_export of a program to /tmp", p.export("5002", "/tmp/evil"), "write", "/tmp/evil", written("/tmp/evil")},
		attack{"LOAD of a library from /tmp", p.sql("LOAD '/tmp/evil.so'"), "read", "/tmp/evil.so", nil},
		attack{"a function of a library from /tmp", p.sql("CREATE FUNCTION evil() RETURNS int AS '/tmp/evil.so', 'plpgsql_call_handler' LANGUAGE C"), "read", "/tmp/evil.so", nil},
		attack{"dblink to another host", p.sql("SELECT dblink_connect('host=" + elsewhere + " user=postgres connect_timeout=5')"), "connect", elsewhere + ":5432", nil},
		attack{"dblink to another port", p.sql("SELECT dblink_connect('host=127.0.0.1 port=7777 user=postgres connect_timeout=5')"), "connect", bystander, nil},
		attack{"subscription to another host", p.sql("CREATE SUBSCRIPTION evil CONNECTION 'host=" + elsewhere + " user=postgres connect_timeout=5' PUBLICATION evil"), "read|connect", "*", nil},
		attack{"archive_command", p.archive("/tmp/stolen-wal"), "exec", shell, written("/tmp/stolen-wal")},
	)
	g.inside(pgData + "/log")
	g.report(20)
}

// export writes a large object to a file.
func (p *postgres) export(id, to string) func() error {
	return p.sql("SELECT lo_from_bytea("+id+", 'evil')", "SELECT lo_export("+id+", '"+to+"')")
}

// archive has the server hand each finished part of its log to a command, and waits until it says that this failed.
func (p *postgres) archive(to string) func() error {
	return func() error {
		p.must("postgres", fmt.Sprintf("ALTER SYSTEM SET archive_command = 'cat %%p >%s'", to), "SELECT pg_reload_conf()", "CREATE TABLE IF NOT EXISTS a (i int)", "SELECT pg_switch_wal()")
		defer p.must("postgres", "ALTER SYSTEM RESET archive_command", "SELECT pg_reload_conf()")
		const failed = "archive command failed"
		worked := false
		await(p.t, "the archiver to have tried", func() bool {
			worked = p.must("postgres", "SELECT archived_count > 0 FROM pg_stat_archiver") == "t"
			return worked || strings.Contains(p.log(), failed)
		})
		if worked {
			return nil
		}
		_, why, _ := strings.Cut(p.log(), failed)
		return errors.New(failed + firstLine(why))
	}
}

// log is all that the server has logged.
func (p *postgres) log() (text string) {
	p.unit.site.must(func() error {
		names, err := filepath.Glob(pgData + "/log/*.log")
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += string(b)
		}
		return err
	})
	return text
}
