// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// Translation is what stands behind the address of a conversation. Asked is set, or the other two.
type Translation struct {
	// Asked is the address that connect was given, where a program put another one in its place.
	Asked netip.AddrPort
	// Source and Destination are the addresses of the packets that arrive, where netfilter changed them.
	Source, Destination netip.AddrPort
}

// Translated tells how the addresses of the socket that began a conversation, by TCP or UDP, were translated. Of a connection
// an answer is given once.
func (s *Sensor) Translated(cookie uint64, protocol string, local, remote netip.AddrPort) (t Translation, ok bool) {
	if s.objs.VgNatsSeen == nil || !s.sawTranslations() {
		return t, false
	}
	var asked bpfVgAskedAddr
	if cookie != 0 && protocol == "tcp" && s.objs.VgAsked.LookupAndDelete(&cookie, &asked) == nil {
		t.Asked = kernel.AddrPort(asked.Addr, asked.Port)
		return t, true
	}
	key := bpfVgPath{Source: local.Addr().As16(), Destination: remote.Addr().As16(),
		SourcePort: kernel.NetworkOrder(local.Port()), DestinationPort: kernel.NetworkOrder(remote.Port()), Protocol: unix.IPPROTO_TCP}
	read := s.objs.VgPaths.LookupAndDelete
	if protocol == "udp" { // another socket may go on with the same two ports, of which there is no first packet then
		key.Protocol, read = unix.IPPROTO_UDP, s.objs.VgPaths.Lookup
	}
	var path bpfVgPath
	if read(&key, &path) != nil {
		return t, false
	}
	t.Source, t.Destination = kernel.AddrPort(path.Source, path.SourcePort), kernel.AddrPort(path.Destination, path.DestinationPort)
	return t, true
}

// sawTranslations reports whether any was noted: on most hosts there are none to look up.
func (s *Sensor) sawTranslations() bool {
	var n uint64
	if s.objs.VgNatsSeen.Get(&n) == nil && n > 0 {
		return true
	}
	return s.translate != nil && s.translate.VgNatsSeen.Get(&n) == nil && n > 0
}

// watchTranslation loads what sees the translation of others' packets. Where it does not load (before Linux 6.4), the sensor does
// without; Rung says so.
func (s *Sensor) watchTranslation(h *kernel.Host) error {
	spec, err := loadTranslate()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	h.Share("vg_paths", s.objs.VgPaths)
	var objs translateObjects
	if h.LoadBeside(s.Name(), spec, nil, &objs) != nil {
		return nil
	}
	const behindSrcNAT = kernel.SrcNAT + 2*kernel.NetfilterTries // also where others have taken the next places
	if h.AttachNetfilter(s.Name(), objs.VgTranslate, kernel.NetfilterHook{Hook: link.NetfilterInetPostRouting, Priority: behindSrcNAT},
		kernel.NetfilterHook{Hook: link.NetfilterInetLocalIn, Priority: behindSrcNAT}) == nil {
		s.translate = &objs
	}
	return nil
}
