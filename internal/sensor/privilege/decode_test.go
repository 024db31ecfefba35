// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

// record is a record with a tail, aligned as the rings align it.
func record[T any](fixed T, tail string) kernel.Record {
	b := append(unsafe.Slice((*byte)(unsafe.Pointer(&fixed)), unsafe.Sizeof(fixed)), tail...)
	return aligned(b)
}

func aligned(b []byte) kernel.Record {
	words := make([]uint64, len(b)/8+1)
	out := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(b))
	copy(out, b)
	return out
}

func TestPathsOfMountsAreResolved(t *testing.T) {
	const base = "c\x00b\x00" // leaf first
	for _, c := range []struct {
		name   string
		fixed  bpfVgMount
		tail   string
		source string
		target string
	}{
		{"a bind mount", bpfVgMount{Nr: unix.SYS_MOUNT, Flags: unix.MS_BIND, SourceLen: 3, TargetLen: 5, BaseLen: 4},
			"./x\x00../y"[:3] + "../y\x00" + base, "/b/c/x", "/b/y"},
		{"a file system", bpfVgMount{Nr: unix.SYS_MOUNT, SourceLen: 4, TargetLen: 3, FstypeLen: 5, BaseLen: 4},
			"dev\x00y/\x00proc\x00" + base, "dev", "/b/c/y"},
		{"the current directory", bpfVgMount{Nr: unix.SYS_UMOUNT2, TargetLen: 2, BaseLen: 4}, ".\x00" + base, "", "/b/c"},
		{"an absolute path", bpfVgMount{Nr: unix.SYS_UMOUNT2, TargetLen: 6}, "//a/.\x00", "", "/a"},
		{"a new mount", bpfVgMount{Nr: unix.SYS_MOVE_MOUNT, SourceLen: 2, FstypeLen: 2, TargetLen: 2, BaseLen: 4},
			"s\x00f\x00t\x00" + base, "s", "/b/c/t"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ev model.Event
			if ok, err := decodeMount(record(c.fixed, c.tail), &ev); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if ev.Mount.Source != c.source || ev.Mount.Target != c.target {
				t.Errorf("%q on %q, want %q on %q", ev.Mount.Source, ev.Mount.Target, c.source, c.target)
			}
		})
	}
}

func TestNamesFollowTheKernel(t *testing.T) {
	if got := flagNames(unix.CLONE_NEWNS | unix.CLONE_NEWTIME | unix.CLONE_NEWUSER); !slices.Equal(got, []string{"mnt", "user", "time"}) {
		t.Errorf("flags are %q", got)
	}
	if got := joined(&model.Namespaces{Cgroup: 7, Net: 8}, 8); !slices.Equal(got, []string{"net"}) {
		t.Errorf("joined %q", got)
	}
	for n, want := range map[uint32]string{6: "xdp", 17: "raw_tracepoint", 32: "netfilter", 99: "99"} {
		if got := progType(n); got != want {
			t.Errorf("program type %d is %q, want %q", n, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint8(kernel.RecordMount), []byte(record(bpfVgMount{SourceLen: 2, TargetLen: 9, BaseLen: 1}, "ab")))
	f.Add(uint8(kernel.RecordNamespace), []byte(record(bpfVgNamespace{Inode: 4, Flags: 1 << 63}, "")))
	f.Add(uint8(kernel.RecordBPF), []byte(record(bpfVgBpf{ProgType: 1 << 31}, "")))
	decoders := New(Options{}).Decoders()
	f.Fuzz(func(t *testing.T, typ uint8, b []byte) {
		decode := decoders[kernel.RecordType(typ)]
		if decode == nil {
			return
		}
		var ev model.Event
		ok, err := decode(aligned(b), &ev)
		if ok && (err != nil || ev.Type == "") {
			t.Errorf("kept an event of type %q with error %v", ev.Type, err)
		}
	})
}
