// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// The values of Hubble's labels that have a meaning here.
const (
	forwarded    = "FORWARDED"
	dropped      = "DROPPED"
	audited      = "AUDIT"
	policyDenied = "POLICY_DENIED"
)

// flow counts a report: what a conversation is at its first one, what was added at each, how it ended at the last.
func (c counting) flow(e *model.Event) {
	f, n := e.Flow, float64(max(e.Count, 1)) // like attempts are folded
	source, destination := endName(&f.Source), endName(&f.Destination)
	c.add(flowBytes, float64(f.Interval.BytesSent), source, destination, "sent")
	c.add(flowBytes, float64(f.Interval.BytesReceived), source, destination, "received")
	if f.Interval.Retransmits > 0 {
		c.add(flowRetransmits, float64(f.Interval.Retransmits), source, destination)
	}
	if f.SRTT > 0 {
		c.observe(roundTrip, f.SRTT, source, destination)
	}
	// A policy can cut what it let begin: that counts as a drop when it happens.
	if f.Verdict == model.FlowDenied && (f.Report <= 1 || f.Close == model.CloseCut) {
		c.add(drops, n, policyDenied, protocolName(f.Protocol))
	}
	if f.Report <= 1 {
		c.begun(f, n, source, destination)
	}
	if f.Protocol == "tcp" {
		switch f.Close {
		case model.CloseFin:
			c.add(tcpFlags, n, "FIN", familyName(f.Family))
		case model.CloseReset, model.CloseRefused:
			c.add(tcpFlags, n, "RST", familyName(f.Family))
		}
	}
}

func (c counting) begun(f *model.Flow, n float64, source, destination string) {
	protocol := protocolName(f.Protocol)
	kind, verdict := "Trace", forwarded
	switch f.Verdict {
	case model.FlowDenied:
		kind, verdict = "Drop", dropped
	case model.FlowAudited:
		kind, verdict = "PolicyVerdict", audited
	}
	c.add(flowsProcessed, n, protocol, kind, "", verdict)
	c.add(flows, n, source, destination, f.Protocol, string(f.Verdict))
	if f.Verdict == model.FlowFailed {
		c.add(flowFailures, n, source, destination, string(f.Close))
	}
	if verdict == dropped {
		return
	}
	c.add(portDistribution, n, protocol, strconv.Itoa(int(f.Destination.Address.Port())))
	if f.Protocol != "tcp" {
		return
	}
	c.add(tcpFlags, n, "SYN", familyName(f.Family))
	if f.Verdict != model.FlowFailed {
		c.add(tcpFlags, n, "SYN-ACK", familyName(f.Family))
		if f.Latency > 0 {
			c.observe(connectLatency, f.Latency, source, destination)
		}
	}
}

func (c counting) dns(e *model.Event) {
	d, n := e.DNS, float64(max(e.Count, 1))
	c.add(flowsProcessed, n, "DNS", "L7", "DNS", forwarded)
	c.add(dnsQueries, n, "", d.QType, "0")
	if d.Timeout {
		workload := "unknown"
		if e.Process != nil {
			workload = workloadName(e.Process.Workload)
		}
		c.add(dnsTimeouts, n, workload)
	}
	if d.RCode == "" {
		return
	}
	c.add(flowsProcessed, n, "DNS", "L7", "DNS", forwarded) // the answer is a record of Hubble's of its own
	addresses := 0
	for _, answer := range d.Answers {
		if _, err := netip.ParseAddr(answer.Data); err == nil {
			addresses++
		}
		c.add(dnsResponseTypes, n, answer.Type, d.QType)
	}
	c.add(dnsResponses, n, rcodeName(d.RCode), d.QType, strconv.Itoa(addresses))
	if d.Latency > 0 {
		c.observe(dnsDuration, d.Latency, rcodeName(d.RCode))
	}
}

func (c counting) request(e *model.Event) {
	r, workload, result := e.Request, "unknown", "ok"
	if e.Process != nil {
		workload = workloadName(e.Process.Workload)
	}
	switch {
	case r.NoAnswer:
		result = "no_answer"
	case r.Failed:
		result = "failed"
	}
	c.add(requests, 1, workload, r.Protocol, r.Role, result)
	isHTTP := r.Protocol == "http" || r.Protocol == "grpc" // Hubble sees gRPC as the HTTP that it is
	if isHTTP {
		c.add(flowsProcessed, 1, "HTTP", "L7", "HTTP", forwarded)
	}
	if r.NoAnswer {
		return
	}
	c.observe(requestDuration, r.Latency, workload, r.Protocol, r.Role)
	switch {
	case isHTTP:
		c.add(flowsProcessed, 1, "HTTP", "L7", "HTTP", forwarded) // the answer
		method, status := r.Method, strconv.Itoa(int(r.Status))
		if r.Protocol == "grpc" { // always, whatever the status of gRPC is
			method, status = "POST", "200"
		}
		c.add(httpRequests, 1, method, r.Version, status, r.Role)
		c.observe(httpDuration, r.Latency, method, r.Role)
	case r.Protocol == "kafka":
		code := "0"
		if r.Failed {
			code = r.StatusText
		}
		c.add(kafkaRequests, 1, r.Resource, r.Method, code, r.Role)
		c.observe(kafkaDuration, r.Latency, r.Resource, r.Method, r.Role)
	}
}

// endName is who is at an end of a conversation: a workload, or "world" for everything that is none.
func endName(e *model.Endpoint) string {
	switch {
	case e.Workload != nil:
		return workloadName(e.Workload)
	case e.Process != nil:
		return workloadName(e.Process.Workload)
	}
	return "world"
}

// workloadName is a workload's name, in Kubernetes with its namespace.
func workloadName(w *model.Workload) string {
	switch {
	case w == nil:
		return "unknown"
	case w.Namespace != "":
		return w.Namespace + "/" + w.Name
	}
	return w.Name
}

func protocolName(p string) string {
	switch p {
	case "icmp":
		return "ICMPv4"
	case "icmpv6":
		return "ICMPv6"
	}
	return strings.ToUpper(p)
}

func familyName(f string) string {
	if f == "ipv6" {
		return "IPv6"
	}
	return "IPv4"
}

// rcodeName is how Hubble spells a response code.
func rcodeName(rcode string) string {
	switch rcode {
	case "NOERROR":
		return "No Error"
	case "FORMERR":
		return "Format Error"
	case "SERVFAIL":
		return "Server Failure"
	case "NXDOMAIN":
		return "Non-Existent Domain"
	case "NOTIMP":
		return "Not Implemented"
	case "REFUSED":
		return "Query Refused"
	}
	return rcode
}
