// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// NetfilterHook is a place where a program sees packets of the calling thread's network namespace, for IPv4 and IPv6.
type NetfilterHook struct {
	Hook link.NetfilterInetHook
	// Priority is the highest; where a program has it already, the next lower one that is free: of another agent, or of the one before.
	Priority int32
}

// SrcNAT is the priority of netfilter's own hook that translates sources (NF_IP_PRI_NAT_SRC, include/uapi/linux/netfilter_ipv4.h).
const SrcNAT = 100

// NetfilterTries is how many programs of others can stand at one place: a program may end up at so much lower a priority.
const NetfilterTries = 16

// AttachNetfilter attaches a program at each of the hooks (6.4).
func (h *Host) AttachNetfilter(sensor string, p *ebpf.Program, at ...NetfilterHook) error {
	for _, family := range []link.NetfilterProtocolFamily{link.NetfilterProtoIPv4, link.NetfilterProtoIPv6} {
		for _, hook := range at {
			l, err := attachNetfilter(p, family, hook)
			if err != nil {
				return Explain(fmt.Sprintf("attach %s of %s to netfilter", progName(p), sensor), err)
			}
			h.keep(sensor, progName(p), p, l)
		}
	}
	return nil
}

func attachNetfilter(p *ebpf.Program, family link.NetfilterProtocolFamily, hook NetfilterHook) (l link.Link, err error) {
	for try := range int32(NetfilterTries) {
		l, err = link.AttachNetfilter(link.NetfilterOptions{Program: p, ProtocolFamily: family, Hook: hook.Hook, Priority: hook.Priority - try})
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return l, err
}
