// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// learn learns the unit of a story, and holds that the policy denies nothing of it.
func (s *story) learn(t *testing.T, o LearnOptions) (*Learned, *Table) {
	t.Helper()
	learned, err := Learn(slices.Values(s.events), o)
	if err != nil {
		t.Fatal(err)
	}
	table := mustCompile(t, learned.YAML)
	if got := Simulate([]*Table{table}, slices.Values(s.events), nil); len(got.Denials) > 0 {
		t.Fatalf("the learned policy denies what it was learned from: %q\n%s", lines(got), learned.YAML)
	}
	return learned, table
}

// database is what a database server does under load.
func database() *story {
	s := &story{pid: 4000}
	unit := &model.Workload{Kind: model.WorkloadUnit, Name: "postgresql@17-main.service"}
	systemd := s.process(nil, "/usr/lib/systemd/systemd", nil)
	main := s.exec(systemd, "/usr/lib/postgresql/17/bin/postgres", unit)
	data := "/var/lib/postgresql/17/main"
	for _, lib := range []string{"libc.so.6", "libssl.so.3", "libm.so.6", "libpq.so"} {
		s.file(main, systemd, model.FileRead, "/usr/lib/x86_64-linux-gnu/"+lib, 0)
	}
	s.file(main, systemd, model.FileRead, "/etc/ld.so.cache", 0)
	s.file(main, systemd, model.FileRead, "/etc/postgresql/17/main/postgresql.conf", 0).Count = 2
	s.file(main, systemd, model.FileRead, data, 0).File.FileType = "directory"
	s.file(main, systemd, model.FileRead, "/var/lib/app/conf.d", 0).File.FileType = "directory"
	for _, dir := range []string{"x", "y", "z"} { // three that were listed: no rule above them
		s.file(main, systemd, model.FileRead, "/var/lib/own/"+dir, 0).File.FileType = "directory"
		for i := range 8 {
			s.file(main, systemd, model.FileRead, fmt.Sprintf("/var/lib/own/%s/%c", dir, 'a'+i), 0)
		}
	}
	for i := range 9 {
		s.file(main, systemd, model.FileRead, fmt.Sprintf("/usr/share/zoneinfo/Europe/%c", 'A'+i), 0)
		s.file(main, systemd, model.FileRead, fmt.Sprintf("/etc/%c.conf", 'a'+i), 0)
		for _, dir := range []string{"/home/alice", "/var/log", "/var/lib", "/usr/bin", "/etc/ssh", "/root/.ssh", "/tmp"} {
			s.file(main, systemd, model.FileRead, fmt.Sprintf("%s/x%c", dir, 'a'+i), 0)
		}
		for j := range 8 { // directories with nothing but a rule for all
			s.file(main, systemd, model.FileWrite, fmt.Sprintf("/var/lib/app/shards/%c/%c", 'a'+i, 'a'+j), 0)
		}
		for _, dir := range []string{"css", "js", "img"} {
			s.file(main, systemd, model.FileRead, fmt.Sprintf("/var/lib/app/static/%s/%c", dir, 'a'+i), 0)
		}
		s.file(main, systemd, model.FileRead, fmt.Sprintf("/var/lib/app/conf.d/%c", 'a'+i), 0)
		s.file(main, systemd, model.FileWrite, fmt.Sprintf("/etc/app/%c", 'a'+i), oRdWr)
	}
	for _, base := range []int{1, 5, 16384} {
		for _, file := range []string{"1259", "2619", "2619_fsm", "2619_vm", "1247", "1247_fsm", "1249_fsm"} {
			s.file(main, systemd, model.FileWrite, fmt.Sprintf("%s/base/%d/%s", data, base, file), oRdWr)
		}
		s.file(main, systemd, model.FileRead, fmt.Sprintf("%s/base/%d/PG_VERSION", data, base), 0)
	}
	s.file(main, systemd, model.FileCreate, data+"/pg_wal/000000010000000000000002", oCreat|oRdWr)
	s.file(main, systemd, model.FileRename, data+"/pg_wal/xlogtemp.4002", 0).File.NewPath = data + "/pg_wal/000000010000000000000003"
	s.file(main, systemd, model.FileCreate, data+"/temp-7.rdb", oCreat|oRdWr) // the pid of another pid namespace
	s.file(main, systemd, model.FileRename, data+"/temp-7.rdb", 0).File.NewPath = data + "/dump.rdb"
	s.file(main, systemd, model.FileUnlink, data+"/app.1.aof", 0)
	s.file(main, systemd, model.FileWrite, data+"/pg_xact/0000", 0)
	s.file(main, systemd, model.FileRename, data+"/app.tmp", 0).File.NewPath = data + "/app.2.aof"
	s.file(main, systemd, model.FileCreate, data+"/keep-1.db", oCreat|oRdWr)
	s.file(main, systemd, model.FileCreate, "/dev/shm/PostgreSQL.1234567", oCreat|oRdWr)
	s.file(main, systemd, model.FileUnlink, "/dev/shm/PostgreSQL.1234567", 0)
	for i := range 8 {
		s.file(main, systemd, model.FileCreate, fmt.Sprintf("%s/pg_%c", data, 'a'+i), 0).File.FileType = "directory"
	}
	s.file(main, systemd, model.FileCreate, "/tmp/pgsort_Ab3dE9", oCreat|oRdWr)
	s.file(main, systemd, model.FileCreate, "/tmp/Ab3dE9", oCreat|oRdWr)
	s.file(main, systemd, model.FileRead, "/proc/4711/oom_score_adj", 0)
	s.file(main, systemd, model.FileRead, "/var/cache/app/0f3a5b6c7d8e9f00/blob", 0)
	s.file(main, systemd, model.FileRead, "/run/user/3f2504e0-4f89-11d3-9a0c-0305e82c3301", 0)
	s.socket(model.TypeListen, main, systemd, "0.0.0.0:5432", "", "")
	s.socket(model.TypeListen, main, systemd, "127.0.0.1:40123", "", "")
	for i := range 9 {
		s.socket(model.TypeAccept, main, systemd, "10.0.0.1:5432", fmt.Sprintf("10.0.1.%d:50000", i), "")
	}
	s.socket(model.TypeAccept, main, systemd, "10.0.0.1:5433", "10.0.1.1:50000", "")
	s.socket(model.TypeConnect, main, systemd, "", "192.0.2.1:443", "backup.example.org")
	s.socket(model.TypeConnect, main, systemd, "", "192.0.2.2:443", "archive.example.org")
	s.socket(model.TypeConnect, main, systemd, "", "[2001:db8::1]:5432", "")
	s.socket(model.TypeConnect, main, systemd, "", "10.0.0.7:5432", "").Count = 40
	s.add(&model.Event{Type: model.TypeCapability, Process: main, Parent: systemd, Capability: &model.Capability{Cap: 0, Granted: true}})
	gzip := s.exec(main, "/bin/gzip", unit)
	s.file(gzip, main, model.FileCreate, "/var/lib/app/made", 0).File.FileType = "directory"
	return s
}

