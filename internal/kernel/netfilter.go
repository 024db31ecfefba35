// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// NetfilterHook is a place where a program sees packets of the calling thread's network namespace, for IPv4 and IPv6.
type NetfilterHook struct {
	Hook     link.NetfilterInetHook
	Priority int32
}

// AttachNetfilter attaches a program at each of the hooks (6.4).
func (h *Host) AttachNetfilter(sensor string, p *ebpf.Program, at ...NetfilterHook) error {
	for _, family := range []link.NetfilterProtocolFamily{link.NetfilterProtoIPv4, link.NetfilterProtoIPv6} {
		for _, hook := range at {
			l, err := link.AttachNetfilter(link.NetfilterOptions{Program: p, ProtocolFamily: family, Hook: hook.Hook, Priority: hook.Priority})
			if err != nil {
				return Explain(fmt.Sprintf("attach %s of %s to netfilter", progName(p), sensor), err)
			}
			h.keep(sensor, progName(p), p, l)
		}
	}
	return nil
}
