// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

func (a *attributes) address(prefix string, at netip.AddrPort) {
	if at.Addr().IsValid() {
		a.text(prefix+".address", at.Addr().Unmap().String())
	}
	a.some(prefix+".port", uint64(at.Port()))
}

func (a *attributes) socket(s *model.Socket) {
	a.text("network.transport", s.Protocol)
	if s.Family == "unix" {
		a.text("network.peer.address", s.Path)
	} else {
		a.text("network.type", s.Family)
	}
	a.address("network.local", s.Local)
	a.address("network.peer", s.Remote)
	a.text("server.address", s.RemoteName)
	a.text("vigie.direction", s.Direction)
	a.some("vigie.bytes_sent", s.BytesSent)
	a.some("vigie.bytes_received", s.BytesReceived)
	a.text("error.type", s.Error.String())
}

func (a *attributes) dns(d *model.DNS) {
	a.text("dns.question.name", d.Name)
	a.text("vigie.dns.question.type", d.QType)
	a.text("vigie.dns.response.code", d.RCode)
	var answers []string
	for _, answer := range d.Answers {
		answers = append(answers, answer.Data)
	}
	a.texts("dns.answers", answers)
	a.text("network.transport", d.Protocol)
	a.address("network.peer", d.Server)
	if d.Timeout {
		a.text("error.type", "timeout")
	}
}

func (a *attributes) flow(f *model.Flow) {
	a.some("vigie.flow.id", f.ID)
	a.text("vigie.flow.state", string(f.State))
	a.text("vigie.flow.verdict", string(f.Verdict))
	a.text("vigie.flow.reason", f.Reason)
	a.text("vigie.direction", string(f.Direction))
	a.text("vigie.flow.close", string(f.Close))
	a.text("network.transport", f.Protocol)
	a.text("network.type", f.Family)
	a.end("source", &f.Source)
	a.end("destination", &f.Destination)
	a.text("server.address", f.Destination.Name)
	a.some("vigie.bytes_sent", f.Total.BytesSent)
	a.some("vigie.bytes_received", f.Total.BytesReceived)
	a.some("vigie.packets_sent", f.Total.PacketsSent)
	a.some("vigie.packets_received", f.Total.PacketsReceived)
	a.some("vigie.retransmits", uint64(f.Total.Retransmits))
	a.some("vigie.srtt_ns", uint64(max(f.SRTT, 0)))
	a.text("error.type", f.Error.String())
}

func (a *attributes) end(side string, e *model.Endpoint) {
	a.address(side, e.Address)
	if e.Workload != nil {
		a.text("vigie."+side+".workload", e.Workload.Name)
		a.text("vigie."+side+".namespace", e.Workload.Namespace)
	}
	if e.Process != nil {
		a.text("vigie."+side+".executable", e.Process.Binary)
	}
}

// request has the attributes that a span of an instrumented application has.
func (a *attributes) request(r *model.Request) {
	server := r.Local
	if r.Role == "client" {
		server = r.Remote
	} else {
		a.text("client.address", addressOf(r.Remote))
	}
	a.text("server.address", firstOf(serverName(r), hostOf(r.Host), addressOf(server)))
	a.some("server.port", uint64(server.Port()))
	a.address("network.local", r.Local)
	a.address("network.peer", r.Remote)
	a.text("network.transport", "tcp")
	switch r.Protocol {
	case "http":
		a.text("network.protocol.name", "http")
		a.text("network.protocol.version", strings.TrimPrefix(r.Version, "HTTP/"))
		a.text("http.request.method", r.Method)
		a.text("url.template", r.Path)
		if r.Role == "server" {
			a.text("http.route", r.Path)
		}
		a.some("http.response.status_code", uint64(max(r.Status, 0)))
		a.some("http.request.body.size", r.RequestBytes)
		a.some("http.response.body.size", r.ResponseBytes)
	case "grpc":
		service, method := grpcName(r)
		a.text("rpc.system", "grpc")
		a.text("rpc.service", service)
		a.text("rpc.method", method)
		if !r.NoAnswer {
			a.number("rpc.grpc.status_code", int64(r.Status))
		}
	case "kafka":
		a.text("messaging.system", "kafka")
		a.text("messaging.operation.name", r.Method)
		a.text("messaging.destination.name", r.Resource)
	default: // databases
		a.text("db.system.name", r.Protocol)
		a.text("db.operation.name", r.Method)
		a.text("db.collection.name", r.Resource)
		if r.Failed {
			a.text("db.response.status_code", r.StatusText)
		}
	}
	a.text("error.type", errorType(r))
	a.text("vigie.tls", r.TLS)
	a.some("vigie.latency_ns", uint64(max(r.Latency, 0)))
}

// errorType is what semantic conventions want of a request that failed: the status, or why there is none.
func errorType(r *model.Request) string {
	switch {
	case r.NoAnswer:
		return "no_answer"
	case !r.Failed:
		return ""
	case r.Protocol == "http" && r.Status != 0:
		return strconv.Itoa(int(r.Status))
	}
	return firstOf(r.StatusText, strconv.Itoa(int(r.Status)))
}

// grpcName takes "/package.Service/Method" apart.
func grpcName(r *model.Request) (service, method string) {
	service, method, _ = strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
	return service, method
}

func addressOf(at netip.AddrPort) string {
	if !at.Addr().IsValid() {
		return ""
	}
	return at.Addr().Unmap().String()
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// hostOf is an authority of HTTP without its port.
func hostOf(authority string) string {
	if at, err := netip.ParseAddrPort(authority); err == nil {
		return at.Addr().String()
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") && strings.Count(authority, ":") == 1 {
		return authority[:i]
	}
	return strings.Trim(authority, "[]")
}

// serverName is the name by which a client asked for the server's address.
func serverName(r *model.Request) string {
	if r.Role == "client" {
		return r.RemoteName
	}
	return ""
}
