// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// A day of a busy host, made up: what there is of each type, how many services, and how varied their names and numbers are,
// is by the look of recordings of web servers, data bases and build machines.
const (
	dayBoot      = "0123abcd"
	dayWorkloads = 50
	dayServers   = 6 // long-lived processes of a workload
	dayPaths     = 20_000
	dayRemotes   = 2_000
)

// day makes the events of a day, in the order of time.
type day struct {
	rng       *rand.Rand
	at        time.Time
	step      float64 // mean time between events, ns
	boot      time.Time
	seq       uint64
	pid       uint32
	workloads []*model.Workload
	servers   [][]*model.Process
	recent    []*model.Process // short-lived ones that are still running
	paths     []string
	remotes   []netip.Addr
	names     []string
	cookie    uint64
	flow      uint64
	files     *rand.Zipf
	peers     *rand.Zipf
}

func newDay(seed uint64, start time.Time, events int) *day {
	d := &day{rng: rand.New(rand.NewPCG(seed, 7)), at: start, step: float64(24*time.Hour) / float64(events), boot: start.Add(-100 * time.Hour), pid: 1000}
	d.files, d.peers = rand.NewZipf(d.rng, 1.2, 8, dayPaths-1), rand.NewZipf(d.rng, 1.2, 4, dayRemotes-1)
	for i := range dayPaths {
		d.paths = append(d.paths, fmt.Sprintf("/%s/%s/%x/file-%d.%s", pick(d.rng, "usr/lib", "etc", "var/lib", "srv/www", "opt/app"), pick(d.rng, "conf", "data", "cache", "lib"),
			i*7919%4096, i, pick(d.rng, "so", "conf", "html", "json", "py")))
	}
	for i := range dayRemotes {
		d.remotes = append(d.remotes, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(d.rng.IntN(256))}))
		d.names = append(d.names, fmt.Sprintf("service-%d.%s.svc.example.org", i, pick(d.rng, "shop", "pay", "core")))
	}
	for i := range dayWorkloads {
		w := &model.Workload{Kind: model.WorkloadUnit, Name: fmt.Sprintf("service-%d.service", i), ID: fmt.Sprintf("/system.slice/service-%d.service", i),
			Slice: "system.slice", Cgroup: fmt.Sprintf("/system.slice/service-%d.service", i)}
		if i%2 == 0 {
			w = &model.Workload{Kind: model.WorkloadPod, Name: fmt.Sprintf("service-%d-7d4b9-%x", i, i*7919), Namespace: pick(d.rng, "shop", "pay", "core"), ID: fmt.Sprintf("%064x", i+1),
				Runtime: "containerd", Image: fmt.Sprintf("registry.example.org/service-%d:1.%d", i, i%7), Container: "main", PodUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", i),
				Labels: map[string]string{"app": fmt.Sprintf("service-%d", i), "team": pick(d.rng, "a", "b")}, Cgroup: fmt.Sprintf("/kubepods.slice/pod%x/%064x", i, i+1)}
		}
		d.workloads = append(d.workloads, w)
		var servers []*model.Process
		for range dayServers {
			servers = append(servers, d.process(w, nil))
		}
		d.servers = append(d.servers, servers)
	}
	return d
}

func pick(rng *rand.Rand, list ...string) string { return list[rng.IntN(len(list))] }

// process starts a program in a workload.
func (d *day) process(w *model.Workload, parent *model.Process) *model.Process {
	d.pid++
	program := d.rng.IntN(200)
	p := &model.Process{Key: model.ProcessKey{PID: d.pid % 4_000_000, Start: uint64(d.at.Sub(d.boot)), Exec: 2}, StartTime: d.at, Binary: fmt.Sprintf("/usr/bin/program-%d", program),
		Args: []string{fmt.Sprintf("program-%d", program), "--config", fmt.Sprintf("/etc/%d.conf", d.rng.IntN(50)), fmt.Sprint(d.rng.IntN(1000))},
		CWD:  pick(d.rng, "/", "/srv", "/var/lib/app"), Creds: model.Creds{UID: uint32(d.rng.IntN(20) * 100), LoginUID: model.NoUID, CapBounding: 0x1ffffffffff},
		Namespaces: model.Namespaces{UTS: 4026531838, IPC: 4026531839, Mnt: 4026531841 + uint32(len(w.Name)), PID: 4026531836, Net: 4026531840, Cgroup: 4026531835, User: 4026531837, Time: 4026531834},
		File:       model.ExecFile{Inode: 130_000 + uint64(program), Device: 8<<20 | 1, Mode: 0o100755}, CgroupID: uint64(5000 + len(w.ID)), Workload: w}
	p.ExecID = p.Key.ExecID(dayBoot)
	if parent != nil {
		p.ParentKey, p.ParentExecID = parent.Key, parent.ExecID
	}
	return p
}

