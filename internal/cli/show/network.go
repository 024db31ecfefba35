// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

func socketLine(e *model.Event) Line {
	x := e.Socket
	l := Line{Kind: Network, Verb: string(e.Type)}
	if e.PreExisting {
		switch e.Type {
		case model.TypeConnect:
			l.Verb = "connected"
		case model.TypeAccept:
			l.Verb = "accepted"
		case model.TypeListen:
			l.Verb = "listening"
		}
	}
	switch {
	case x.Protocol == "unix":
		l.Object = "unix " + unixPath(x.Path)
		switch {
		case x.PeerPID == 0:
		case e.Type == model.TypeAccept || x.Direction == "inbound":
			l.Detail = fmt.Sprint("from pid ", x.PeerPID)
		default:
			l.Detail = fmt.Sprint("served by pid ", x.PeerPID)
		}
	case e.Type == model.TypeListen || x.Direction == "listener":
		l.Object = x.Protocol + " " + endpoint(x.Local)
	case e.Type == model.TypeAccept || e.Type == model.TypeClose && x.Direction == "inbound":
		l.Object = x.Protocol + " " + endpoint(x.Remote) + " → " + endpoint(x.Local)
	default:
		l.Object = x.Protocol + " " + Remote(x)
	}
	if e.Type == model.TypeConnect && x.Latency > 0 {
		l.Detail = joined(", ", l.Detail, Duration(x.Latency))
	}
	if e.Type == model.TypeClose {
		l.Detail = joined(", ", l.Detail, Closed(x))
	}
	return failing(l, x.Error)
}

// Remote is the far end of a socket, with the name by which the process asked for it.
func Remote(x *model.Socket) string {
	if x.RemoteName != "" {
		return fmt.Sprintf("%s:%d (%s)", term.Escape(x.RemoteName), x.Remote.Port(), x.Remote.Addr().Unmap())
	}
	return endpoint(x.Remote)
}

// Closed says what went over a socket in its life: "↑ 1.2K ↓ 34M in 3.1s, rtt 0.4ms, 3 retransmits".
func Closed(x *model.Socket) string {
	s := fmt.Sprintf("↑ %s ↓ %s", Bytes(x.BytesSent), Bytes(x.BytesReceived))
	if x.Duration > 0 {
		s += " in " + Duration(x.Duration)
	}
	if x.SRTT > 0 {
		s += ", rtt " + Duration(x.SRTT)
	}
	if x.Retransmits > 0 {
		s += fmt.Sprintf(", %d retransmits", x.Retransmits)
	}
	return s
}

func endpoint(a netip.AddrPort) string {
	if !a.IsValid() {
		return "?"
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

func unixPath(p string) string {
	if p == "" {
		return "(unnamed)"
	}
	return term.Escape(p)
}

func dnsLine(x *model.DNS) Line {
	l := Line{Kind: Name, Verb: "dns", Object: term.Escape(x.QType + " " + x.Name)}
	var answers []string
	for i, a := range x.Answers {
		if i == 3 {
			answers = append(answers, fmt.Sprintf("and %d more", len(x.Answers)-i))
			break
		}
		answers = append(answers, term.Escape(a.Data))
	}
	switch {
	case x.Timeout:
		l.Failed = true
		l.Detail = "no answer from " + endpoint(x.Server)
		return l
	case len(answers) > 0:
		l.Detail = "→ " + strings.Join(answers, ", ")
	default:
		l.Detail = "→ " + term.Escape(x.RCode)
	}
	l.Failed = x.RCode != "" && x.RCode != "NOERROR"
	if x.Latency > 0 {
		l.Detail += ", " + Duration(x.Latency)
	}
	return l
}
