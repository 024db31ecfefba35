// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// packets are who has programs on each packet of each local socket: the first's are attached, the second's are jumped to by
// the first's (bpf/packets.h).
type packets struct{ first, second string }

// OnPackets has two programs run for each packet of each local socket. They only look: both let every packet pass. The first sensor's
// programs must hand on to those of the second, of which there can be one.
func (h *Host) OnPackets(sensor string, egress, ingress *ebpf.Program) error {
	h.mu.Lock()
	has := h.packets
	h.mu.Unlock()
	switch {
	case has.second != "":
		return fmt.Errorf("run programs of sensor %s on packets: %s and %s have their places", sensor, has.first, has.second)
	case has.first == "":
		err := h.AttachCgroup(sensor, egress, ebpf.AttachCGroupInetEgress)
		if err == nil {
			err = h.AttachCgroup(sensor, ingress, ebpf.AttachCGroupInetIngress)
		}
		if err == nil {
			h.mu.Lock()
			h.packets.first = sensor
			h.mu.Unlock()
		}
		return err
	}
	err := errors.Join(h.objs.VgPacketsEgress.Put(uint32(0), egress), h.objs.VgPacketsIngress.Put(uint32(0), ingress))
	if err != nil {
		return Explain(fmt.Sprintf("hand packets on to %s of sensor %s", progName(egress), sensor), err)
	}
	h.mu.Lock()
	h.packets.second = sensor
	h.mu.Unlock()
	h.keep(sensor, progName(egress), egress, nil)
	h.keep(sensor, progName(ingress), ingress, nil)
	return nil
}

// offPackets takes back what OnPackets did for a sensor, whose links are closed already. Behind one that is gone nobody sees packets.
func (h *Host) offPackets(sensor string) (err error) {
	if h.packets.second == sensor {
		h.packets.second = ""
		err = errors.Join(h.objs.VgPacketsEgress.Delete(uint32(0)), h.objs.VgPacketsIngress.Delete(uint32(0)))
	}
	if h.packets.first == sensor {
		h.packets.first = ""
	}
	return err
}
