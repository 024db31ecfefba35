// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	fl "github.com/cilium/cilium/api/v1/flow"

	"github.com/vigie-io/vigie/internal/model"
)

// half is a request or a question as whoever asked sees it: the source is the client's end.
type half struct {
	source, destination         *fl.Endpoint
	sourceAddr, destinationAddr netip.AddrPort
	destinationNames            []string
	protocol                    string // tcp, udp
	direction                   fl.TrafficDirection
	cookie                      uint64
	traceID                     string
	took                        time.Duration // from the question to the event's time
	latency                     time.Duration
	record                      func(*fl.Layer7) // sets the record, which may depend on the type
	summary                     func(fl.L7FlowType) string
}

func (h *half) transport(reply bool) *fl.Layer4 {
	a, b := h.sourceAddr.Port(), h.destinationAddr.Port()
	if reply {
		a, b = b, a
	}
	return transport(h.protocol, a, b)
}

// fill makes f the flow of the question; or of the answer, but with the ends of the question.
func (h *half) fill(f *fl.Flow, typ fl.L7FlowType) {
	f.Type = fl.FlowType_L7
	f.Verdict = fl.Verdict_FORWARDED
	f.EventType = &fl.CiliumEventType{Type: eventL7}
	f.IP, f.L4 = ip(h.sourceAddr.Addr(), h.destinationAddr.Addr()), h.transport(false)
	f.Source, f.Destination, f.DestinationNames = h.source, h.destination, h.destinationNames
	f.TrafficDirection, f.SocketCookie = h.direction, h.cookie
	if h.traceID != "" {
		f.TraceContext = &fl.TraceContext{Parent: &fl.TraceParent{TraceId: valid(h.traceID)}}
	}
	f.L7 = &fl.Layer7{Type: typ}
	if typ == fl.L7FlowType_RESPONSE {
		f.L7.LatencyNs = uint64(max(h.latency, 0))
	}
	h.record(f.GetL7())
	f.Summary = valid(h.summary(typ)) //nolint:staticcheck // `hubble observe` prints it
}

// request is a request on an application protocol.
func (c *converter) request(e *model.Event) *half {
	x := e.Request
	h := &half{protocol: "tcp", cookie: x.Cookie, traceID: x.TraceID, took: max(x.Latency, x.Duration), latency: x.Latency}
	local := endpoint(workloadOf(e), true)
	remote := endpoint(c.holders.at("tcp", x.NetNS, x.Remote, e.Time), isLocal(x.Remote.Addr()))
	if x.Role == "server" {
		h.direction = fl.TrafficDirection_INGRESS
		h.source, h.destination, h.sourceAddr, h.destinationAddr = remote, local, x.Remote, x.Local
	} else {
		h.direction = fl.TrafficDirection_EGRESS
		h.source, h.destination, h.sourceAddr, h.destinationAddr = local, remote, x.Local, x.Remote
		h.destinationNames = names(x.RemoteName)
	}
	if x.Protocol != "http" && x.Protocol != "grpc" {
		// Hubble has no record for these; the summary tells.
		h.record = func(*fl.Layer7) {}
		h.summary = func(typ fl.L7FlowType) string {
			ask := join(x.Protocol, x.Method, x.Resource)
			if typ == fl.L7FlowType_REQUEST {
				return ask
			}
			return fmt.Sprintf("%s %s (%s)", join(x.StatusText, outcome(x)), took(x.Latency), ask)
		}
		return h
	}
	target, method, version := url(x), x.Method, version(x)
	if x.Protocol == "grpc" && method == "" {
		method = "POST" // which every call of gRPC is
	}
	h.record = func(l *fl.Layer7) {
		http := &fl.HTTP{Method: valid(method), Url: valid(target), Protocol: valid(version)}
		if l.GetType() == fl.L7FlowType_RESPONSE && x.Protocol == "http" {
			http.Code = uint32(max(x.Status, 0))
		}
		l.Record = &fl.Layer7_Http{Http: http}
	}
	h.summary = func(typ fl.L7FlowType) string {
		switch {
		case typ == fl.L7FlowType_REQUEST:
			return join(version, method, target)
		case x.Protocol == "grpc":
			return fmt.Sprintf("%s gRPC %s %s (%s)", version, grpcStatus(x), took(x.Latency), join(method, target))
		}
		return fmt.Sprintf("%s %d %s (%s)", version, x.Status, took(x.Latency), join(method, target))
	}
	return h
}

