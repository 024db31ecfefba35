// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// scene is a host on which something of every kind happens, by name and in this order, a second apart.
func scene() (names []string, events map[string]*model.Event) {
	nginx := &model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service", ID: "/system.slice/nginx.service", Slice: "system.slice"}
	alice := &model.Workload{Kind: model.WorkloadSession, Name: "session-3 (alice)", ID: "/user.slice/session-3.scope", User: "alice", Slice: "user-1000.slice"}
	db := &model.Workload{Kind: model.WorkloadContainer, Name: "db", ID: "c0ffee", Runtime: "docker", Image: "postgres:17", Labels: map[string]string{"tier": "data"}}
	api := &model.Workload{Kind: model.WorkloadPod, Name: "api-7d4b9", Namespace: "shop", ID: "c1", Container: "api", PodUID: "u1",
		Labels: map[string]string{"app": "api", "pod-template-hash": "7d4b9"}}
	web := &model.Workload{Kind: model.WorkloadPod, Name: "web-0", Namespace: "default", ID: "c2", Labels: map[string]string{"app": "web"}}

	process := func(pid uint32, binary string, w *model.Workload, args ...string) *model.Process {
		k := model.ProcessKey{PID: pid, Start: uint64(pid) * 1000, Exec: 1}
		return &model.Process{Key: k, ExecID: k.ExecID("0123abcd"), Binary: binary, Args: args, Workload: w, CgroupID: uint64(pid) + 7,
			StartTime: began(), Creds: model.Creds{LoginUID: model.NoUID}}
	}
	nginxd := process(800, "/usr/sbin/nginx", nginx, "nginx", "-g", "daemon off;")
	curl := process(900, "/usr/bin/curl", alice, "curl", "-s", "https://www.example.org/")
	postgres := process(700, "/usr/lib/postgresql/17/bin/postgres", db, "postgres")
	apid := process(600, "/app/api", api, "/app/api")

	tcp := func(p *model.Process, from, to string, direction model.FlowDirection, change func(*model.Flow)) *model.Event {
		f := &model.Flow{ID: 1, Report: 1, State: model.FlowClosed, Protocol: "tcp", Family: "ipv4", Direction: direction,
			Source: model.Endpoint{Address: netip.MustParseAddrPort(from)}, Destination: model.Endpoint{Address: netip.MustParseAddrPort(to)},
			Verdict: model.FlowAllowed, Close: model.CloseFin, Cookie: 4711,
			Total: model.FlowCounters{BytesSent: 120, BytesReceived: 5130, PacketsSent: 5, PacketsReceived: 7}}
		end := &f.Source
		if direction == model.FlowInbound {
			end = &f.Destination
		}
		end.Process, end.Workload = p, p.Workload
		if change != nil {
			change(f)
		}
		return &model.Event{Type: model.TypeFlow, Count: 1, Key: p.Key, Process: p, Flow: f}
	}
	request := func(p *model.Process, x model.Request) *model.Event {
		return &model.Event{Type: model.TypeRequest, Count: 1, Key: p.Key, Process: p, Request: &x}
	}
	ap := netip.MustParseAddrPort
	events = make(map[string]*model.Event)
	add := func(name string, e *model.Event) {
		e.Time = began().Add(time.Duration(len(names)) * time.Second)
		names, events[name] = append(names, name), e
	}

	add("open", tcp(nginxd, "203.0.113.9:40000", "192.0.2.1:443", model.FlowInbound, func(f *model.Flow) {
		f.State, f.Close, f.Total = model.FlowOpen, "", model.FlowCounters{}
	}))
	add("later", tcp(nginxd, "203.0.113.9:40000", "192.0.2.1:443", model.FlowInbound, func(f *model.Flow) { f.Report, f.Close, f.State = 2, "", model.FlowOpen }))
	add("reset", tcp(nginxd, "203.0.113.9:40000", "192.0.2.1:443", model.FlowInbound, func(f *model.Flow) { f.Report, f.Close = 3, model.CloseReset }))
	add("world", tcp(curl, "192.0.2.1:50000", "93.184.216.34:443", model.FlowOutbound, func(f *model.Flow) { f.Destination.Name = "www.example.org" }))
	add("local", tcp(nginxd, "127.0.0.1:50001", "127.0.0.1:5432", model.FlowLocal, func(f *model.Flow) {
		f.Destination.Process, f.Destination.Workload = postgres, db
		f.Service = &model.Service{Name: "db", Namespace: "shop", Address: ap("10.96.0.9:5432")}
	}))
	add("pods", tcp(apid, "10.0.0.5:50002", "10.0.0.6:8080", model.FlowOutbound, func(f *model.Flow) { f.Destination.Workload = web }))
	add("denied", tcp(curl, "192.0.2.1:50003", "198.51.100.7:22", model.FlowOutbound, func(f *model.Flow) {
		f.Verdict, f.Close, f.Policy, f.Rule, f.Total = model.FlowDenied, model.CloseDenied, "laptops", "egress.deny[0]", model.FlowCounters{}
		f.Reason = "policy laptops, egress.deny[0]"
	}))
	add("audited", tcp(nginxd, "203.0.113.9:40001", "192.0.2.1:80", model.FlowInbound, func(f *model.Flow) {
		f.Verdict, f.Policy, f.Rule, f.Reason = model.FlowAudited, "web", "ingress.allow", "policy web, ingress.allow"
	}))
	add("refused", tcp(curl, "127.0.0.1:50004", "127.0.0.1:9", model.FlowLocal, func(f *model.Flow) {
		f.Verdict, f.Close, f.Reason, f.Total = model.FlowFailed, model.CloseRefused, "ECONNREFUSED", model.FlowCounters{}
	}))
	add("udp6", tcp(curl, "[2001:db8::1]:50005", "[2001:db8::53]:123", model.FlowOutbound, func(f *model.Flow) { f.Protocol, f.Family = "udp", "ipv6" }))
	add("ping", tcp(curl, "192.0.2.1:0", "198.51.100.1:0", model.FlowOutbound, func(f *model.Flow) { f.Protocol, f.ICMPType = "icmp", 8 }))
	add("ping6", tcp(curl, "[2001:db8::1]:0", "[2001:db8::2]:0", model.FlowOutbound, func(f *model.Flow) {
		f.Protocol, f.ICMPType, f.Family = "icmpv6", 128, "ipv6"
	}))
	add("dns", &model.Event{Type: model.TypeDNS, Count: 1, Key: curl.Key, Process: curl, DNS: &model.DNS{Name: "www.example.org", QType: "A", RCode: "NOERROR",
		Answers: []model.DNSAnswer{{Type: "CNAME", Data: "e.example.net", TTL: 300 * time.Second}, {Type: "A", Data: "93.184.216.34", TTL: 60 * time.Second}},
		Latency: 3 * time.Millisecond, Server: ap("127.0.0.53:53"), Protocol: "udp"}})
	add("nxdomain", &model.Event{Type: model.TypeDNS, Count: 1, Key: curl.Key, Process: curl, DNS: &model.DNS{Name: "no.example.org", QType: "AAAA", RCode: "NXDOMAIN",
		Latency: 2 * time.Millisecond, Server: ap("127.0.0.53:53"), Protocol: "udp"}})
	add("silent", &model.Event{Type: model.TypeDNS, Count: 1, Key: curl.Key, Process: curl, DNS: &model.DNS{Name: "slow.example.org", QType: "A",
		Timeout: true, Server: ap("192.0.2.53:53"), Protocol: "udp"}})
	add("get", request(nginxd, model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", Path: "/orders/{id}", Host: "shop.example",
		Status: 200, StatusText: "OK", Latency: 12 * time.Millisecond, Duration: 15 * time.Millisecond, TLS: "openssl",
		TraceID: "0af7651916cd43dd8448eb211c80319c", Local: ap("192.0.2.1:443"), Remote: ap("203.0.113.9:40000"), Cookie: 4711}))
	add("post", request(apid, model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "client", Method: "POST", Path: "/pay", Host: "web",
		Status: 503, StatusText: "Service Unavailable", Failed: true, Latency: 700 * time.Microsecond, Local: ap("10.0.0.5:50002"), Remote: ap("10.0.0.6:8080"), RemoteName: "web.default.svc"}))
	add("grpc", request(apid, model.Request{Protocol: "grpc", Version: "HTTP/2", Role: "client", Method: "POST", Path: "/shop.Cart/Add", Host: "cart:50051",
		Status: 14, StatusText: "UNAVAILABLE", Failed: true, Latency: 2 * time.Millisecond, Local: ap("10.0.0.5:50006"), Remote: ap("10.0.0.7:50051")}))
	add("sql", request(apid, model.Request{Protocol: "postgresql", Role: "client", Method: "SELECT", Resource: "orders", Latency: 4 * time.Millisecond,
		Local: ap("10.0.0.5:50007"), Remote: ap("10.0.0.8:5432")}))
	add("unanswered", request(apid, model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "client", Method: "DELETE", Path: "/orders/{id}", NoAnswer: true,
		Local: ap("10.0.0.5:50008"), Remote: ap("10.0.0.6:8080")}))
	add("exec", &model.Event{Type: model.TypeExec, Count: 1, Key: curl.Key, Process: curl, Exec: &model.Exec{}})
	add("loss", &model.Event{Type: model.TypeLoss, Count: 1, Loss: &model.Loss{Stage: "kernel", Reason: "telemetry ring full", Count: 3, Total: 3}})
	return names, events
}

// sceneBackend is an agent that has seen the scene.
func sceneBackend() *backend {
	b := newBackend()
	names, events := scene()
	for _, name := range names {
		b.publish(events[name])
	}
	return b
}