func TestLearn(t *testing.T) {
	learned, table := database().learn(t, LearnOptions{Workload: "postgresql@17-main.service"})
	const file = "testdata/learned.yaml"
	text := learned.YAML + "# " + strings.Join(learned.Notes, "\n# ") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != text {
		t.Errorf("learned (%v; -update writes it)\n%s", err, text)
	}
	subject := table.Subject("/usr/lib/postgresql/17/bin/postgres", "")
	data := "/var/lib/postgresql/17/main"
	for _, near := range []struct {
		op   FileOp
		path string
	}{
		{Exec, "/bin/sh"}, {Exec, "/bin/gzip2"}, {Exec, "/usr/lib/postgresql/17/bin/psql"}, {Exec, "/tmp/pgsort_Ab3dE9"},
		{Read, "/etc/shadow"}, {Read, "/etc/passwd"}, {Write, "/etc/a.conf"}, {Read, "/etc/x.conf"}, {Modify, "/etc/postgresql/17/main/postgresql.conf"},
		{Write, "/usr/lib/x86_64-linux-gnu/libc.so.6"}, {Read, "/usr/lib/x86_64-linux-gnu/perl/x"}, {Read, "/usr/lib/x86_64-linux-gnu/a/libc.so.6"},
		{Write, "/usr/lib/postgresql/17/bin/postgres"}, {Write, "/usr/share/zoneinfo/Europe/A"}, {Read, "/usr/share/zoneinfo/Asia/A"},
		{Write, data}, {Write, data + "/base/1/PG_VERSION"}, {Read, data + "/base/x/1259"}, {Read, data + "/base/1/pg_control"}, {Modify, data + "/base/1/1259"},
		{Write, data + "/pg_wal/evil"}, {Write, data + "/keep-2.db"}, {Modify, data + "/x"}, {Write, data + "/dump.rdb"}, {Write, "/dev/shm/x"}, {Read, "/var/lib/own/w/a"}, {Read, "/home/alice/y"}, {Read, "/var/log/y"}, {Read, "/var/lib/y"},
		{Read, "/usr/bin/y"}, {Read, "/etc/ssh/y"}, {Read, "/root/.ssh/y"}, {Read, "/tmp/y"}, {Write, "/var/lib/app/shards/z/a"}, {Read, "/var/lib/own/a"}, {Read, data + "/PG_VERSION"},
		{Write, "/tmp/x"}, {Write, "/tmp/Ab3dE8"}, {Read, "/tmp/other"}, {Read, "/proc/kcore"}, {Read, "/proc/4711/environ"}, {Read, "/proc/self/oom_score_adj"},
		{Read, "/var/lib/app/secret"}, {Read, "/var/lib/app"}, {Write, "/var/lib/app/static/css/a"}, {Read, "/var/lib/app/conf.d/a/b"}, {Write, "/etc/app/x"},
		{Read, "/root/.ssh/id_rsa"}, {Read, "/home/a"}, {Read, "/var/cache/app/other/blob"}, {Read, "/run/user/other"},
	} {
		if d := table.File(near.op, near.path, subject); d.Action() == ActAllow {
			t.Errorf("%v of %s is allowed, by %+v", near.op.operation(), near.path, table.Judgement(d))
		}
	}
	s := Subject{Binary: "/usr/lib/postgresql/17/bin/postgres"}
	for _, near := range []struct {
		op      model.Operation
		address string
		port    uint16
		name    string
	}{
		{model.OpConnect, "192.0.2.1", 443, ""}, {model.OpConnect, "192.0.2.1", 80, "backup.example.org"}, {model.OpConnect, "192.0.2.1", 443, "x.backup.example.org"},
		{model.OpConnect, "10.0.0.8", 5432, ""}, {model.OpConnect, "10.0.0.7", 5433, ""}, {model.OpListen, "0.0.0.0", 4444, ""}, {model.OpListen, "127.0.0.1", 5432, ""},
		{model.OpListen, "127.0.0.1", 31000, ""}, {model.OpAccept, "10.0.1.2", 5433, ""}, {model.OpAccept, "10.0.1.2", 22, ""},
	} {
		a := Access{Operation: near.op, Protocol: tcp, Address: addr(near.address), Port: near.port}
		if near.name != "" {
			a.Names = []string{near.name}
		}
		if d := table.Decide(s, a); d.Action() == ActAllow {
			t.Errorf("%+v is allowed, by %+v", near, table.Judgement(d))
		}
	}
	for _, fresh := range []struct {
		op   FileOp
		path string
	}{
		{Write, data + "/base/5/99999"}, {Write, data + "/base/99999/2619_vm"}, {Write, data + "/pg_wal/000000010000000000000009"}, {Write, data + "/pg_wal/00000001000000000000000A"}, {Modify, data + "/pg_wal/xlogtemp.77"},
		{Write, data + "/temp-12345.rdb"}, {Modify, data + "/app.3.aof"}, {Write, data + "/pg_xact/0001"}, {Read, "/var/lib/own/x/w"}, {Write, "/dev/shm/PostgreSQL.7"},
		{Write, "/tmp/pgsort_Zz9yX8"}, {Read, "/proc/1/oom_score_adj"}, {Read, "/usr/lib/x86_64-linux-gnu/libz.so.1"}, {Read, "/var/cache/app/ffffffffffff/blob"},
		{Read, "/usr/share/zoneinfo/Europe/Paris"}, {Read, "/var/lib/app/static/fonts/x/y"},
	} {
		if d := table.File(fresh.op, fresh.path, subject); d.Action() != ActAllow {
			t.Errorf("%v of %s is not allowed, and a stated rule says so", fresh.op.operation(), fresh.path)
		}
	}
}

