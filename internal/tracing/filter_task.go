// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/vigie-io/vigie/internal/model"
)

// matchPID tests the process's id, in the host's or in its own pid namespace, or whether it descends from one.
func (c *compiler) matchPID(path string, m *PIDMatch, fail string) {
	hit := c.label("hit")
	values := make([]uint64, len(m.Values))
	for i, v := range m.Values {
		values[i] = uint64(v)
	}
	if m.FollowForks {
		bit, err := c.follow.pids(m.Values, m.IsNamespacePID)
		if err != nil {
			c.fail(path+".followForks", "%v", err)
			return
		}
		c.emit(asm.Mov.Imm(asm.R1, 0))
		c.call("vg_followed")
		c.ifBit(asm.R0, bit, hit)
	}
	if m.IsNamespacePID {
		c.call("vg_ns_pid")
		c.emit(asm.Mov.Reg(regValue, asm.R0))
	} else {
		c.emit(asm.LoadMem(regValue, regScratch, offHeader+int16(unsafe.Offsetof(bpfVgHeader{}.Pid)), asm.Word))
	}
	c.among(values, m.Operator == "In", hit, fail)
}

// among ends a test of regValue: it must, or must not, be one of the numbers. hit is where a test before may have gone.
func (c *compiler) among(numbers []uint64, want bool, hit, fail string) {
	c.numberIn(numbers, hit)
	c.decide(want, hit, fail)
}

// decide ends a test that jumps to hit: what comes here has not been hit.
func (c *compiler) decide(want bool, hit, fail string) {
	if want {
		c.jump(fail)
		c.place(hit)
		return
	}
	through := c.label("through")
	c.jump(through)
	c.place(hit)
	c.jump(fail)
	c.place(through)
}

// ifBit jumps when one bit of a register is set.
func (c *compiler) ifBit(r asm.Register, bit int, label string) {
	c.imm(asm.R1, 1<<bit)
	c.emit(asm.And.Reg(asm.R1, r), asm.JNE.Imm(asm.R1, 0, label))
}

// namespaceNames are the kinds, in the order of vg_namespace, and where /proc has them.
func namespaceNames() []struct{ name, file string } {
	return []struct{ name, file string }{{"Uts", "uts"}, {"Ipc", "ipc"}, {"Mnt", "mnt"}, {"Pid", "pid"}, {"PidForChildren", "pid_for_children"},
		{"Net", "net"}, {"Time", "time"}, {"TimeForChildren", "time_for_children"}, {"Cgroup", "cgroup"}, {"User", "user"}}
}

const userNamespace = 9 // in namespaceNames

func (c *compiler) matchNamespace(path string, m *NamespaceMatch, fail string) {
	which := slices.IndexFunc(namespaceNames(), func(n struct{ name, file string }) bool { return n.name == m.Namespace })
	var values []uint64
	for i, s := range m.Values {
		var n uint64
		var err error
		if s == "host_ns" {
			n, err = hostNamespace(namespaceNames()[which].file)
		} else {
			n, err = strconv.ParseUint(s, 10, 32)
		}
		if err != nil {
			c.fail(fmt.Sprintf("%s.values[%d]", path, i), "%q is neither a namespace's number nor host_ns that can be read: %v", s, err)
			continue
		}
		values = append(values, n)
	}
	c.emit(asm.Mov.Imm(asm.R1, int32(which)))
	c.call("vg_namespace")
	c.emit(asm.Mov.Reg(regValue, asm.R0))
	c.among(values, m.Operator == "In", c.label("hit"), fail)
}

// hostNamespace is the number of a namespace of the host's first process; of the agent itself where that one's cannot be read.
func hostNamespace(file string) (uint64, error) {
	link, err := os.Readlink(filepath.Join("/proc/1/ns", file))
	if err != nil {
		link, err = os.Readlink(filepath.Join("/proc/self/ns", file))
	}
	if err != nil {
		return 0, err
	}
	_, n, _ := strings.Cut(link, ":[")
	return strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 32)
}

// capSets are the sets in the order of vg_own_caps.
func capSets() []string { return []string{"Effective", "Inheritable", "Permitted"} }

func (c *compiler) matchCapability(path string, m *CapabilityMatch, fail string) {
	if m.IsNamespaceCapability { // only of processes in a user namespace other than the host's
		host, err := hostNamespace("user")
		if err != nil {
			c.fail(path+".isNamespaceCapability", "the host's user namespace cannot be read: %v", err)
		}
		c.emit(asm.Mov.Imm(asm.R1, userNamespace))
		c.call("vg_namespace")
		c.jumpIf(asm.JEq, asm.R0, host, fail)
	}
	which := max(0, slices.Index(capSets(), m.Type))
	c.emit(asm.Mov.Imm(asm.R1, int32(which)))
	c.call("vg_own_caps")
	c.anyOf(capMask(m.Values), m.Operator, fail)
}

func capByName(name string) (model.Cap, bool) {
	for c := model.Cap(0); c < 64; c++ {
		if strings.EqualFold(c.String(), name) {
			return c, true
		}
	}
	return 0, false
}

