// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// String is the rule in words: "allow pods app in (db) of namespaces x *, port 5432/tcp".
func (r *Rule) String(d Direction) string {
	word := map[Direction]string{Ingress: "from", Egress: "to"}[d]
	text := map[Action]string{Allow: "allow", Deny: "deny", Pass: "pass"}[r.Action] + " " + word + " "
	var peers, ports []string
	for _, p := range r.Peers {
		peers = append(peers, p.String())
	}
	switch {
	case r.Peers == nil:
		text += "everybody"
	case len(peers) == 0:
		text += "nobody"
	default:
		text += strings.Join(peers, " or ")
	}
	for _, p := range r.Ports {
		ports = append(ports, p.String())
	}
	if len(ports) > 0 {
		text += ", port " + strings.Join(ports, ", ")
	}
	return text
}

// String is the other end in words.
func (p Peer) String() string {
	switch {
	case p.Pods != nil:
		return p.Pods.String()
	case p.Nodes != nil:
		return "nodes " + p.Nodes.String()
	case p.Block != nil:
		text := p.Block.Prefix.String()
		for i, e := range p.Block.Except {
			text += map[bool]string{true: " without ", false: ", "}[i == 0] + e.String()
		}
		return text
	case p.Domain != "":
		return p.Domain
	}
	return string(p.Entity)
}

// String is "80/tcp", "8000-8100/udp", "http/tcp", "*/sctp".
func (p Port) String() string {
	port := p.Name
	switch {
	case port != "":
	case p.First == 0 && p.Last == 65535:
		port = "*"
	case p.First == p.Last:
		port = fmt.Sprint(p.First)
	default:
		port = fmt.Sprintf("%d-%d", p.First, p.Last)
	}
	return port + "/" + map[uint8]string{0: "*", unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Protocol]
}
