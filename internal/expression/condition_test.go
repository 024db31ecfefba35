// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

func language(t testing.TB) *Language {
	t.Helper()
	l, err := New(Definitions{Ancestors: true,
		Lists: map[string][]string{"shells": {"sh", "bash", "dash", "zsh", "ksh"}, "etc": {"/etc", "/usr/etc"}},
		Macros: map[string]string{"writes": `file.op in ["write", "create", "truncate"]`, "is_shell": `process.binary.base() in shells`,
			"shell_writes": `is_shell && writes && file.error == ""`,
			"has_id":       `process.args.exists(a, a == "id")`}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func bash() *model.Process {
	return &model.Process{Key: model.ProcessKey{PID: 7, Start: 1, Exec: 2}, Binary: "/usr/bin/bash", Args: []string{"bash", "-c", "id"},
		Creds: model.Creds{LoginUID: model.NoUID}}
}

func fileEvent(op model.FileOp, path string) *model.Event {
	p := bash()
	return &model.Event{Type: model.TypeFile, Count: 1, Key: p.Key, Process: p, File: &model.File{Op: op, Path: path, FileType: "regular"},
		Parent: &model.Process{Binary: "/usr/sbin/nginx", ExecID: "p"}}
}

func connectEvent(to string) *model.Event {
	p := bash()
	return &model.Event{Type: model.TypeConnect, Count: 1, Key: p.Key, Process: p, Socket: &model.Socket{Protocol: "tcp",
		Remote: netip.MustParseAddrPort(to)}}
}

func TestConditions(t *testing.T) {
	l := language(t)
	file, conn := fileEvent(model.FileWrite, "/etc/cron.d/x"), connectEvent("10.1.2.3:443")
	for _, c := range []struct {
		source string
		event  *model.Event
		want   bool
	}{
		{`file.op == "write"`, file, true},
		{`writes && file.path.under("/etc")`, file, true},
		{`file.path.under("/et")`, file, false},
		{`file.path.under(etc)`, file, true},
		{`file.path.under(["/usr", "/"])`, file, true},
		{`file.path.base() == "x" && file.path.dir() == "/etc/cron.d"`, file, true},
		{`is_shell`, file, true},
		{`shell_writes`, file, true},
		{`shell_writes`, fileEvent(model.FileRead, "/etc/x"), false},
		{`!shell_writes`, conn, true},
		{`event.file.path.matches("^/etc/.*x$")`, file, true},
		{`file.path.contains("cron") ? file.op == "write" : false`, file, true},
		{`process.parent.binary.endsWith("/nginx")`, file, true},
		{`command_line.contains("-c id")`, file, true},
		{`"-c" in process.args && size(process.args) == 3`, file, true},
		{`size(process.args) > 5`, file, false},
		{`process.args.exists(a, a == "id")`, file, true},
		{`process.args[1] == "-c"`, file, true},
		{`ancestors.exists(a, a.binary == "/usr/sbin/sshd")`, file, true},
		{`ancestors.exists(a, a.binary.base() == "nothing")`, file, false},
		{`!ancestors.all(a, a.binary.under("/usr/sbin"))`, file, true},
		{`process.args.all(a, shells.exists(s, s == a) || a.size() < 3)`, file, true},
		{`process.args.exists(a, process.args.exists(b, a + b == "bashid"))`, file, true},
		{`process.args.exists(shell_writes, shell_writes == "id")`, file, true},
		{`process.args.exists(a, has_id && a == "bash")`, file, true},
		{`written_path == "/etc/cron.d/x"`, file, true},
		{`written_path == ""`, conn, true},
		{`written_path == ""`, fileEvent(model.FileUnlink, "/etc/cron.d/x"), true},
		{`"pool.example.org".inDomain("example.org") && "example.org".inDomain(["a.b", "example.org"]) && !"notexample.org".inDomain("example.org")`, file, true},
		{`file.path.inDomain(["d/x", "/etc/cron.d/x"])`, file, true},
		{`called == "bash" && called != "zsh"`, file, true},
		{`has(event.file) && !has(event.socket)`, file, true},
		{`has(process.login_uid)`, file, false},
		{`socket.remote_address.within("10.0.0.0/8")`, conn, true},
		{`socket.remote_address.within(["192.168.0.0/16", "10.1.2.3"])`, conn, true},
		{`socket.remote_address.within("192.168.0.0/16")`, conn, false},
		{`socket.remote_port in [443u, 80u]`, conn, true},
		{`socket.remote_port >= 443 && socket.remote_port < 1024u`, conn, true},
		{`process.uid == 0u && process.pid != 7u`, conn, false},
		{`process.workload.labels["app"] == "x" || true`, conn, true},
		{`file.path == ""`, conn, true},
		{`type == "connect" && event.type != "file"`, conn, true},
		{`exit.code < 0`, conn, false},
		{`count >= 1u`, conn, true},
	} {
		cond, err := l.Condition(c.source)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		s := &Subject{Event: c.event, Boot: modeltest.Boot, Ancestors: func(*model.Process) []*model.Process {
			return []*model.Process{{Binary: "/usr/bin/login"}, {Binary: "/usr/sbin/sshd"}}
		}}
		if got, err := cond.Holds(s); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.source, got, err)
		}
		if got, err := cond.Evaluate(s); err != nil || got != c.want {
			t.Errorf("%s by CEL alone: %v, %v", c.source, got, err)
		}
		g := cond.Guard(KindOf(c.event))
		if may := g.May(s); c.want && !may || g.Exact && may != c.want {
			t.Errorf("%s: the guard says %v, exact %v", c.source, may, g.Exact)
		}
	}
}

// Whatever a guard says of any event agrees with CEL.
func TestGuardsAgreeWithCEL(t *testing.T) {
	l := language(t)
	sources := []string{`writes && file.path.under(etc) || process.uid == 0u`, `!(shell_writes || file.op == "read" && process.args[0] == "x")`,
		`process.args[3] == "x" && count > 1u`, `!(process.args[3] == "x") || file.error == ""`,
		`(socket.remote_port > 1024u ? process.args[1] : file.path) == ""`, `socket.remote_address.within("10.0.0.0/8") || socket.error != ""`,
		`process.file.memfd || process.file.script.startsWith("/tmp") && !process.forked`, `has(process.workload) && process.workload.kind != "unit"`,
		`credential.new.uid < credential.old.uid`, `capability.cap in ["CAP_SYS_ADMIN", "CAP_BPF"] && capability.granted == false`,
		`file.path.matches("^/[a-m]") && !file.path.matches("z")`, `process.cwd != process.binary`, `exit.code != 0 || dns.name.endsWith(".x")`,
		`mount.flags == 4096u || ptrace.request in ["attach", "seize"]`, `"mnt" in event.namespace.flags`,
		`process.args.exists(a, a.startsWith("/usr") || a.contains("é"))`, `!process.args.all(a, a != "" && process.uid != 7u)`,
		`process.args.exists(a, a.size() > 9) && process.args.all(a, process.args.exists(b, b == a))`, `called == process.binary.base()`, `process.binary.under(["/usr/bin", "/"])`,
		`process.cwd.matches("(?i)A|é+") || process.cwd.matches("^(/usr|日本).*n/$|\\x00")`, `process.binary.matches("b[io]n/(a|é)")`, `dns.name.inDomain(["a", "é"])`, `written_path == ""`, `written_path != file.new_path`, `true || process.args[9] == ""`}
	rng := rand.New(rand.NewPCG(3, 4))
	var events []*model.Event
	for i := range 300 {
		e := modeltest.Event(rng, []float64{1, 0.9, 0.5}[i%3])
		events = append(events, only(e))
	}
	for _, source := range sources {
		c, err := l.Condition(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		guards := make(map[Kind]Guard)
		for _, k := range Kinds() {
			guards[k] = c.Guard(k)
		}
		for _, e := range events {
			s := &Subject{Event: e, Boot: modeltest.Boot}
			want, err := c.Evaluate(s)
			want = want && err == nil
			g, ok := guards[KindOf(e)]
			if !ok {
				g = c.Guard(Kind{Type: e.Type})
			}
			if may := g.May(s); want && !may || g.Exact && may != want {
				t.Errorf("%s for %+v: CEL says %v (%v), the guard %v, exact %v", source, KindOf(e), want, err, may, g.Exact)
			}
			if got, err := c.Holds(s); (got && err == nil) != want {
				t.Errorf("%s: holds %v, CEL says %v", source, got, want)
			}
		}
	}
}

// only leaves of an event the part that its type names, as real events are.
func only(e *model.Event) *model.Event {
	v := reflect.ValueOf(e).Elem()
	for name := range messages()["Event"] {
		of := partOf(name)
		if of == nil || slices.Contains(of, e.Type) {
			continue
		}
		field := v.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, strings.ReplaceAll(name, "_", "")) })
		field.SetZero()
	}
	return e
}