// capabilitiesGained: the second value has a capability that the first one lacks.
func (c *compiler) capabilitiesGained(m *ArgMatch, values []*value, fail string) {
	before, after := values[m.Args[0]], values[m.Args[1]]
	c.emit(
		asm.LoadMem(asm.R1, regScratch, slotValue(before.slot), asm.DWord),
		asm.LoadMem(asm.R2, regScratch, slotValue(after.slot), asm.DWord),
		asm.Xor.Imm(asm.R1, -1), asm.And.Reg(asm.R1, asm.R2), asm.JEq.Imm(asm.R1, 0, fail))
}

// matchBinary tests the path of the program that the process, or its parent, runs. The answer is kept for the image.
func (c *compiler) matchBinary(path string, m *BinaryMatch, parent bool, fail string) {
	op, negated := map[string]string{"In": "Equal", "NotIn": "Equal", "Prefix": "Prefix", "NotPrefix": "Prefix", "Postfix": "Postfix",
		"NotPostfix": "Postfix"}[m.Operator], strings.HasPrefix(m.Operator, "Not")
	values := m.Values
	if op == "Equal" {
		values = withTargets(values)
	}
	hit := c.label("hit")
	var whose int32
	if parent {
		whose = 1
	}
	if m.FollowChildren {
		bit, err := c.follow.binaries(op, values)
		if err != nil {
			c.fail(path+".followChildren", "%v", err)
			return
		}
		c.emit(asm.Mov.Imm(asm.R1, whose))
		c.call("vg_followed")
		c.ifBit(asm.R0, bit, hit)
	}
	// One for all tests of the hook, 24 bytes of key. Full: the least recently used goes, and its path is walked again.
	cache := &ebpf.MapSpec{Name: c.prefix + "_exes", Type: ebpf.LRUHash, KeySize: 24, ValueSize: 8, MaxEntries: 8192}
	test := int32(c.exeTests)
	c.exeTests++
	yes, no, end := c.label("yes"), c.label("no"), c.label("end")
	c.emit(asm.Mov.Reg(asm.R1, regScratch), asm.Mov.Imm(asm.R2, whose))
	c.call("vg_image_of")
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	c.loadMap(asm.R2, cache)
	c.emit(asm.Mov.Imm(asm.R3, test))
	c.call("vg_cached")
	c.emit(asm.JEq.Imm(asm.R0, 2, hit), asm.JEq.Imm(asm.R0, 1, end))
	if parent {
		c.emit(asm.Mov.Reg(asm.R1, regScratch))
		c.call("vg_parent_exe")
	} else {
		c.emit(asm.FnGetCurrentTaskBtf.Call(), asm.Mov.Reg(asm.R1, regScratch), asm.Mov.Reg(asm.R2, asm.R0))
		c.call("vg_exe")
	}
	c.pathText(no)
	c.textTest(path, op, values, yes)
	c.place(no)
	c.cacheExe(cache, test, 0)
	c.jump(end)
	c.place(yes)
	c.cacheExe(cache, test, 1)
	c.jump(hit)
	c.place(end)
	c.decide(!negated, hit, fail)
}

// withTargets adds what symbolic links of this host lead to: what a process runs is a file, whatever name it was started by.
func withTargets(paths []string) []string {
	out := slices.Clone(paths)
	for _, p := range paths {
		if target, err := filepath.EvalSymlinks(p); err == nil && !slices.Contains(out, target) {
			out = append(out, target)
		}
	}
	return out
}

func (c *compiler) cacheExe(cache *ebpf.MapSpec, test, found int32) {
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	c.loadMap(asm.R2, cache)
	c.emit(asm.Mov.Imm(asm.R3, test), asm.Mov.Imm(asm.R4, found))
	c.call("vg_cache")
}

// inWorkloads jumps to fail unless the current process is in one of the set's workloads.
func (c *compiler) inWorkloads(set *workloadSet, fail string) {
	if set == nil {
		return
	}
	c.loadMap(asm.R1, set.spec)
	c.call("vg_in_cgroups")
	out := asm.JEq
	if set.host { // the map is of those that are not selected
		out = asm.JNE
	}
	c.emit(out.Imm(asm.R0, 0, fail))
}

// matchChanges tests whether the process has other namespaces or capabilities than at its exec.
func (c *compiler) matchChanges(s *selectorPlan, fail string) {
	for i := range s.MatchNamespaceChanges {
		m := &s.MatchNamespaceChanges[i]
		var mask uint64
		for bit, n := range namespaceNames() {
			if slices.Contains(m.Values, n.name) {
				mask |= 1 << bit
			}
		}
		c.call("vg_changed_namespaces")
		c.anyOf(mask, m.Operator, fail)
		c.env.changes = true
	}
	for i := range s.MatchCapabilityChanges {
		m := &s.MatchCapabilityChanges[i]
		c.emit(asm.Mov.Imm(asm.R1, int32(max(0, slices.Index(capSets(), m.Type)))))
		c.call("vg_changed_caps")
		c.anyOf(capMask(m.Values), m.Operator, fail)
		c.env.changes = true
	}
}

// anyOf ends a test of R0: it must, or must not, have one of the bits.
func (c *compiler) anyOf(mask uint64, operator, fail string) {
	hit := c.label("hit")
	c.imm(asm.R1, mask)
	c.emit(asm.And.Reg(asm.R1, asm.R0), asm.JNE.Imm(asm.R1, 0, hit))
	c.decide(operator == "In", hit, fail)
}

func capMask(names []string) (mask uint64) {
	for _, s := range names {
		if capability, ok := capByName(s); ok { // plan has refused others
			mask |= 1 << capability
		}
	}
	return mask
}
