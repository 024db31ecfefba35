// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"time"
)

// Flow is one conversation, as far as it has come: a TCP connection or attempt, or what two addresses said to each
// other by UDP or ICMP. A short one is reported once, at its end; a long one while it goes on, too. The event's Process is
// the source's where that is local, else the destination's. Where both ends are local there is still one flow.
type Flow struct {
	ID     uint64 // the same in all reports of one flow, unique in one run of the agent
	Report uint32 // number of the report, from 1
	State  FlowState

	Protocol    string // tcp, udp, icmp, icmpv6
	Family      string // ipv4, ipv6
	Direction   FlowDirection
	Source      Endpoint // who began
	Destination Endpoint
	// Service is what the source asked for, where its address was translated to Destination's.
	Service *Service

	Verdict FlowVerdict
	// Reason says why it is not simply allowed: "policy web, egress.deny[0]", or the errno of a failed attempt.
	Reason string
	Policy string // the policy that decided; empty where none did
	Rule   string // its rule

	Start, End time.Time // End: zero while it is open
	Total      FlowCounters
	Interval   FlowCounters // since the report before: what to add up over reports
	SRTT       time.Duration
	Latency    time.Duration // of TCP: until it was established or failed
	Close      CloseReason
	Error      Errno

	ICMPType, ICMPCode uint8 // of icmp and icmpv6: of the source's first message
	Cookie             uint64
	NetNS              uint32 // network namespace inode number of the event's process
}

// FlowState says whether a flow goes on.
type FlowState string

// The states of a flow.
const (
	FlowOpen   FlowState = "open"
	FlowClosed FlowState = "closed" // this is its last report
)

// FlowDirection says which ends of a flow are on this host.
type FlowDirection string

// The directions of a flow.
const (
	FlowOutbound FlowDirection = "outbound" // the source
	FlowInbound  FlowDirection = "inbound"  // the destination
	FlowLocal    FlowDirection = "local"    // both
)

// FlowVerdict is what became of a flow.
type FlowVerdict string

// The verdicts on a flow.
const (
	FlowAllowed FlowVerdict = "allowed"
	FlowDenied  FlowVerdict = "denied"  // by a policy, before it began or later (CloseCut)
	FlowAudited FlowVerdict = "audited" // a policy in audit mode would have denied it
	FlowFailed  FlowVerdict = "failed"  // nobody denied it and it did not come about
)

// CloseReason says how a flow ended.
type CloseReason string

// The reasons for the end of a flow.
const (
	CloseFin         CloseReason = "fin"         // both ends were done
	CloseReset       CloseReason = "reset"       // a RST was sent or received
	CloseRefused     CloseReason = "refused"     // nobody listens there
	CloseTimeout     CloseReason = "timeout"     // no answer
	CloseUnreachable CloseReason = "unreachable" // no way there
	CloseDenied      CloseReason = "denied"      // by a policy, at its beginning
	CloseCut         CloseReason = "cut"         // by a policy that came later
	CloseIdle        CloseReason = "idle"        // nothing was said for a while (udp, icmp)
	CloseSocket      CloseReason = "socket"      // its socket was closed (udp, icmp)
	CloseUnknown     CloseReason = "unknown"
)

// FlowCounters count what went over a flow. Sent is from source to destination.
type FlowCounters struct {
	BytesSent, BytesReceived     uint64 // of payload
	PacketsSent, PacketsReceived uint64
	Retransmits                  uint32 // of the local end, both where both are local
}

// Endpoint is one end of a flow.
type Endpoint struct {
	Address netip.AddrPort
	Name    string // the DNS name by which the other end asked for it
	// Process is who holds this end; nil when it is not on this host or not known.
	Process  *Process
	Workload *Workload // of Process, or what is known of a distant end; nil when nothing is
}

// Service is a stable name in front of changing addresses.
type Service struct {
	Name, Namespace string
	Address         netip.AddrPort // as the source asked for it
}

// Request is one request with its answer on an application protocol. Its texts are redacted before they get here: no body,
// no value of a query, no credential, no SQL literal.
type Request struct {
	Protocol string // http, grpc, postgresql, mysql, redis, kafka
	Version  string // HTTP/1.1, HTTP/2, …
	// Role of the event's process: client or server.
	Role string

	Method   string // GET; the SQL statement's kind; the Redis command; the Kafka API
	Path     string // the path's template: numbers, ids and hashes are {id}; gRPC: /package.Service/Method
	Host     string // HTTP's authority
	Resource string // table, topic, key's pattern, database: what the verb is about, where that is plain
	Status   int32  // HTTP status; gRPC status of grpc
	// StatusText is how the protocol names the result: "Not Found", "UNAVAILABLE", SQLSTATE "23505", Redis "WRONGTYPE".
	StatusText string
	Failed     bool // the answer says that the server failed or refused (HTTP ≥ 400, gRPC ≠ 0, an error message)
	NoAnswer   bool // the connection ended before the answer

	Latency                     time.Duration // from the request's first byte to the answer's first byte
	Duration                    time.Duration // to the answer's last byte, where that was seen
	RequestBytes, ResponseBytes uint64        // of bodies, where they are known

	TLS string // by which library the plain text was read: openssl, gnutls, go; empty for traffic in the clear

	TraceID      string // 32 hexadecimal digits of the request's traceparent; empty without one
	ParentSpanID string // its 16: the span that the caller says it is
	Sampled      bool

	Local, Remote netip.AddrPort
	RemoteName    string
	Cookie        uint64 // of the socket, as in Socket and Flow
	NetNS         uint32
}
