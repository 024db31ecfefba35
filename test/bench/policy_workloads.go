// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// shared is how many of a workload's policies are those of all workloads; it has one more of its own.
const shared = 4

// populated is an agent with many workloads that are under policies each.
type populated struct {
	Workloads   int           `json:"workloads"`
	Policies    int           `json:"policies"`
	Rules       int           `json:"rules"` // of all policies
	Before      footprint     `json:"before"`
	After       footprint     `json:"after"`
	ReadyBefore time.Duration `json:"ready_before_ns"` // from its start, without policies
	ReadyAfter  time.Duration `json:"ready_after_ns"`  // until all policies were in force
	CPUBefore   time.Duration `json:"cpu_before_ns"`   // of the agent until then
	CPUAfter    time.Duration `json:"cpu_after_ns"`
}

// footprint is the memory of an agent, in bytes.
type footprint struct {
	RSS  uint64 `json:"rss"`
	Peak uint64 `json:"peak"`
	Heap uint64 `json:"heap"`
	Maps uint64 `json:"maps"` // of the kernel, for its BPF maps
	// CPU is the share of a core that the agent used meanwhile, while nothing was done on purpose.
	CPU float64 `json:"cpu"`
}

// manyWorkloads looks at the agent's memory beside many workloads, without policies and with some for each.
func (b *bench) manyWorkloads(ctx context.Context) error {
	f, err := b.makeDenied(fewRules)
	if err != nil {
		return err
	}
	defer f.remove()
	units, err := makeUnits(b.workloads)
	if err != nil {
		return err
	}
	defer units.remove()
	policies := workloadPolicies(units, f)
	r := populated{Workloads: b.workloads, Policies: len(policies)}
	for _, p := range policies {
		r.Rules += len(p.Files) + len(p.Networks)
	}
	dir, err := b.policyDir(policies)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.withAgent(ctx, func(a *agent) (err error) {
		r.ReadyBefore = a.ready
		if r.CPUBefore, err = a.cpu(); err != nil {
			return err
		}
		r.Before, err = b.footprintAfter(ctx, a)
		return err
	}); err != nil {
		return err
	}
	b.say("  without policies: %+v", r.Before)
	if err := b.withAgent(ctx, func(a *agent) (err error) {
		last := policies[len(policies)-1].Name
		if _, err := a.inForce(ctx, last); err != nil {
			return err
		}
		r.ReadyAfter = time.Since(a.started)
		if r.CPUAfter, err = a.cpu(); err != nil {
			return err
		}
		if err := b.deniedInUnit(ctx, units); err != nil {
			return err
		}
		r.After, err = b.footprintAfter(ctx, a)
		return err
	}, append(f.flags(), "--policy-dir", dir, "--max-policies", fmt.Sprint(max(3*b.workloads/2, 1024)))...); err != nil {
		return err
	}
	b.say("  with policies: %+v", r)
	b.results.Populated = &r
	return nil
}

// workloadPolicies are one policy for each unit, which denies what no other does, and some for all of them.
func workloadPolicies(u *units, f *files) []ruleSet {
	var out []ruleSet
	for i := range u.n {
		out = append(out, ruleSet{Name: fmt.Sprintf("unit-%05d", i), Unit: u.name(i),
			Files:    []string{fmt.Sprintf("%s/secret-%05d", f.dir, i), fmt.Sprintf("%s/key-%05d", f.dir, i)},
			Networks: []string{ownHost(i), fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)}})
	}
	for i := range shared {
		out = append(out, ruleSet{Name: fmt.Sprintf("shared-%d", i), Unit: unitPrefix + "*.service",
			Files: []string{f.denied[2*i], f.denied[2*i+1]}, Networks: []string{fmt.Sprintf("172.%d.0.0/16", 16+i), fmt.Sprintf("192.168.%d.0/24", i)}})
	}
	return out
}

// ownHost is an address of loopback that the policy of one unit denies.
func ownHost(i int) string { return fmt.Sprintf("127.%d.%d.%d", 100+i>>16, i>>8&0xff, i&0xff) }

// deniedInUnit sees that the policy of the last unit is the one that holds in it: its address is denied.
func (b *bench) deniedInUnit(ctx context.Context, u *units) error {
	w, err := b.watch(ctx, "-", ownHost(u.n-1))
	if err != nil {
		return err
	}
	defer w.end()
	if err := u.move(w.cmd.Process.Pid, u.n-1); err != nil {
		return err
	}
	_, err = w.await(true, "connect")
	return err
}

// footprintAfter is the agent's memory when it had time to collect its garbage.
func (b *bench) footprintAfter(ctx context.Context, a *agent) (f footprint, err error) {
	if err := pause(ctx, settle); err != nil {
		return f, err
	}
	before, err := a.cpu()
	if err != nil {
		return f, err
	}
	start := time.Now()
	if f.RSS, f.Peak, _, err = b.residentAfter(ctx, a); err != nil {
		return f, err
	}
	after, err := a.cpu()
	if err != nil {
		return f, err
	}
	f.CPU = (after - before).Seconds() / time.Since(start).Seconds()
	st, err := a.status(ctx)
	if err != nil {
		return f, err
	}
	f.Heap, f.Maps = st.Memory.GetHeap(), st.Memory.GetMaps()
	return f, nil
}

// units are cgroups that are named like units of systemd, below a slice of their own.
type units struct {
	slice string
	n     int
}

const unitPrefix = "vigie-bench-"

var errNoCgroup2 = errors.New("no cgroup2 file system is mounted: workloads have no cgroups here")

func makeUnits(n int) (*units, error) {
	root := cgroupRoot(measure.SysText("/proc/self/mounts"))
	if root == "" {
		return nil, errNoCgroup2
	}
	u := &units{slice: filepath.Join(root, fmt.Sprintf("vigiebench%d.slice", os.Getpid())), n: n}
	for i := -1; i < n; i++ {
		dir := u.slice
		if i >= 0 {
			dir = u.dir(i)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			u.remove()
			return nil, fmt.Errorf("make the cgroups of %d workloads: %w", n, err)
		}
	}
	return u, nil
}

func (u *units) name(i int) string { return fmt.Sprintf("%s%05d.service", unitPrefix, i) }
func (u *units) dir(i int) string  { return filepath.Join(u.slice, u.name(i)) }

// move puts a process into a unit.
func (u *units) move(pid, i int) error {
	if err := os.WriteFile(filepath.Join(u.dir(i), "cgroup.procs"), []byte(fmt.Sprint(pid)), 0); err != nil {
		return fmt.Errorf("put a process into %s: %w", u.name(i), err)
	}
	return nil
}

// remove removes the cgroups. One whose last process is only just gone is busy for a moment.
func (u *units) remove() {
	for i := range u.n + 1 {
		dir := u.slice
		if i < u.n {
			dir = u.dir(i)
		}
		for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
			if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
				break
			}
		}
	}
}
