// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

// decodeConn decodes connect, accept and listen.
func decodeConn(r kernel.Record, ev *model.Event) (bool, error) {
	c, _, err := kernel.View[bpfVgConn](r)
	if err != nil {
		return false, err
	}
	var s *model.Socket
	if c.Protocol == uint8(bpfVgProtocolVG_PROTO_UNIX) {
		s, err = unixSocket(r)
	} else {
		s, err = inetSocket(c)
	}
	if err != nil {
		return false, err
	}
	switch kernel.RecordType(c.H.Type) {
	case kernel.RecordConnect:
		ev.Type = model.TypeConnect
		s.Latency = time.Duration(c.Elapsed)
	case kernel.RecordAccept:
		ev.Type = model.TypeAccept
	case kernel.RecordListen:
		ev.Type = model.TypeListen
		s.Backlog = c.Backlog
		s.PeerPID = 0
	default:
		return false, fmt.Errorf("record type %d is no connect, accept or listen", c.H.Type)
	}
	ev.Socket = s
	return true, nil
}

func decodeClose(r kernel.Record, ev *model.Event) (bool, error) {
	c, _, err := kernel.View[bpfVgClosed](r)
	if err != nil {
		return false, err
	}
	s, err := closedSocket(c)
	if err != nil {
		return false, err
	}
	ev.Type, ev.Socket = model.TypeClose, s
	return true, nil
}

// closedSocket is a socket with its counters.
func closedSocket(c *bpfVgClosed) (*model.Socket, error) {
	s, err := inetSocket(&c.C)
	if err != nil {
		return nil, err
	}
	s.BytesSent, s.BytesReceived = c.BytesOut, c.BytesIn
	s.PacketsSent, s.PacketsReceived = c.PacketsOut, c.PacketsIn
	s.Retransmits = c.Retransmits
	s.SRTT = time.Duration(c.SrttUs) * time.Microsecond
	s.Duration = time.Duration(c.C.Elapsed)
	return s, nil
}

func inetSocket(c *bpfVgConn) (*model.Socket, error) {
	s := common(c)
	switch c.Protocol {
	case uint8(bpfVgProtocolVG_PROTO_TCP):
		s.Protocol = "tcp"
	case uint8(bpfVgProtocolVG_PROTO_UDP):
		s.Protocol = "udp"
	default:
		return nil, fmt.Errorf("record has protocol number %d, which is not known", c.Protocol)
	}
	s.Local = kernel.AddrPort(c.Local, c.LocalPort)
	s.Remote = kernel.AddrPort(c.Remote, c.RemotePort)
	s.Family = "ipv6"
	if s.Local.Addr().Is4() || s.Remote.Addr().Is4() {
		s.Family = "ipv4"
	}
	// A connection over IPv4 whose other address is not known yet, or a listener's remote end.
	if s.Family == "ipv4" {
		s.Local, s.Remote = unspecified4(s.Local), unspecified4(s.Remote)
	}
	if s.Remote.Port() == 0 && s.Remote.Addr().IsUnspecified() {
		s.Remote = netip.AddrPort{}
	}
	if s.Local.Port() == 0 && s.Local.Addr().IsUnspecified() {
		s.Local = netip.AddrPort{}
	}
	return s, nil
}

// unixSocket decodes a vg_unix with its path.
func unixSocket(r kernel.Record) (*model.Socket, error) {
	u, tail, err := kernel.View[bpfVgUnix](r)
	if err != nil {
		return nil, err
	}
	name, _, err := kernel.Take(tail, int(u.PathLen))
	if err != nil {
		return nil, err
	}
	s := common(&u.C)
	s.Protocol, s.Family, s.PeerPID = "unix", "unix", u.C.Backlog
	switch u.Form {
	case unixComponents:
		s.Path = kernel.Path(name, u.C.H.Flags&kernel.FlagCut != 0)
	case unixArgument:
		s.Path = kernel.CString(name)
	case unixAbstract:
		// An abstract name has a length, not an end: NULs belong to it.
		s.Path = "@" + model.CleanString(name)
	default:
		return nil, fmt.Errorf("unix socket record has name form %d, which is not known", u.Form)
	}
	return s, nil
}

// vg_unix.form (record.h)
const (
	unixComponents = 0
	unixArgument   = 1
	unixAbstract   = 2
)

func common(c *bpfVgConn) *model.Socket {
	return &model.Socket{Cookie: c.Cookie, NetNS: c.Netns, Error: model.Errno(c.Error), Direction: direction(c.Direction)}
}

func direction(d uint8) string {
	switch bpfVgDirection(d) {
	case bpfVgDirectionVG_DIR_OUTBOUND:
		return "outbound"
	case bpfVgDirectionVG_DIR_INBOUND:
		return "inbound"
	case bpfVgDirectionVG_DIR_LISTENER:
		return "listener"
	}
	return ""
}

func unspecified4(a netip.AddrPort) netip.AddrPort {
	if a.Addr() == netip.IPv6Unspecified() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port())
	}
	return a
}
