// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// The maps as the programs leave them, written by the test: so that entries go when it wants.
func TestFoldedCountsAddUpAndEvictionsAreCounted(t *testing.T) {
	testkit.RequireBPF(t)
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var maps struct {
		Fold   *ebpf.Map `ebpf:"vg_fold"`
		Folded *ebpf.Map `ebpf:"vg_folded"`
	}
	if err := spec.LoadAndAssign(&maps, nil); err != nil {
		t.Fatal(err)
	}
	defer maps.Fold.Close()
	defer maps.Folded.Close()
	evicted := new(pipeline.Losses).Counter("kernel", "fold evicted")
	f := &fold{counts: maps.Fold, folded: maps.Folded, evicted: evicted}

	key := bpfVgFoldKey{Type: uint32(kernel.RecordCapability), What: 10, Object: 1}
	key.Image.Pid, key.Image.Start = 7, 70
	for _, step := range []struct {
		what          string
		entry         *bpfVgFoldCount // nil: it was evicted
		total         uint64
		want, evicted uint64
	}{
		{"only the first, which the kernel reported", &bpfVgFoldCount{Born: 1}, 0, 0, 0},
		{"three more", &bpfVgFoldCount{Born: 1, Count: 3}, 3, 3, 0},
		{"nothing new", &bpfVgFoldCount{Born: 1, Count: 3}, 3, 0, 0},
		{"two more that are not in the sum yet", &bpfVgFoldCount{Born: 1, Count: 5}, 3, 2, 0},
		{"evicted, and back with four; five were folded", &bpfVgFoldCount{Born: 9, Count: 4}, 10, 4, 1},
		{"evicted after six more", nil, 16, 0, 7},
	} {
		if step.entry != nil {
			err = maps.Fold.Put(&key, step.entry)
		} else {
			err = maps.Fold.Delete(&key)
		}
		if err != nil {
			t.Fatal(err)
		}
		perCPU := make([]uint64, ebpf.MustPossibleCPU())
		perCPU[len(perCPU)-1] = step.total
		if err := maps.Folded.Put(uint32(0), perCPU); err != nil {
			t.Fatal(err)
		}
		var got uint64
		if err := f.flush(func(e *model.Event) {
			got += uint64(e.Count)
			if e.Type != model.TypeCapability || *e.Capability != (model.Capability{Cap: 10, Granted: true}) ||
				e.Key != (model.ProcessKey{PID: 7, Start: 70}) || e.BootTime == 0 {
				t.Errorf("%s: event is %+v", step.what, e)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if got != step.want || evicted.Load() != step.evicted {
			t.Errorf("%s: %d reported and %d lost, want %d and %d", step.what, got, evicted.Load(), step.want, step.evicted)
		}
	}
}
