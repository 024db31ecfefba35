// SPDX-License-Identifier: Apache-2.0

package json

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// all reads what the files say, the oldest first, and how many files there are beside path.
func all(t *testing.T, path string) (seqs []uint64, aside int) {
	t.Helper()
	files, err := filepath.Glob(path + ".*")
	if err != nil {
		t.Fatal(err)
	}
	for n := len(files); n > 0; n-- {
		seqs = append(seqs, lines(t, path+"."+strconv.Itoa(n))...)
	}
	return append(seqs, lines(t, path)...), len(files)
}

func TestFileIsPutAsideBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	const limit = 100 << 10
	r := startRotating(t, path, nil, Rotation{MaxBytes: limit, MaxFiles: 100})
	for range 20 {
		r.publish(50)
		eventually(t, "a flush", func() bool { return r.Stats().Sent == r.seq })
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	seqs, aside := all(t, path)
	if len(seqs) != 1000 || aside < 5 {
		t.Fatalf("%d lines in %d files", len(seqs), aside+1)
	}
	for i, n := range seqs {
		if n != uint64(i+1) {
			t.Fatalf("event %d on line %d", n, i+1)
		}
	}
	files, _ := filepath.Glob(path + "*")
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > limit {
			t.Errorf("%s: %d bytes, %v", f, info.Size(), err)
		}
	}
}

func TestOldestFileGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	r := startRotating(t, path, nil, Rotation{MaxBytes: 1, MaxFiles: 3})
	for range 10 {
		r.publish(1)
		eventually(t, "a flush", func() bool { return r.Stats().Sent == r.seq })
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	seqs, aside := all(t, path)
	if aside != 3 || len(seqs) != 4 || seqs[0] != 7 || seqs[3] != 10 {
		t.Errorf("%d files aside, events %v", aside, seqs)
	}
}

func TestFileIsPutAsideByAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	r := startRotating(t, path, nil, Rotation{MaxAge: time.Hour, MaxFiles: 2})
	r.publish(1)
	eventually(t, "a flush", func() bool { return r.Stats().Sent == 1 })
	r.mu.Lock()
	r.rotate(r.since.Add(time.Hour - time.Nanosecond))
	young, _ := all(t, path)
	r.rotate(r.since.Add(time.Hour))
	r.mu.Unlock()
	if seqs := lines(t, path); len(young) != 1 || len(seqs) != 0 || len(lines(t, path+".1")) != 1 {
		t.Errorf("before %v, after %v", young, seqs)
	}
}

// What can't be renamed goes on growing, and that is told once.
func TestFileThatCannotBePutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	if err := os.MkdirAll(path+".1/occupied", 0o700); err != nil {
		t.Fatal(err)
	}
	r := startRotating(t, path, nil, Rotation{MaxBytes: 1, MaxFiles: 1})
	for range 3 {
		r.publish(1)
		eventually(t, "a flush", func() bool { return r.Stats().Sent == r.seq })
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(r.log.String(), "can't be put aside"); len(lines(t, path)) != 3 || n != 1 {
		t.Errorf("%d lines, told %d times", len(lines(t, path)), n)
	}
}
