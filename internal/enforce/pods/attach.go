// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// forwardName is what the programs behind translation are called.
const forwardName = name + " forward"

// load loads the programs when they are needed for the first time.
func (e *Enforcer) load() error {
	if e.loaded {
		return nil
	}
	err := e.options.InHost(func() error {
		var st unix.Stat_t
		err := unix.Stat("/proc/thread-self/ns/net", &st)
		e.netns = uint32(st.Ino)
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the node's network namespace: %w", err)
	}
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	if err := e.options.Host.LoadBeside(name, spec, nil, &e.objs); err != nil {
		return err
	}
	e.loaded = true
	if e.why = e.loadForward(); e.why != nil {
		e.options.Log.Warn("a service is judged by its own address, not by the pod that a connection comes to", "reason", e.why)
	}
	return nil
}

// loadForward loads the programs that see translated packets, which share the maps of the others.
func (e *Enforcer) loadForward() error {
	spec, err := loadForward()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	for name, m := range map[string]*ebpf.Map{"vg_np_state": e.objs.VgNpState, "vg_np_pods": e.objs.VgNpPods, "vg_np_addrs": e.objs.VgNpAddrs,
		"vg_np_local": e.objs.VgNpLocal, "vg_np_tables": e.objs.VgNpTables, "vg_np_classes": e.objs.VgNpClasses, "vg_np_blocks": e.objs.VgNpBlocks,
		"vg_np_ports": e.objs.VgNpPorts, "vg_np_names": e.objs.VgNpNames, "vg_np_services": e.objs.VgNpServices, "vg_np_talks": e.objs.VgNpTalks,
		"vg_np_counts": e.objs.VgNpCounts, "vg_np_hits": e.objs.VgNpHits, "vg_np_told": e.objs.VgNpTold} {
		e.options.Host.Share(name, m)
	}
	var objs forwardObjects
	if err := e.options.Host.LoadBeside(forwardName, spec, nil, &objs); err != nil {
		return err
	}
	e.forward = &objs
	return nil
}

// filter is the priority of netfilter's own hook that filters (include/uapi/linux/netfilter_ipv4.h).
const filter = 0

// attach puts the programs at their hooks, once.
func (e *Enforcer) attach() error {
	if e.attached {
		return nil
	}
	host := e.options.Host
	err := host.JudgePackets(name, e.objs.VgNpEgress, e.objs.VgNpIngress)
	if err == nil && e.forward != nil {
		err = e.options.InHost(func() error {
			return host.AttachNetfilter(forwardName, e.forward.VgNpForward,
				kernel.NetfilterHook{Hook: link.NetfilterInetPostRouting, Priority: kernel.SrcNAT - 10},
				kernel.NetfilterHook{Hook: link.NetfilterInetLocalIn, Priority: filter - 10})
		})
	}
	if err != nil {
		return errors.Join(err, e.detach())
	}
	e.attached = true
	return e.pin()
}

func (e *Enforcer) detach() error {
	e.attached = false
	return errors.Join(e.options.Host.Detach(name), e.options.Host.Detach(forwardName))
}

// pin has the programs outlive the agent: policies hold while it is replaced.
func (e *Enforcer) pin() error {
	if e.options.PinDir == "" {
		return nil
	}
	return e.options.Host.Pin(e.ownPins(), func(sensor string) bool { return sensor == name || sensor == forwardName })
}

func (e *Enforcer) ownPins() string {
	return filepath.Join(e.options.PinDir, fmt.Sprintf("agent-%d-%x", os.Getpid(), e.started))
}

// ReleaseEarlier ends what agents before this one left in force. Call it when this one's policies are.
func (e *Enforcer) ReleaseEarlier() error {
	entries, err := os.ReadDir(e.options.PinDir)
	if errors.Is(err, os.ErrNotExist) || e.options.PinDir == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for network policies of an earlier agent: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if dir := filepath.Join(e.options.PinDir, entry.Name()); dir != e.ownPins() {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end the network policies of an earlier agent: %w", err)
	}
	return nil
}

// stop takes all policies out of force. What is loaded stays, for the next.
func (e *Enforcer) stop() error {
	if !e.attached {
		return nil
	}
	var errs []error
	if e.options.PinDir != "" {
		errs = append(errs, os.RemoveAll(e.ownPins())) // what is pinned would stay
	}
	errs = append(errs, e.detach())
	e.state = State{}
	e.world = nil
	return errors.Join(errs...)
}