// TestWhatOnlyServesIsNotAllowedToConnect: who breaks into a server connects out of it.
func TestWhatOnlyServesIsNotAllowedToConnect(t *testing.T) {
	s := &story{}
	p := s.process(nil, "/usr/bin/cache", &model.Workload{Kind: model.WorkloadUnit, Name: "cache.service"})
	s.socket(model.TypeListen, p, nil, "0.0.0.0:6379", "", "")
	s.socket(model.TypeAccept, p, nil, "10.0.0.1:6379", "10.0.1.1:50000", "")
	_, table := s.learn(t, LearnOptions{Workload: "cache.service"})
	a := Access{Operation: model.OpConnect, Protocol: tcp, Address: addr("192.0.2.1"), Port: 443}
	if d := table.Decide(Subject{Binary: "/usr/bin/cache"}, a); d.Action() == ActAllow {
		t.Errorf("connecting is allowed, by %+v", table.Judgement(d))
	}
}

// TestLearnedPolicyAllowsItsInput: whatever paths, names and addresses a workload uses.
func TestLearnedPolicyAllowsItsInput(t *testing.T) {
	for seed := range uint64(80) {
		w := world{rand.New(rand.NewPCG(seed, 3))}
		s := &story{pid: uint32(10 + w.IntN(100000))}
		unit := &model.Workload{Kind: model.WorkloadContainer, Name: "c#1: {x}", Labels: map[string]string{"a": "b'c", "x: y": "#"}}
		p := s.process(nil, "/bin/a*b?[c]", unit)
		names := []string{"a", "b", "tmp", "etc", "17", "4", "99", "x.so", "libx.so.3", "base", "2026-11-26", "1732600000", "0f3a5b6c7d8e9f00", "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
			"usr", "lib", "var", "*", "a[b]", `\x41\xff`, "a\nb", "\u202eevil", "é", "'quoted'", "#", ": ", "x {y}", "Ab3dE9", "sort.Q9x2Lp", "proc", "null", "-", "~", "%", "4711"}
		for range 100 + w.IntN(200) {
			path := ""
			for range 1 + w.IntN(5) {
				path += "/" + w.of(names...)
			}
			switch w.IntN(12) {
			case 0:
				s.socket(model.TypeConnect, p, nil, "", fmt.Sprintf("10.0.0.%d:%d", w.IntN(20), []int{53, 80, 40000}[w.IntN(3)]), w.of("", "", "a.example.org", "b_c.org", "bad name"))
			case 1:
				s.socket(model.TypeAccept, p, nil, fmt.Sprintf("10.0.0.1:%d", w.IntN(3)), fmt.Sprintf("[fe80::%d%%eth0]:1", w.IntN(20)), "")
			case 2:
				s.socket(model.TypeListen, p, nil, w.of("[::]:80", "0.0.0.0:443", "[::ffff:127.0.0.1]:50000"), "", "")
			case 3:
				s.exec(p, path, unit)
			case 4:
				s.file(p, nil, model.FileRename, path, 0).File.NewPath = path + "." + fmt.Sprint(p.Key.PID)
			default:
				ops := []model.FileOp{model.FileRead, model.FileRead, model.FileWrite, model.FileCreate, model.FileUnlink, model.FileChmod}
				s.file(p, nil, ops[w.IntN(len(ops))], path, []uint32{0, oRdWr, oCreat | oRdWr}[w.IntN(3)])
			}
		}
		s.learn(t, LearnOptions{Workload: unit.Name, Weaker: map[string]string{"files": "", "network.egress": ""}})
	}
}

