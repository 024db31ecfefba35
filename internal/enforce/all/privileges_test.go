// SPDX-License-Identifier: Apache-2.0

package all

import (
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// privilegeRungs are the ways to deny a privilege before it is used, each forced.
func privilegeRungs(t *testing.T, test func(t *testing.T, w *world)) {
	for _, backend := range []string{"lsm", "fmod_ret"} {
		t.Run(backend, func(t *testing.T) {
			w := newWorld(t, backend)
			writeFile(t, w.dir+"/data/file", nil, 0o644)
			test(t, w)
		})
	}
}

func TestDenyCapability(t *testing.T) {
	privilegeRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: enforce\n\tcapabilities: {deny: [CAP_CHOWN]}")
		w.expect("EPERM", "chown", "{dir}/data/file")
		if v := w.verdict(model.VerdictDenied, model.OpCapability, ""); v.Subject != "CAP_CHOWN" || v.Rule != "capabilities.deny[0]" {
			t.Errorf("verdict %+v", v)
		}
		w.expect("ok", "chmod", "{dir}/data/file")
		w.apply("\tmode: enforce\n\tcapabilities: {allow: [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER]}")
		w.expect("ok", "chown", "{dir}/data/file")
		w.expect("EPERM", "mount", "{dir}/data")
		w.apply("\tmode: audit\n\tcapabilities: {deny: [CAP_CHOWN]}")
		w.forget()
		w.expect("ok", "chown", "{dir}/data/file")
		w.verdict(model.VerdictAudited, model.OpCapability, "")
	})
}

func TestDenyOperations(t *testing.T) {
	privilegeRungs(t, func(t *testing.T, w *world) {
		w.expect("ok", "ptrace-child")
		w.apply("\tmode: enforce\n\toperations: {deny: [mount, ptrace, bpf]}")
		w.expect("EPERM", "mount", "{dir}/data")
		w.expect("EPERM", "ptrace-child")
		w.expect("EPERM", "bpf")
		for _, op := range []model.Operation{model.OpMount, model.OpPtrace, model.OpBPF} {
			w.verdict(model.VerdictDenied, op, "")
		}
		w.apply("\tmode: enforce\n\toperations: {deny: [mount]}")
		w.expect("ok", "ptrace-child")
		w.expect("ok", "bpf")
	})
}
