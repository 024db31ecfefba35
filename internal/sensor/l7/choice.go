// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/model"
)

// Workloads knows which cgroups belong to which workload; *workload.Resolver does.
type Workloads interface {
	Each(fn func(hierarchy uint32, id uint64, w *model.Workload))
}

// Choice says whose requests are looked at: those of workloads whose name matches a pattern. The kernel knows them by cgroup, from
// their first moment, and where the cgroup tells nothing by process, a moment after it began.
type Choice struct {
	everybody bool
	patterns  []string
	workloads Workloads

	processes, cgroups *ebpf.Map
	known              map[bpfVgCgroupRef]bool
	changed            atomic.Bool
}

// ParseChoice reads "off" (nil), "all", or patterns with commas between them: each is matched with a workload's name, or
// with namespace/name when it has a slash; * stands for anything but a slash.
func ParseChoice(text string, w Workloads) (*Choice, error) {
	switch text {
	case "", "off":
		return nil, nil
	case "all":
		return &Choice{everybody: true}, nil
	}
	c := &Choice{workloads: w, known: make(map[bpfVgCgroupRef]bool)}
	for pattern := range strings.SplitSeq(text, ",") {
		pattern = strings.TrimSpace(pattern)
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return nil, fmt.Errorf("%q is no pattern for names of workloads: use off, all, or names in which * stands for anything", pattern)
		}
		c.patterns = append(c.patterns, pattern)
	}
	c.changed.Store(true)
	return c, nil
}

// Everybody reports whether every process is chosen.
func (c *Choice) Everybody() bool { return c.everybody }

// NoticeWorkloads says that there are new workloads, or that more is known of one. Safe for concurrent use.
func (c *Choice) NoticeWorkloads() {
	if c != nil {
		c.changed.Store(true)
	}
}

// matches reports whether a workload is chosen.
func (c *Choice) matches(w *model.Workload) bool {
	if w == nil {
		return false
	}
	for _, p := range c.patterns {
		name := w.Name
		if strings.Contains(p, "/") {
			name = w.Namespace + "/" + w.Name
		}
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// enforce has the kernel's maps follow the choice.
func (c *Choice) enforce(processes, cgroups *ebpf.Map) error {
	c.processes, c.cgroups = processes, cgroups
	return c.refresh()
}

// refresh brings the kernel's list of cgroups up to date.
func (c *Choice) refresh() error {
	if c.workloads == nil || c.cgroups == nil || !c.changed.Swap(false) {
		return nil
	}
	var errs []error
	wanted := make(map[bpfVgCgroupRef]bool)
	c.workloads.Each(func(hierarchy uint32, id uint64, w *model.Workload) {
		if c.matches(w) {
			wanted[bpfVgCgroupRef{Id: id, Hierarchy: hierarchy}] = true
		}
	})
	for ref := range c.known {
		if !wanted[ref] {
			if err := c.cgroups.Delete(ref); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				errs = append(errs, err)
			}
			delete(c.known, ref)
		}
	}
	for ref := range wanted {
		if !c.known[ref] {
			if err := c.cgroups.Put(ref, uint8(1)); err != nil {
				errs = append(errs, err)
				continue
			}
			c.known[ref] = true
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("have cgroups of chosen workloads listened to: %w", errors.Join(errs...))
	}
	return nil
}

// Observe follows the processes of workloads that no cgroup tells. It is called with every event, by the goroutine that
// decodes.
func (c *Choice) Observe(ev *model.Event) {
	if c == nil || c.everybody || c.processes == nil || ev.Process == nil {
		return
	}
	switch ev.Type {
	case model.TypeExec, model.TypeFork:
		if w := ev.Process.Workload; w != nil && w.Cgroup == "" && c.matches(w) {
			_ = c.processes.Put(ev.Key.PID, ev.Key.Start)
		}
	case model.TypeExit:
		_ = c.processes.Delete(ev.Key.PID)
	}
}