func TestGuardsFoldByTheKindOfEvent(t *testing.T) {
	l := language(t)
	for _, c := range []struct{ source, types string }{
		{`writes`, "file"},
		{`written_path.under("/etc")`, "file"},
		{`file.op == "chmod" || type == "exec"`, "exec file"},
		{`socket.remote_port == 1u`, "connect accept listen close"},
		{`process.args[0] == "x" && mount.op == "mount"`, "mount"},
		{`has(event.ptrace)`, "ptrace"},
		{`type == "exec" && file.path != ""`, ""},
		{`type in ["dns", "exit"] && process.args[0] == "x"`, "exit dns"},
	} {
		cond, err := l.Condition(c.source)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, typ := range cond.Types() {
			got = append(got, string(typ))
		}
		if strings.Join(got, " ") != c.types {
			t.Errorf("%s: for %v, want %s", c.source, got, c.types)
		}
	}
	cond, _ := l.Condition(`writes && process.uid == 0u`)
	read, write := cond.Guard(Kind{model.TypeFile, model.FileRead}), cond.Guard(Kind{model.TypeFile, model.FileWrite})
	if !read.Never() || write.Never() || !write.Exact {
		t.Errorf("reads: never %v; writes: never %v, exact %v", read.Never(), write.Never(), write.Exact)
	}
}

func TestMacrosThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		macros map[string]string
		want   string
	}{
		{map[string]string{"a": `b`, "b": `c`, "c": `a`}, "macro a: uses itself: a → b → c → a"},
		{map[string]string{"a": `process.uid`}, "macro a: column 1: is a uint"},
		{map[string]string{"a": `nothing`}, "macro a: column 1: undeclared reference to 'nothing'"},
	} {
		_, err := New(Definitions{Macros: c.macros})
		var m *MacroError
		if !errors.As(err, &m) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.macros, err)
		}
	}
}

func TestAnErrorIsNoAnswer(t *testing.T) {
	l := language(t)
	for _, source := range []string{`process.args[9] == "x"`, `file.path.within("nonsense")`} {
		c, err := l.Condition(source)
		if err != nil {
			t.Fatal(err)
		}
		if holds, err := c.Holds(&Subject{Event: fileEvent(model.FileRead, "/x")}); holds || err == nil {
			t.Errorf("%s: %v, %v", source, holds, err)
		}
	}
}

func TestTexts(t *testing.T) {
	l := language(t)
	s := &Subject{Event: fileEvent(model.FileWrite, "/etc/x"), Boot: modeltest.Boot}
	for source, want := range map[string]string{`file.path`: "/etc/x", `process.pid`: "7", `process.args`: "bash -c id", `command_line`: "bash -c id",
		`process.binary.base()`: "bash", `exit.code`: "0", `process.uid + 1u`: "1", `file.error == "" ? "ok" : file.error`: "ok",
		`process.args.map(a, a.size())`: "4 2 2"} {
		x, err := l.Text(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := x.Of(s); err != nil || got != want {
			t.Errorf("%s: %q, %v", source, got, err)
		}
	}
	for _, source := range []string{`process`, `process.workload.labels`, `procss.pid`} {
		if _, err := l.Text(source); err == nil {
			t.Errorf("%s has a text", source)
		}
	}
}

func BenchmarkGuard(b *testing.B) {
	l := language(b)
	s := new(Subject)
	for _, source := range []string{`file.op == "write" && file.path.startsWith("/usr")`, `shell_writes && file.path.under("/usr")`,
		`process.args.exists(a, a == "x")`} {
		c, err := l.Condition(source)
		if err != nil {
			b.Fatal(err)
		}
		e := fileEvent(model.FileWrite, "/etc/passwd")
		b.Run(source, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Set(e)
				if _, err := c.Holds(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
