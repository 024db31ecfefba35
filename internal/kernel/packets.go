// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// onPackets are an owner's programs on each packet of each local socket.
type onPackets struct {
	owner           string // empty: nobody
	egress, ingress *ebpf.Program
}

func (p *onPackets) each() [2]*ebpf.Program { return [2]*ebpf.Program{p.egress, p.ingress} }

// packets is who has programs on packets, in the order in which they run: one pair is attached, the next are jumped to
// (bpf/packets.h). The links are those of whoever comes first; an owner that judges takes them over from one that looks.
type packets struct {
	judge, first, second onPackets
	links                [2]link.Link
}

// Places in vg_packets_egress and vg_packets_ingress (bpf/packets.h).
const (
	packetsFirst  = uint32(0)
	packetsSecond = uint32(1)
)

// OnPackets has two programs run for each packet of each local socket, which only look: they hand on to what comes after them, and
// return what was decided before. There can be two sensors that do.
func (h *Host) OnPackets(sensor string, egress, ingress *ebpf.Program) error {
	next := onPackets{sensor, egress, ingress}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.packets.first.owner == "":
		links, err := h.attachPackets(&next)
		if err != nil {
			return err
		}
		h.packets.first, h.packets.links = next, links
	case h.packets.second.owner == "":
		if err := h.handOn(packetsSecond, &next); err != nil {
			return err
		}
		h.packets.second = next
	default:
		return fmt.Errorf("run programs of sensor %s on packets: %s and %s have their places", sensor, h.packets.first.owner, h.packets.second.owner)
	}
	h.programs = append(h.programs, namedProgram{sensor, progName(egress), egress}, namedProgram{sensor, progName(ingress), ingress})
	return nil
}

// JudgePackets is OnPackets for two programs that decide, and then hand on to those that look. From one moment to the next they stand
// where the others stood.
func (h *Host) JudgePackets(owner string, egress, ingress *ebpf.Program) error {
	judge := onPackets{owner, egress, ingress}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &h.packets
	switch {
	case p.judge.owner != "":
		return fmt.Errorf("have %s judge packets: %s does", owner, p.judge.owner)
	case p.first.owner == "":
		if _, err := h.attachPackets(&judge); err != nil {
			return err
		}
	default:
		err := h.handOn(packetsFirst, &p.first)
		for i, prog := range judge.each() {
			if err == nil {
				err = p.links[i].Update(prog)
			}
		}
		if err != nil {
			return errors.Join(Explain(fmt.Sprintf("attach %s of %s", progName(egress), owner), err), h.giveBack())
		}
		h.rename(owner)
		p.judge = judge
	}
	h.programs = append(h.programs, namedProgram{owner, progName(egress), egress}, namedProgram{owner, progName(ingress), ingress})
	return nil
}

func (h *Host) attachPackets(p *onPackets) (links [2]link.Link, err error) {
	for i, at := range [2]ebpf.AttachType{ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetIngress} {
		if links[i], err = h.attachCgroup(p.owner, p.each()[i], at); err != nil {
			return links, err
		}
		h.links = append(h.links, namedLink{sensor: p.owner, Link: links[i]})
	}
	return links, nil
}

func (h *Host) handOn(place uint32, p *onPackets) error {
	if err := errors.Join(h.objs.VgPacketsEgress.Put(place, p.egress), h.objs.VgPacketsIngress.Put(place, p.ingress)); err != nil {
		return Explain(fmt.Sprintf("hand packets on to %s of %s", progName(p.egress), p.owner), err)
	}
	return nil
}

func (h *Host) handOnNoMore(place uint32) (err error) {
	for _, m := range []*ebpf.Map{h.objs.VgPacketsEgress, h.objs.VgPacketsIngress} {
		if e := m.Delete(place); e != nil && !errors.Is(e, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// rename says whose the links on packets are.
func (h *Host) rename(owner string) {
	for i := range h.links {
		if l := h.links[i].Link; l == h.packets.links[0] || l == h.packets.links[1] {
			h.links[i].sensor = owner
		}
	}
}

// giveBack puts those that look where the one that judged stood.
func (h *Host) giveBack() (err error) {
	p := &h.packets
	for i, prog := range p.first.each() {
		err = errors.Join(err, p.links[i].Update(prog))
	}
	h.rename(p.first.owner)
	p.judge = onPackets{}
	return errors.Join(err, h.handOnNoMore(packetsFirst))
}

// offPackets takes back what an owner has on packets, before its links are closed. What is pinned stays as it is: who judges goes on,
// and hands on as long as the agent is there. Behind a first one that is gone nobody sees packets.
func (h *Host) offPackets(owner string) (err error) {
	p := &h.packets
	switch owner {
	case p.judge.owner:
		if !h.pinnedPackets() {
			return h.giveBack()
		}
		p.judge, p.first = onPackets{}, onPackets{}
	case p.second.owner:
		p.second = onPackets{}
		return h.handOnNoMore(packetsSecond)
	case p.first.owner:
		p.first = onPackets{}
	}
	return nil
}

func (h *Host) pinnedPackets() bool {
	for _, l := range h.links {
		if l.Link == h.packets.links[0] && l.pinned != "" {
			_, err := os.Stat(l.pinned)
			return err == nil
		}
	}
	return false
}
