// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

// tree is a process table in which 4242 descends from 812, that from 1.
type tree struct{}

func (tree) Descends(p *model.Process, pid uint32) bool {
	return p.Key.PID == 4242 && (pid == 812 || pid == 1)
}

func compile(t *testing.T, s Spec) *Filter {
	t.Helper()
	f, err := Compile(s, Options{Processes: tree{}, Boot: modeltest.Boot})
	if err != nil {
		t.Fatalf("compile %+v: %v", s, err)
	}
	return f
}

func with(change func(*model.Event)) *model.Event {
	e := modeltest.Exec()
	change(e)
	return e
}

func events() map[string]*model.Event {
	return map[string]*model.Event{
		"exec": modeltest.Exec(),
		"file": with(func(e *model.Event) {
			e.Type, e.Exec = model.TypeFile, nil
			e.File = &model.File{Op: model.FileRename, Path: "/etc/passwd", NewPath: "/tmp/a/b/c"}
		}),
		"connect": with(func(e *model.Event) {
			e.Type, e.Exec = model.TypeConnect, nil
			e.Socket = &model.Socket{Protocol: "tcp", Local: netip.MustParseAddrPort("10.0.0.5:40000"),
				Remote: netip.MustParseAddrPort("[::ffff:192.0.2.7]:443"), RemoteName: "www.example.org"}
		}),
		"connect6": with(func(e *model.Event) {
			e.Type, e.Exec = model.TypeConnect, nil
			e.Socket = &model.Socket{Remote: netip.MustParseAddrPort("[fe80::1%eth0]:53")}
		}),
		"unix": with(func(e *model.Event) {
			e.Type, e.Exec = model.TypeConnect, nil
			e.Socket = &model.Socket{Protocol: "unix", Path: "/run/x.sock"}
		}),
		"dns": with(func(e *model.Event) {
			e.Type, e.Exec = model.TypeDNS, nil
			e.DNS = &model.DNS{Name: "api.example.org", Server: netip.MustParseAddrPort("8.8.8.8:53"),
				Answers: []model.DNSAnswer{{Type: "CNAME", Data: "x.example.org"}, {Type: "A", Data: "203.0.113.9"}}}
		}),
		"bare": {Type: model.TypeExit, Key: model.ProcessKey{PID: 99}, Exit: &model.Exit{Code: 1}},
		"loss": {Type: model.TypeLoss, Time: time.Unix(1, 0), Loss: &model.Loss{Stage: "kernel"}},
	}
}

func TestKeep(t *testing.T) {
	at := modeltest.Exec().Time
	all := "bare connect connect6 dns exec file loss unix"
	mine := "connect connect6 dns exec file loss unix" // all of the process, and losses
	for _, c := range []struct {
		name string
		spec Spec
		want string
	}{
		{"nothing", Spec{}, all},
		{"types", Spec{Types: []string{"exec", "dns"}}, "dns exec"},
		{"types with loss", Spec{Types: []string{"exec", "loss"}, UIDs: []uint32{0}}, "loss"},
		{"workload name", Spec{WorkloadNames: []string{"session-*"}}, mine},
		{"another workload name", Spec{WorkloadNames: []string{"nginx*"}}, "loss"},
		{"workload kind", Spec{WorkloadKinds: []string{"unit", "session"}}, mine},
		{"workload id", Spec{WorkloadIDs: []string{"session-3.sc"}}, mine},
		{"workload id too short", Spec{WorkloadIDs: []string{"sess"}}, "loss"},
		{"binary", Spec{Binaries: []string{"/usr/bin/curl"}}, mine},
		{"binary's last component", Spec{Binaries: []string{"cur?"}}, mine},
		{"binary by **", Spec{Binaries: []string{"/usr/**"}}, mine},
		{"binary by * does not cross", Spec{Binaries: []string{"/usr/*"}}, "loss"},
		{"pid", Spec{PIDs: []uint32{1, 99}}, "bare loss"},
		{"pid tree", Spec{PIDTrees: []uint32{812}}, mine},
		{"pid tree's root", Spec{PIDTrees: []uint32{99}}, "bare loss"},
		{"exec_id", Spec{ExecIDs: []string{modeltest.Exec().Process.ExecID}}, mine},
		{"uid", Spec{UIDs: []uint32{1000}}, mine},
		{"path", Spec{Paths: []string{"/etc/*"}}, "file loss"},
		{"new path", Spec{Paths: []string{"/tmp/**/c"}}, "file loss"},
		{"unix path", Spec{Paths: []string{"x.sock"}}, "loss unix"},
		{"address", Spec{Addresses: []string{"192.0.2.7"}}, "connect loss"},
		{"address and port", Spec{Addresses: []string{"192.0.2.7:443"}}, "connect loss"},
		{"address and another port", Spec{Addresses: []string{"192.0.2.7:80"}}, "loss"},
		{"range", Spec{Addresses: []string{"10.0.0.0/8"}}, "connect loss"},
		{"range and port", Spec{Addresses: []string{"192.0.2.0/24:443"}}, "connect loss"},
		{"port", Spec{Addresses: []string{":53"}}, "connect6 dns loss"},
		{"v6", Spec{Addresses: []string{"fe80::/10", "fe80::1"}}, "connect6 loss"},
		{"v6 and port", Spec{Addresses: []string{"[fe80::1]:53"}}, "connect6 loss"},
		{"answer", Spec{Addresses: []string{"203.0.113.0/24"}}, "dns loss"},
		{"dns name", Spec{Names: []string{"*.EXAMPLE.org."}}, "connect dns loss"},
		{"since", Spec{Since: at}, "connect connect6 dns exec file unix"},
		{"until", Spec{Until: at}, "bare loss"},
		{"where", Spec{Where: `process.uid == 1000u && process.args[0] == "curl"`}, mine},
		{"where on an unset part", Spec{Where: `file.path == ""`}, "bare connect connect6 dns exec loss unix"},
		{"where has", Spec{Where: `has(event.file)`}, "file loss"},
		{"where that fails", Spec{Where: `process.args[7] == "x"`}, "loss"},
		{"where by type", Spec{Where: `type == "exec" || dns.answers.exists(a, a.data == "203.0.113.9")`}, "dns exec loss"},
		{"where a list", Spec{Where: `process.args.exists(a, a.contains("example"))`}, mine},
		{"where time", Spec{Where: `time > timestamp("2026-01-01T00:00:00Z")`}, mine},
		{"where parent", Spec{Where: `process.parent.binary.endsWith("bash") && process.workload.kind == "session"`}, mine},
		{"where numbers", Spec{Where: `exit.code > 0 && count < 2`}, "bare loss"},
		{"everything", Spec{Types: []string{"file"}, Binaries: []string{"curl"}, Paths: []string{"passwd"}, Where: `file.op == "rename"`}, "file"},
	} {
		f := compile(t, c.spec)
		var got []string
		for _, name := range strings.Fields(all) {
			if f.Keep(events()[name]) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: kept %v, want %s", c.name, got, c.want)
		}
	}
}

func TestErrorsNameTheFieldAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		spec        Spec
		field, want string
	}{
		{Spec{Types: []string{"exce"}}, "types", `"exce" is no event type: use exec,`},
		{Spec{WorkloadKinds: []string{"vm"}}, "workload_kinds", "no kind of workload: use unit,"},
		{Spec{WorkloadNames: []string{""}}, "workload_names", "is empty"},
		{Spec{Binaries: []string{`a\`}}, "binaries", "lone backslash"},
		{Spec{PIDs: make([]uint32, MaxValues+1)}, "pids", "at most 256"},
		{Spec{PIDTrees: []uint32{1}}, "pid_trees", "needs the process table"},
		{Spec{ExecIDs: []string{"17"}}, "exec_ids", "no exec_id"},
		{Spec{Addresses: []string{"example.org"}}, "addresses", "for DNS names use names"},
		{Spec{Addresses: []string{"10.0.0.1:http"}}, "addresses", `"http" is no port`},
		{Spec{Addresses: []string{"10.0.0.0/33"}}, "addresses", "no address"},
		{Spec{Addresses: []string{":0"}}, "addresses", "no port"},
		{Spec{Since: time.Unix(2, 0), Until: time.Unix(1, 0)}, "until", "is not after since"},
		{Spec{Where: `process.uid == 0`}, "where", "column 13: found no matching overload for '_==_' applied to '(uint, int)': this field is an unsigned number, write 0u"},
		{Spec{Where: `proces.uid == 0u`}, "where", "column 1: undeclared reference to 'proces'"},
		{Spec{Where: "true &&\n  proces.uid == 0u"}, "where", "line 2, column 3: undeclared reference"},
		{Spec{Where: `process.nme == "a"`}, "where", "column 8: undefined field 'nme'"},
		{Spec{Where: `process.binary`}, "where", "is a string, not true or false"},
		{Spec{Where: `file.path.matches("(")`}, "where", "column"},
		{Spec{Where: `1 +`}, "where", "column 4"},
		{Spec{Where: strings.Repeat("!", 5000) + "true"}, "where", "at most 4096"},
		{Spec{Where: strings.Repeat("(", 2000)}, "where", "column"},
	} {
		_, err := Compile(c.spec, Options{})
		var f *FieldError
		if !errors.As(err, &f) || f.Field != c.field || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v:\n got %v\nwant %s: %s", c.spec, err, c.field, c.want)
		}
	}
}

func TestCostIsBounded(t *testing.T) {
	f := compile(t, Spec{Where: `process.args.all(a, process.args.all(b, process.args.all(c, process.args.all(d, a + b + c + d != "x"))))`})
	e := with(func(e *model.Event) { e.Process.Args = make([]string, 1000) })
	if f.Keep(e) { // 10^12 steps if nothing stopped it
		t.Error("an expression over its budget holds")
	}
}

func TestProcesses(t *testing.T) {
	p := modeltest.Exec().Process
	for _, c := range []struct {
		spec Spec
		want bool
	}{{Spec{}, true}, {Spec{Binaries: []string{"curl"}}, true}, {Spec{UIDs: []uint32{0}}, false},
		{Spec{Where: `process.tty == "pts/0"`}, true}, {Spec{Where: `process.tty == ""`}, false}} {
		f := compile(t, c.spec)
		if err := f.ForProcesses(); err != nil {
			t.Errorf("%+v: %v", c.spec, err)
		}
		if got := f.KeepProcess(p); got != c.want {
			t.Errorf("%+v: got %v", c.spec, got)
		}
	}
	for _, s := range []Spec{{Types: []string{"exec"}}, {Paths: []string{"/x"}}, {Since: time.Unix(1, 0)}, {Until: time.Unix(1, 0)}} {
		if err := compile(t, s).ForProcesses(); err == nil {
			t.Errorf("%+v is accepted for processes", s)
		}
	}
}

// A field that is added to the message and not to the Spec fails here.
func TestFromProtoTakesEveryField(t *testing.T) {
	m := new(pb.Filter)
	spec := reflect.ValueOf(FromProto(m))
	// But nodes, which are a relay's to look at.
	if got, want := spec.NumField(), m.ProtoReflect().Descriptor().Fields().Len()-1; got != want {
		t.Fatalf("Spec has %d fields, the message %d", got, want)
	}
}

func TestNilFilterKeepsEverything(t *testing.T) {
	var f *Filter
	if !f.Keep(modeltest.Exec()) || !f.KeepProcess(modeltest.Exec().Process) || f.ForProcesses() != nil {
		t.Error("a nil filter does not keep everything")
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"a", "**", "[", `\`, "10.0.0.0/8:1", "[::1]:2", `process.uid == 0u`} {
		f.Add(s)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	e := modeltest.Event(rng, 1)
	f.Fuzz(func(t *testing.T, s string) {
		for _, spec := range []Spec{{Paths: []string{s}}, {Names: []string{s}}, {Addresses: []string{s}}, {Where: s}} {
			if f, err := Compile(spec, Options{}); err == nil {
				f.Keep(e)
			}
		}
	})
}

func BenchmarkKeep(b *testing.B) {
	for _, c := range []struct {
		name string
		spec Spec
	}{
		{"binary", Spec{Binaries: []string{"/usr/**/curl"}}},
		{"path", Spec{Paths: []string{"/etc/**"}}},
		{"where on the file", Spec{Where: `file.op == "rename" && file.path.startsWith("/etc")`}},
		{"where on the process", Spec{Where: `process.uid == 1000u && process.binary.startsWith("/usr")`}},
	} {
		f, err := Compile(c.spec, Options{})
		if err != nil {
			b.Fatal(err)
		}
		e := events()["file"]
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Keep(e)
			}
		})
	}
}

// A flow is sent to who asks for it, and is about the processes of both of its ends.
func TestFlows(t *testing.T) {
	unit := &model.Workload{Kind: model.WorkloadUnit, Name: "redis.service"}
	flow := with(func(e *model.Event) {
		e.Type, e.Exec = model.TypeFlow, nil
		e.Flow = &model.Flow{Protocol: "tcp",
			Source: model.Endpoint{Address: netip.MustParseAddrPort("10.0.0.5:40000"), Process: e.Process, Workload: e.Process.Workload},
			Destination: model.Endpoint{Address: netip.MustParseAddrPort("192.0.2.7:6379"), Name: "cache.example.org",
				Process: &model.Process{Key: model.ProcessKey{PID: 99, Start: 1, Exec: 1}, Binary: "/usr/bin/redis-server"}, Workload: unit}}
	})
	for _, c := range []struct {
		spec Spec
		keep bool
	}{
		{Spec{}, false},
		{Spec{Types: []string{"flow"}}, true},
		{Spec{Types: []string{"connect"}}, false},
		{Spec{Where: `flow.protocol == "tcp"`}, true},
		{Spec{Where: `flow.protocol == "udp"`}, false},
		{Spec{Types: []string{"flow"}, Binaries: []string{"redis-server"}}, true},
		{Spec{Types: []string{"flow"}, PIDs: []uint32{4242}}, true},
		{Spec{Types: []string{"flow"}, PIDs: []uint32{4242}, Binaries: []string{"redis-server"}}, false}, // not the same end
		{Spec{Types: []string{"flow"}, WorkloadNames: []string{"redis*"}}, true},
		{Spec{Types: []string{"flow"}, WorkloadNames: []string{"nginx*"}}, false},
		{Spec{Types: []string{"flow"}, Addresses: []string{":6379"}}, true},
		{Spec{Types: []string{"flow"}, Addresses: []string{"10.0.0.0/8:6379"}}, false},
		{Spec{Types: []string{"flow"}, Names: []string{"cache.*"}}, true},
	} {
		if got := compile(t, c.spec).Keep(flow); got != c.keep {
			t.Errorf("%+v keeps the flow: %v", c.spec, got)
		}
	}
}
