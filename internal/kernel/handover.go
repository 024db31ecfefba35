// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// An upgrade misses nothing in this way: the agent that stops pins its links, rings and counters in bpffs,
// so that its programs go on writing into its rings. The agent that starts attaches programs of its own,
// notes the time, takes the old rings' records from before that time and its own records from then on, and
// removes the pins. When no agent comes, the programs fall silent at the end of a lease and only count.

// HandoverDir is where bpffs keeps what one agent leaves to the next.
const HandoverDir = "/sys/fs/bpf/vigie"

// Lease is how long programs go on writing records without an agent. At 5,000 exec/s the security ring
// holds a second; a restart takes less.
const Lease = time.Minute

const bpffsMagic = 0xcafe4a11 // BPF_FS_MAGIC, include/uapi/linux/magic.h

// pinned are the maps that a successor reads; the others live on through the programs.
func (h *Host) pinned() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{"vg_security": h.objs.VgSecurity, "vg_telemetry": h.objs.VgTelemetry,
		"vg_losses": h.objs.VgLosses, "vg_state": h.objs.VgState,
		// The kernel empties a program array when the last file descriptor or pin of it goes.
		"vg_syscalls": h.objs.VgSyscalls, "vg_packets_egress": h.objs.VgPacketsEgress, "vg_packets_ingress": h.objs.VgPacketsIngress}
}

// Handover pins everything below dir for the next agent. Call it after the last Read, before Close. On an
// error nothing is left pinned, and Close detaches everything as usual.
func (h *Host) Handover(dir string) (err error) {
	if err := ensureBPFFS(dir); err != nil {
		return err
	}
	dir = filepath.Join(dir, h.layout())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the handover directory: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if err := h.forgetLosses(); err != nil {
		return err
	}
	for name, m := range h.pinned() {
		// The pin is wanted, the map object's memory of it is not: closing must not remove it.
		clone, err := m.Clone()
		if err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
		err = errors.Join(clone.Pin(filepath.Join(dir, name)), clone.Close())
		if err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, l := range h.links {
		if _, err := os.Stat(l.pinned); l.pinned != "" && err == nil {
			continue // outlives the agent by itself
		}
		if err := l.Unpin(); l.pinned != "" && err != nil {
			return fmt.Errorf("forget an old pin of link %d: %w", i, err)
		}
		if err := l.Pin(filepath.Join(dir, fmt.Sprintf("link_%d", i))); err != nil {
			return fmt.Errorf("pin link %d: %w", i, err)
		}
	}
	now, err := BootTime()
	if err != nil {
		return err
	}
	return h.objs.VgState.Put(uint32(0), bpfVgAgent{Lease: now + uint64(Lease)})
}

// forgetLosses zeroes the kernel's loss counters, which have been told, so that the successor reads what
// was lost since.
func (h *Host) forgetLosses() error {
	zero := make([]uint64, ebpf.MustPossibleCPU())
	for i := range h.reasons {
		if err := h.objs.VgLosses.Put(uint32(i), zero); err != nil {
			return fmt.Errorf("reset the loss counters: %w", err)
		}
	}
	return nil
}

// Pin pins below dir the links of those that which names, so that their programs stay attached when this process is gone,
// however it ends. What is pinned there already stays. The caller removes the directory when they shall end.
func (h *Host) Pin(dir string, which func(sensor string) bool) error {
	if err := ensureBPFFS(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of pins: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, l := range h.links {
		if !which(l.sensor) {
			continue
		}
		info, err := l.Info()
		if err != nil {
			return Explain("pin a link of "+l.sensor, err)
		}
		name := filepath.Join(dir, fmt.Sprintf("link_%d", info.ID))
		h.links[i].pinned = name
		if _, err := os.Stat(name); err == nil {
			continue
		}
		if err := l.Pin(name); err != nil {
			return Explain("pin a link of "+l.sensor, err)
		}
	}
	return nil
}

// Inherited is what an earlier agent left.
type Inherited struct {
	Records [][]byte // in the order of Read: security, then telemetry
	// Foreign are records of an agent of another version, which this one cannot read.
	Foreign int
	Losses  []pipeline.LossCount
}

// Inherit takes what an earlier agent left below dir, once all programs of this one are attached, and
// removes it. Records of this host's own rings from before that moment are then passed over by Read: the
// earlier agent's programs reported them too. Nothing there is no error.
func (h *Host) Inherit(dir string) (*Inherited, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || len(entries) == 0 {
		return &Inherited{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the handover directory: %w", err)
	}
	got := new(Inherited)
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if err := h.inherit(path, e.Name() == h.layout(), got); err != nil {
			errs = append(errs, err)
		}
		if err := os.RemoveAll(path); err != nil {
			errs = append(errs, fmt.Errorf("remove what the earlier agent left: %w", err))
		}
	}
	return got, errors.Join(errs...)
}

func (h *Host) inherit(path string, readable bool, got *Inherited) error {
	now, err := BootTime()
	if err != nil {
		return err
	}
	h.since = now
	var names []string
	if links, err := filepath.Glob(filepath.Join(path, "link_*")); err == nil {
		names = links
	}
	// Detached first: from here on only this agent's programs write.
	for _, name := range names {
		l, err := link.LoadPinnedLink(name, nil)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if err := errors.Join(l.Unpin(), l.Close()); err != nil {
			return fmt.Errorf("detach %s: %w", name, err)
		}
	}
	for _, ring := range []string{"vg_security", "vg_telemetry"} {
		if err := h.inheritRing(filepath.Join(path, ring), readable, got); err != nil {
			return err
		}
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(path, "vg_losses"), nil)
	if err != nil {
		return fmt.Errorf("open the earlier agent's loss counters: %w", err)
	}
	defer m.Close()
	if !readable {
		return nil // the reasons may have other numbers
	}
	for i, reason := range h.reasons {
		var perCPU []uint64
		if err := m.Lookup(uint32(i), &perCPU); err != nil {
			return fmt.Errorf("read the earlier agent's loss counters: %w", err)
		}
		if n := sum(perCPU); n > 0 {
			got.Losses = append(got.Losses, pipeline.LossCount{LossKey: pipeline.LossKey{Stage: "handover", Reason: reason}, Count: n})
		}
	}
	return nil
}

func (h *Host) inheritRing(path string, readable bool, got *Inherited) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return fmt.Errorf("open the earlier agent's ring: %w", err)
	}
	defer m.Close()
	left, err := openRing(m)
	if err != nil {
		return fmt.Errorf("open the earlier agent's ring: %w", err)
	}
	drain(left, int(m.MaxEntries()), func(rec Record) bool {
		switch hdr := rec.Header(); {
		case !readable:
			got.Foreign++
		case hdr != nil && hdr.Time < h.since:
			got.Records = append(got.Records, append([]byte(nil), rec...))
		}
		return true
	})
	return left.close()
}

