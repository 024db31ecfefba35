// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/testkit"
)

// A cache answers as the prober does, whatever was asked before, and leaves no cgroup behind while it lives.
func TestCache(t *testing.T) {
	testkit.RequireBPF(t)
	c := NewCache(Options{})
	for _, names := range [][]Feature{{Connect4, LSM}, {LSM, TPExec, Connect4}} {
		got, err := c.Probe(t.Context(), names...)
		if err != nil {
			t.Fatal(err)
		}
		want, err := RunFor(t.Context(), Options{}, names...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range names {
			if got[i].Name != names[i] || got[i].Works != want.Results[i].Works || got[i].Cause != want.Results[i].Cause {
				t.Errorf("%s is %+v, want %+v", names[i], got[i], want.Results[i])
			}
		}
	}
	left, _ := filepath.Glob(kernel.FindCgroup2() + "/vigie-probe-*")
	for _, dir := range left {
		t.Errorf("%s is left", dir)
		_ = os.Remove(dir)
	}
	if _, err := c.Probe(t.Context(), "no such feature"); err == nil {
		t.Error("an unknown feature was answered")
	}
}