// next is the next event. Each belongs to whoever gets it.
func (d *day) next() *model.Event {
	d.at = d.at.Add(time.Duration(d.rng.ExpFloat64() * d.step))
	d.seq++
	e := &model.Event{Time: d.at, BootTime: uint64(d.at.Sub(d.boot)), Seq: d.seq, Count: 1}
	w := d.rng.IntN(dayWorkloads)
	p := d.servers[w][d.rng.IntN(dayServers)]
	if len(d.recent) > 0 && d.rng.IntN(4) == 0 {
		p = d.recent[d.rng.IntN(len(d.recent))]
	}
	switch n := d.rng.IntN(1000); {
	case n < 60:
		p = d.start(e, w)
	case n < 100 && len(d.recent) > 20:
		p = d.end(e)
	case n < 450:
		d.file(e)
	case n < 520:
		d.socket(e, model.TypeConnect)
	case n < 580:
		d.socket(e, model.TypeAccept)
	case n < 700:
		d.socket(e, model.TypeClose)
	case n < 840:
		d.conversation(e, p)
	case n < 920:
		d.request(e)
	case n < 999:
		d.question(e)
	default:
		e.Type, e.Verdict = model.TypeVerdict, &model.Verdict{Action: model.VerdictDenied, Policy: "web", Rule: "files.deny[0]", Hook: "lsm file_open",
			Guarantee: model.DeniedBefore, Operation: model.OpRead, Path: d.paths[d.rng.IntN(100)]}
	}
	e.Process, e.Key, e.TID = p, p.Key, p.Key.PID
	return e
}

func (d *day) start(e *model.Event, workload int) *model.Process {
	parent := d.servers[workload][0]
	p := d.process(d.workloads[workload], parent)
	e.Type, e.Parent, e.Exec = model.TypeExec, parent, &model.Exec{Previous: parent.ExecID}
	d.recent = append(d.recent, p)
	return p
}

func (d *day) end(e *model.Event) *model.Process {
	i := d.rng.IntN(len(d.recent))
	p := *d.recent[i]
	d.recent[i] = d.recent[len(d.recent)-1]
	d.recent = d.recent[:len(d.recent)-1]
	p.EndTime = d.at
	e.Type, e.Exit = model.TypeExit, &model.Exit{Code: int32(d.rng.IntN(2)), RunTime: d.at.Sub(p.StartTime)}
	return &p
}

func (d *day) file(e *model.Event) {
	path := d.paths[d.files.Uint64()]
	if d.rng.IntN(10) == 0 {
		path = fmt.Sprintf("/tmp/work-%x", d.rng.Uint32())
	}
	e.Type, e.Count = model.TypeFile, uint32(1+d.rng.IntN(3))
	e.File = &model.File{Op: model.FileOp(pick(d.rng, "read", "read", "read", "write", "create", "unlink")), Path: path, PathFrom: "object", Inode: uint64(len(path)) << 12,
		Device: 8<<20 | 1, Flags: 0x8000, FileType: "regular"}
}

func (d *day) ephemeral() uint16 { return uint16(32768 + d.rng.IntN(28000)) }

// size is a number of bytes: many are small and a few are huge.
func (d *day) size() uint64 { return uint64(math.Exp(6 + 2.5*d.rng.NormFloat64())) }

