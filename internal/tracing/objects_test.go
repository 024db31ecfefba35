// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// TestKernelObjects: arguments that are objects of the kernel, each in a function that is given one.
func TestKernelObjects(t *testing.T) {
	for _, o := range []struct {
		call, kind string
		index      int
		deed       string
		text       string
		number     int64
	}{
		{"security_bpf_map", "bpf_map", 0, "bpf vigie_object", "vigie_object", 0},
		{"security_bpf_prog", "bpf_prog", 0, "bpf vigie_object", "vigie_object", 0},
		{"security_bpf", "bpf_attr", 1, "bpf vigie_object", "vigie_object", 1}, // BPF_PROG_TYPE_SOCKET_FILTER
		{"security_perf_event_alloc", "perf_event", 0, "perf", "", unix.PERF_TYPE_SOFTWARE},
		{"shmem_file_read_iter", "kiocb", 0, "read-memory vigie-object", "memfd:vigie-object", 0},
	} {
		t.Run(o.kind, func(t *testing.T) {
			r := newRig(t, nil)
			r.applyBy("kprobe", objectSpec(o.call, o.kind, o.index))
			got := r.hits(o.deed)
			if !slices.ContainsFunc(got, func(p *model.Probe) bool {
				return len(p.Args) == 1 && strings.Contains(p.Args[0].Text, o.text) && p.Args[0].Int == o.number
			}) {
				t.Errorf("%d probes, none has %q and %d", len(got), o.text, o.number)
				for _, p := range got {
					t.Logf("%+v", p.Args)
				}
			}
		})
	}
}

// TestModuleObjects: a module and what it is loaded from, as the functions that load it have them.
func TestModuleObjects(t *testing.T) {
	name, file := spareModule(t)
	for _, o := range []struct{ call, kind string }{{"do_init_module", "module"}, {"load_module", "load_info"}} {
		t.Run(o.kind, func(t *testing.T) {
			r := newRig(t, nil)
			r.applyBy("kprobe", objectSpec(o.call, o.kind, 0))
			got := r.hits("reload " + name + " " + file)
			if len(got) != 1 || o.kind == "module" && got[0].Args[0].Text != name {
				t.Errorf("probes are %+v, want one of module %s", got, name)
			}
		})
	}
}

func objectSpec(call, kind string, index int) string {
	return fmt.Sprintf("\n  kprobes:\n  - call: %s\n    syscall: false\n    args: [{index: %d, type: %s}]\n", call, index, kind)
}

// spareModule is a module that nobody uses, and its file. The guests of the vm lane keep those that they loaded.
func spareModule(t *testing.T) (name, file string) {
	loaded, err := os.ReadFile("/proc/modules")
	if err != nil {
		t.Skipf("needs a kernel with modules: %v", err)
	}
	files, _ := filepath.Glob("/modules/*.ko*")
	for line := range strings.Lines(string(loaded)) {
		words := strings.Fields(line)
		if len(words) < 4 || words[2] != "0" {
			continue
		}
		for _, f := range files {
			_, base, _ := strings.Cut(filepath.Base(f), "-")
			base, _, _ = strings.Cut(base, ".ko")
			if strings.ReplaceAll(base, "-", "_") == words[0] {
				return words[0], f
			}
		}
	}
	t.Skip("needs a module that is loaded and not used, with its file in /modules: the guests of the vm lane have some")
	return "", ""
}