func TestWhatWasDeniedIsNotLearned(t *testing.T) {
	s := database()
	main := s.events[1].Process
	for i, action := range []model.VerdictAction{model.VerdictDenied, model.VerdictKilled, model.VerdictAudited} {
		s.add(&model.Event{Type: model.TypeVerdict, Process: main, Verdict: &model.Verdict{Action: action, Operation: model.OpRead, Path: fmt.Sprintf("/verdict/%c", 'a'+i)}})
	}
	learned, err := Learn(slices.Values(s.events), LearnOptions{Workload: main.Workload.Name})
	if err != nil {
		t.Fatal(err)
	}
	if y := learned.YAML; strings.Contains(y, "/verdict/a") || strings.Contains(y, "/verdict/b") || !strings.Contains(y, "/verdict/c") {
		t.Error(y)
	}
}

func TestLearnOptions(t *testing.T) {
	s := database()
	o := LearnOptions{Workload: "postgresql@17-main.service", Name: "db", Selector: &Selector{User: "0", Binary: "/usr/lib/postgresql/*/bin/postgres"},
		Weaker:   map[string]string{"files": "modify is killed after the fact", "network.listen": "so it is"},
		LeaveOut: map[string]string{"capabilities": "cannot be denied on this kernel", "network.ingress": "not wanted"}}
	learned, table := s.learn(t, o)
	if p := table.Policy; p.Name != "db" || p.Capabilities != nil || p.Network.Ingress != nil || p.Network.Egress == nil || p.Weaker || !p.Files.Weaker || !p.Network.Listen.Weaker || p.Network.Egress.Weaker || p.Selector.User != "0" {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(learned.Notes, "the section capabilities was left out: cannot be denied on this kernel") {
		t.Errorf("%q", learned.Notes)
	}
	if !slices.Contains(learned.Notes, "the section files says weaker: accept: modify is killed after the fact") {
		t.Errorf("%q", learned.Notes)
	}
	if _, err := Learn(slices.Values(s.events), LearnOptions{Workload: "none"}); !errors.Is(err, ErrNothingLearned) {
		t.Error(err)
	}
	for _, c := range []struct {
		workload model.Workload
		want     string
	}{
		{model.Workload{Kind: model.WorkloadSession, User: "alice"}, "user alice"},
		{model.Workload{Kind: model.WorkloadPod, Container: "app", Labels: map[string]string{"app": "web", "pod-template-hash": "7d4b"}}, "label app=web, container app"},
		{model.Workload{Kind: model.WorkloadUnknown}, "unit WRITE-THE-SELECTOR"},
	} {
		c.workload.Name = "w"
		s := &story{}
		s.file(s.process(nil, "/bin/a", &c.workload), nil, model.FileRead, "/a", 0)
		learned, err := Learn(slices.Values(s.events), LearnOptions{Workload: "w"})
		if err != nil {
			t.Fatal(err)
		}
		if got := mustParse(t, learned.YAML).Selector; got.String() != c.want {
			t.Errorf("the selector is %s, not %s", got.String(), c.want)
		}
	}
	root := (&story{}).process(nil, "/usr/bin/server", nil)
	tree := &model.Workload{Kind: model.WorkloadProcess, Name: "w", ID: "process:" + root.ExecID}
	root.Workload = tree
	s = &story{events: []*model.Event{{Type: model.TypeFile, Process: root, File: &model.File{Op: model.FileRead, Path: "/a"}}}}
	if _, table := s.learn(t, LearnOptions{Workload: "w"}); table.Policy.Selector.Binary != "/usr/bin/server" {
		t.Errorf("%+v", table.Policy.Selector)
	}
}

// What was not seen of privileged operations is denied, once it was seen how the workload begins.
func TestLearnOperations(t *testing.T) {
	for _, c := range []struct {
		name   string
		begins bool
		mounts bool
		o      LearnOptions
		want   string
		note   string
	}{
		{"nothing", true, false, LearnOptions{}, "ptrace bpf mount module", ""},
		{"mounts", true, true, LearnOptions{}, "ptrace bpf module", "it did mount (/mnt): the section operations does not deny that"},
		{"was there before", false, false, LearnOptions{}, "", "the section operations was left out: how the workload begins was not seen; restart it while this learns"},
		{"not carried", true, false, LearnOptions{LeaveOut: map[string]string{"operations": "why"}}, "", "the section operations was left out: why"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &story{pid: 100}
			unit := &model.Workload{Kind: model.WorkloadUnit, Name: "w.service"}
			systemd := s.process(nil, "/usr/lib/systemd/systemd", nil)
			main := s.process(systemd, "/usr/sbin/w", unit)
			if c.begins {
				main = s.exec(systemd, "/usr/sbin/w", unit)
			}
			s.file(main, systemd, model.FileRead, "/etc/w", 0)
			s.exec(main, "/usr/bin/helper", unit) // of its own: no beginning
			if c.mounts {
				s.add(&model.Event{Type: model.TypeMount, Process: main, Mount: &model.Mount{Target: "/mnt"}})
			}
			c.o.Workload = unit.Name
			learned, table := s.learn(t, c.o)
			got := ""
			if ops := table.Policy.Operations; ops != nil && len(ops.Deny) > 0 {
				var names []string
				for _, r := range ops.Deny {
					names = append(names, r.Operations...)
				}
				got = strings.Join(names, " ")
			}
			if got != c.want || c.note != "" && !slices.Contains(learned.Notes, c.note) {
				t.Errorf("it denies %q, notes are %q", got, learned.Notes)
			}
		})
	}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