func (d *day) socket(e *model.Event, t model.Type) {
	remote := int(d.peers.Uint64())
	d.cookie += uint64(d.rng.IntN(3))
	s := &model.Socket{Protocol: "tcp", Family: "ipv4", Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), d.ephemeral()),
		Remote: netip.AddrPortFrom(d.remotes[remote], uint16(8000+remote%20)), RemoteName: d.names[remote], Cookie: d.cookie, NetNS: 4026531840, Direction: "outbound"}
	switch t {
	case model.TypeConnect:
		s.Latency = time.Duration(d.rng.ExpFloat64() * 1e6)
		if d.rng.IntN(50) == 0 {
			s.Error = 111
		}
	case model.TypeAccept:
		s.Direction, s.RemoteName = "inbound", ""
		s.Local, s.Remote = netip.AddrPortFrom(s.Local.Addr(), 8080), netip.AddrPortFrom(s.Remote.Addr(), s.Local.Port())
	case model.TypeClose:
		s.BytesSent, s.BytesReceived, s.SRTT, s.Duration = d.size(), d.size(), time.Duration(d.rng.ExpFloat64()*1e6), time.Duration(d.rng.ExpFloat64()*1e9)
		s.PacketsSent, s.PacketsReceived = s.BytesSent/1400+2, s.BytesReceived/1400+2
	}
	e.Type, e.Socket = t, s
}

func (d *day) conversation(e *model.Event, p *model.Process) {
	remote := int(d.peers.Uint64())
	d.flow++
	f := &model.Flow{ID: d.flow, Report: 1, State: model.FlowClosed, Protocol: "tcp", Family: "ipv4", Direction: model.FlowOutbound, Verdict: model.FlowAllowed, Close: model.CloseFin,
		Source:      model.Endpoint{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), d.ephemeral()), Process: p, Workload: p.Workload},
		Destination: model.Endpoint{Address: netip.AddrPortFrom(d.remotes[remote], uint16(8000+remote%20)), Name: d.names[remote]},
		Start:       e.Time.Add(-time.Duration(d.rng.ExpFloat64() * 1e9)), End: e.Time, SRTT: time.Duration(d.rng.ExpFloat64() * 1e6), Latency: time.Duration(d.rng.ExpFloat64() * 1e6),
		Cookie: d.cookie, NetNS: 4026531840}
	f.Total = model.FlowCounters{BytesSent: d.size(), BytesReceived: d.size(), PacketsSent: uint64(d.rng.IntN(50)), PacketsReceived: uint64(d.rng.IntN(50))}
	f.Interval = f.Total
	e.Type, e.Flow = model.TypeFlow, f
}

func (d *day) request(e *model.Event) {
	remote := int(d.peers.Uint64())
	r := &model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "client", Method: pick(d.rng, "GET", "GET", "GET", "POST"), Path: fmt.Sprintf("/api/v1/things-%d/{id}", d.rng.IntN(60)),
		Host: d.names[remote], Status: 200, Latency: time.Duration(d.rng.ExpFloat64() * 2e7), RequestBytes: uint64(d.rng.IntN(2000)), ResponseBytes: d.size(),
		Local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), d.ephemeral()),
		Remote: netip.AddrPortFrom(d.remotes[remote], uint16(8000+remote%20)), RemoteName: d.names[remote], Cookie: d.cookie, NetNS: 4026531840}
	r.Duration = r.Latency + time.Duration(d.rng.ExpFloat64()*1e6)
	if d.rng.IntN(40) == 0 {
		r.Status, r.StatusText, r.Failed = 503, "Service Unavailable", true
	}
	if d.rng.IntN(4) == 0 {
		r.TraceID, r.ParentSpanID, r.Sampled = fmt.Sprintf("%016x%016x", d.rng.Uint64(), d.rng.Uint64()), fmt.Sprintf("%016x", d.rng.Uint64()), true
	}
	e.Type, e.Request = model.TypeRequest, r
}

func (d *day) question(e *model.Event) {
	remote := int(d.peers.Uint64())
	e.Type = model.TypeDNS
	e.DNS = &model.DNS{Name: d.names[remote], QType: "A", RCode: "NOERROR", Answers: []model.DNSAnswer{{Type: "A", Data: d.remotes[remote].String(), TTL: time.Duration(d.rng.IntN(60)) * time.Second}},
		Latency: time.Duration(d.rng.ExpFloat64() * 1e6), Server: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 53}), 53), Protocol: "udp"}
}
