// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// twoHundred is the default set with copies of some of its rules, so that there are 200.
func twoHundred(b *testing.B) *Set {
	b.Helper()
	files, err := Default()
	if err != nil {
		b.Fatal(err)
	}
	n := len(defaults(b).Rules)
	id := regexp.MustCompile(`(?m)^- id: (\w+)$`)
	definitions := regexp.MustCompile(`(?ms)^(lists|macros):\n.*?(\n\n|\z)`)
	for _, f := range files[:len(files):len(files)] {
		copied := definitions.ReplaceAllString(string(f.Data), "\n")
		blocks := regexp.MustCompile(`(?m)^- id: `).Split(copied, -1)
		text := "rules:\n"
		for _, block := range blocks[1:] {
			if n == 200 {
				break
			}
			text += "- id: copied_" + block
			n++
		}
		if id.MatchString(text) {
			files = append(files, File{"copied-" + f.Path, []byte(text)})
		}
	}
	set, err := Compile(files)
	if err != nil {
		b.Fatal(err)
	}
	if len(set.Rules) != 200 {
		b.Fatalf("%d rules", len(set.Rules))
	}
	return set
}

// dayOfAHost is a mix of events as busy hosts have them: mostly opened files, then connections, then processes.
func dayOfAHost(n int) []*model.Event {
	rng := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	unit := &model.Workload{Kind: model.WorkloadUnit, Name: "app.service"}
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "web-1", Namespace: "shop"}
	processes := make([]*model.Process, 200)
	for i := range processes {
		binary := pick("/usr/sbin/nginx", "/usr/lib/postgresql/15/bin/postgres", "/usr/bin/python3.11", "/usr/bin/bash", "/usr/bin/dash", "/usr/bin/cat",
			"/usr/bin/grep", "/usr/bin/node", "/usr/local/go/bin/go", "/usr/lib/jvm/bin/java", "/usr/sbin/sshd", "/usr/lib/systemd/systemd-journald", "/app/server", "/usr/bin/make")
		p := &model.Process{Key: model.ProcessKey{PID: uint32(100 + i), Start: uint64(i + 1), Exec: 2}, Binary: binary, CWD: "/srv/app",
			Args: []string{binary, "--config", "/etc/app/config.yaml", "-v", fmt.Sprint(i)}, Creds: model.Creds{UID: uint32(rng.IntN(3) * 500)}, Workload: unit,
			File: model.ExecFile{Inode: uint64(i), Device: 8<<20 | 1, Mode: 0o100755}}
		if i%3 == 0 {
			p.Workload = pod
		}
		p.ExecID = p.Key.ExecID("0123abcd")
		processes[i] = p
	}
	paths := []string{"/usr/lib/x86_64-linux-gnu/libc.so.6", "/etc/ld.so.cache", "/proc/1234/stat", "/usr/share/zoneinfo/UTC", "/srv/app/static/index.html",
		"/var/lib/postgresql/15/main/base/16384/2619", "/home/alice/src/project/internal/module/file.go", "/home/alice/.cache/go-build/ab/abcdef-d", "/tmp/sess_12345",
		"/etc/passwd", "/etc/nsswitch.conf", "/dev/null", "/sys/fs/cgroup/system.slice/app.service/memory.current", "/var/log/nginx/access.log", "/etc/hosts"}
	events := make([]*model.Event, n)
	for i := range events {
		p := processes[rng.IntN(len(processes))]
		e := &model.Event{Key: p.Key, TID: p.Key.PID, Process: p, Parent: processes[rng.IntN(len(processes))], Count: 1, BootTime: uint64(i) * 5000, Seq: uint64(i)}
		file := func(op model.FileOp) {
			e.Type, e.File = model.TypeFile, &model.File{Op: op, Path: pick(paths...), FileType: "regular", PathFrom: "object"}
		}
		socket := func(t model.Type) {
			e.Type, e.Socket = t, &model.Socket{Protocol: "tcp", Family: "ipv4", Local: netip.MustParseAddrPort("10.0.0.5:41234"), Remote: netip.MustParseAddrPort("10.0.3.9:5432")}
		}
		switch share := rng.IntN(100); {
		case share < 50:
			file(model.FileRead)
		case share < 60:
			file(model.FileWrite)
		case share < 64:
			file(model.FileCreate)
		case share < 67:
			file(model.FileUnlink)
		case share < 69:
			file(model.FileRename)
			e.File.NewPath = pick(paths...)
		case share < 75:
			socket(model.TypeConnect)
		case share < 81:
			socket(model.TypeAccept)
		case share < 87:
			socket(model.TypeClose)
		case share < 89:
			e.Type, e.DNS = model.TypeDNS, &model.DNS{Name: "db.shop.svc.cluster.local", QType: "A", RCode: "NOERROR"}
		case share < 92:
			e.Type, e.Exec = model.TypeExec, &model.Exec{}
		case share < 95:
			e.Type = model.TypeFork
		case share < 98:
			e.Type, e.Exit = model.TypeExit, &model.Exit{}
		default:
			e.Type, e.Capability = model.TypeCapability, &model.Capability{Cap: 12, Granted: true}
		}
		events[i] = e
	}
	return events
}

// The goal is 5 µs an event: 200 rules over 200,000 events a second on one core.
func BenchmarkTwoHundredRules(b *testing.B) {
	engine := New(Options{Ancestors: func(p *model.Process) []*model.Process {
		return []*model.Process{{Binary: "/usr/bin/bash"}, {Binary: "/usr/sbin/sshd"}, {Binary: "/usr/lib/systemd/systemd"}}
	}})
	engine.Use(twoHundred(b))
	all := dayOfAHost(20_000)
	kinds := map[string][]*model.Event{"mix": all}
	for _, e := range all {
		name := string(e.Type)
		if e.File != nil {
			name += " " + string(e.File.Op)
		}
		kinds[name] = append(kinds[name], e)
	}
	for _, name := range []string{"mix", "file read", "file write", "file create", "file rename", "file unlink", "connect", "accept", "exec", "exit", "dns", "capability"} {
		events := kinds[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			alerts, i, before := 0, 0, cpuTime()
			for b.Loop() {
				alerts += len(engine.Detect(events[i%len(events)]))
				i++
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(alerts)/float64(b.N), "alerts/op")
		})
	}
}

// cpuTime is what this process has used, ns: on a busy machine the clock says more of the others.
func cpuTime() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkCompileDefaults(b *testing.B) {
	files, err := Default()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(files); err != nil {
			b.Fatal(err)
		}
	}
}
