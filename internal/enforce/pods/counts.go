// SPDX-License-Identifier: Apache-2.0

package pods

// count reads one of the kernel's counts (enum vg_np_count).
func (e *Enforcer) count(what bpfVgNpCount) (n uint64) {
	var perCPU []uint64
	if err := e.objs.VgNpCounts.Lookup(uint32(what), &perCPU); err != nil {
		return 0 // it is there as long as the programs are
	}
	for _, one := range perCPU {
		n += one
	}
	return n
}

// CountLosses brings what the kernel's programs dropped for other reasons than a rule up to date in the table of losses.
func (e *Enforcer) CountLosses() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		return
	}
	e.options.Losses.Counter("network policy", "packets of pods that were not known yet, dropped").Raise(e.count(bpfVgNpCountVG_NP_COUNT_HELD))
	e.options.Losses.Counter("network policy", "answers of services whose translation was not seen, dropped").Raise(e.count(bpfVgNpCountVG_NP_COUNT_UNTRANSLATED))
}