// question is a DNS question. The address from which it was asked is not known.
func (c *converter) question(e *model.Event) *half {
	x := e.DNS
	netns := uint32(0)
	if e.Process != nil {
		netns = e.Process.Namespaces.Net
	}
	h := &half{protocol: x.Protocol, took: x.Latency, latency: x.Latency, direction: fl.TrafficDirection_EGRESS, source: endpoint(workloadOf(e), true),
		destination: endpoint(c.holders.at(x.Protocol, netns, x.Server, e.Time), isLocal(x.Server.Addr())), destinationAddr: x.Server}
	query := valid(x.Name) + "." // Hubble has the root in it
	var addresses, aliases, types []string
	var ttl uint32
	for i, a := range x.Answers {
		switch a.Type {
		case "A", "AAAA":
			addresses = append(addresses, valid(a.Data))
		case "CNAME":
			aliases = append(aliases, valid(a.Data))
		}
		types = append(types, valid(a.Type))
		if seconds := uint32(a.TTL / time.Second); i == 0 || seconds < ttl {
			ttl = seconds
		}
	}
	code, known := rcode(x.RCode)
	h.record = func(l *fl.Layer7) {
		dns := &fl.DNS{Query: query, Qtypes: []string{valid(x.QType)}, ObservationSource: "vigie"}
		if l.GetType() == fl.L7FlowType_RESPONSE {
			dns.Ips, dns.Cnames, dns.Rrtypes, dns.Ttl, dns.Rcode = addresses, aliases, types, ttl, code
		}
		l.Record = &fl.Layer7_Dns{Dns: dns}
	}
	h.summary = func(typ fl.L7FlowType) string {
		if typ == fl.L7FlowType_REQUEST {
			return join("DNS Query", query, x.QType)
		}
		answer := strings.Join(addresses, ",")
		if answer != "" {
			answer = fmt.Sprintf("%q ", answer)
		}
		if len(aliases) > 0 {
			answer += fmt.Sprintf("CNAMEs: %q ", strings.Join(aliases, ","))
		}
		if code != 0 || !known {
			answer = fmt.Sprintf("RCode: %s ", x.RCode)
		}
		return fmt.Sprintf("DNS Answer %sTTL: %d %s (%s %s)", answer, ttl, took(x.Latency), query, x.QType)
	}
	return h
}

func workloadOf(e *model.Event) *model.Workload {
	if e.Process == nil {
		return nil
	}
	return e.Process.Workload
}

// url is what was asked for, as one: "http://web.example/orders/{id}". Queries and credentials are not in it.
func url(x *model.Request) string {
	scheme, host := "http", x.Host
	if x.TLS != "" {
		scheme = "https"
	}
	if host == "" && x.Role != "server" {
		host = x.RemoteName
	}
	if host == "" {
		server := x.Remote
		if x.Role == "server" {
			server = x.Local
		}
		if server.IsValid() {
			host = server.String()
		}
	}
	if host == "" || !strings.HasPrefix(x.Path, "/") {
		return x.Path // such as OPTIONS *
	}
	return scheme + "://" + host + x.Path
}

func version(x *model.Request) string {
	switch {
	case x.Version != "":
		return x.Version
	case x.Protocol == "grpc":
		return "HTTP/2"
	}
	return "HTTP"
}

func grpcStatus(x *model.Request) string {
	if x.StatusText != "" {
		return x.StatusText
	}
	return fmt.Sprint(x.Status)
}

func outcome(x *model.Request) string {
	switch {
	case x.StatusText != "":
		return ""
	case x.Failed:
		return "failed"
	}
	return "ok"
}

// took is a latency as Hubble prints it, in milliseconds, but not rounded to nothing.
func took(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}

func join(words ...string) string {
	kept := words[:0:0]
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

// rcode is the number of a response code by its name (IANA, DNS RCODEs).
func rcode(name string) (code uint32, known bool) {
	for i, n := range []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"} {
		if n == name {
			return uint32(i), true
		}
	}
	if n, ok := strings.CutPrefix(name, "RCODE"); ok { // one without a name
		if code, err := strconv.ParseUint(n, 10, 16); err == nil {
			return uint32(code), true
		}
	}
	return 0, false
}