// layout names the form of all records of all loaded sensors: two agents understand each other's rings when
// it is the same.
func (h *Host) layout() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return hex.EncodeToString(h.layoutHash.Sum(nil))[:16]
}

// addLayout adds the record types of one object, those that VG_EXPORT names.
func (h *Host) addLayout(spec *ebpf.CollectionSpec) {
	for typ, err := range spec.Types.All() {
		if err != nil {
			return
		}
		if !strings.HasPrefix(typ.TypeName(), "vg_") {
			continue
		}
		switch typ := typ.(type) {
		case *btf.Struct:
			fmt.Fprintf(h.layoutHash, "struct %s %d\n", typ.Name, typ.Size)
			for _, m := range typ.Members {
				fmt.Fprintf(h.layoutHash, "%s %d\n", m.Name, m.Offset)
			}
		case *btf.Enum:
			for _, v := range typ.Values {
				fmt.Fprintf(h.layoutHash, "%s %d\n", v.Name, v.Value)
			}
		}
	}
}

// ensureBPFFS mounts bpffs at its usual place when dir, or what exists of the path to it, is not in one.
func ensureBPFFS(dir string) error {
	var st unix.Statfs_t
	for err := unix.Statfs(dir, &st); err != nil && dir != "/"; err = unix.Statfs(dir, &st) {
		dir = filepath.Dir(dir)
	}
	if st.Type == bpffsMagic {
		return nil
	}
	const mount = "/sys/fs/bpf"
	if err := unix.Mount("bpf", mount, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return &UnsupportedError{Feature: "an upgrade without a gap", Cause: fmt.Sprintf("%s is no bpffs and could not be made one: %v", mount, err),
			Needs: "mount -t bpf bpf " + mount}
	}
	return nil
}

func sum(list []uint64) (n uint64) {
	for _, v := range list {
		n += v
	}
	return n
}
