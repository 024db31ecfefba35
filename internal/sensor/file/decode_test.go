// SPDX-License-Identifier: Apache-2.0

package file

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

// record builds what the kernel would write. The parts are the tail in its order: components, components of the
// new name, argument, new argument.
func record(f bpfVgFile, parts ...string) kernel.Record {
	var tail []byte
	for i, p := range parts {
		*[]*uint16{&f.PathLen, &f.NewPathLen, &f.ArgLen, &f.NewArgLen}[i] = uint16(len(p))
		tail = append(tail, p...)
	}
	f.H.Type = uint16(kernel.RecordFile)
	return aligned(append(unsafe.Slice((*byte)(unsafe.Pointer(&f)), unsafe.Sizeof(f)), tail...))
}

// aligned copies a record to where the rings would hold it.
func aligned(b []byte) kernel.Record {
	words := make([]uint64, len(b)/8+1)
	return kernel.Record(append(unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)[:0], b...))
}

func TestDecodePaths(t *testing.T) {
	const rename, read = uint8(bpfVgFileOpVG_FILE_RENAME), uint8(bpfVgFileOpVG_FILE_READ)
	for _, c := range []struct {
		name     string
		file     bpfVgFile
		parts    []string
		path, to string
	}{
		{"object", bpfVgFile{Op: read, Kind: kindObject}, []string{"c\x00b\x00a\x00"}, "/a/b/c", ""},
		{"cut object", bpfVgFile{Op: read, Kind: kindObject | kindCut}, []string{"c\x00b\x00"}, "…/b/c", ""},
		{"the root", bpfVgFile{Op: read, Kind: kindObject}, nil, "/", ""},
		{"memfd", bpfVgFile{Op: read, Kind: kindObject | kindDeleted}, []string{"memfd:x\x00"}, "/memfd:x (deleted)", ""},
		{"pipe", bpfVgFile{Op: read, Kind: kindObject, FileMode: unix.S_IFIFO, Inode: 12}, []string{"\x00"}, "pipe:[12]", ""},
		{"renamed objects", bpfVgFile{Op: rename, Kind: kindObject}, []string{"b\x00a\x00", "c\x00a\x00"}, "/a/b", "/a/c"},
		{"arguments", bpfVgFile{Op: rename}, []string{"b\x00a\x00", "z\x00", "../x\x00", "./y/\x00"}, "/a/x", "/z/y"},
		{"absolute arguments", bpfVgFile{Op: rename}, []string{"", "", "/../x\x00", "/y//z\x00"}, "/x", "/y/z"},
		{"argument below the root", bpfVgFile{Op: rename}, []string{"", "", "x\x00", "y\x00"}, "/x", "/y"},
		{"cut directory", bpfVgFile{Op: read, Kind: kindCut}, []string{"b\x00", "", "x\x00"}, "…/b/x", ""},
		{"no directory", bpfVgFile{Op: read, Kind: kindNoDir}, []string{"", "", "x/y\x00"}, "x/y", ""},
		{"unreadable", bpfVgFile{Op: read, Kind: kindUnread}, []string{"b\x00"}, "", ""},
		{"not UTF-8", bpfVgFile{Op: read}, []string{"b\xff\x00", "", "\xfe\n\x00"}, "/b\\xff/\\xfe\n", ""},
	} {
		var ev model.Event
		if keep, err := New(Options{}).decode(record(c.file, c.parts...), &ev); err != nil || !keep {
			t.Errorf("%s: keep %v, error %v", c.name, keep, err)
		} else if ev.File.Path != c.path || ev.File.NewPath != c.to {
			t.Errorf("%s: %q and %q, want %q and %q", c.name, ev.File.Path, ev.File.NewPath, c.path, c.to)
		}
	}
}

func TestDecodeRefusesWhatIsNoRecord(t *testing.T) {
	good := record(bpfVgFile{Op: uint8(bpfVgFileOpVG_FILE_LINK)}, "a\x00", "b\x00", "c\x00", "d\x00")
	for n := range good {
		var ev model.Event
		if keep, err := New(Options{}).decode(good[:n], &ev); keep || err == nil {
			t.Errorf("%d of %d bytes are taken for a record: %+v", n, len(good), ev.File)
		}
	}
	for _, op := range []uint8{0, uint8(bpfVgFileOpVG_FILE_CHOWN) + 1, 255} {
		var ev model.Event
		if keep, err := New(Options{}).decode(record(bpfVgFile{Op: op}), &ev); keep || err == nil {
			t.Errorf("operation %d is taken: %+v", op, ev.File)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(record(bpfVgFile{Op: uint8(bpfVgFileOpVG_FILE_READ), Kind: kindObject}, "c\x00b\x00")))
	f.Add([]byte(record(bpfVgFile{Op: uint8(bpfVgFileOpVG_FILE_RENAME)}, "b\x00", "", "/x\x00", "y\x00")))
	f.Add([]byte(record(bpfVgFile{Op: uint8(bpfVgFileOpVG_FILE_WRITE), Kind: kindHeld}, "b\x00")))
	f.Add([]byte(record(bpfVgFile{Kind: kindGone})))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ev model.Event
		keep, err := New(Options{}).decode(aligned(b), &ev)
		if keep && (err != nil || ev.Type != model.TypeFile || ev.File == nil) {
			t.Errorf("kept with error %v: %+v", err, ev)
		}
	})
}
