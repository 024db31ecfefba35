// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/store/segment"
)

const (
	suffix    = ".parquet"
	temporary = ".tmp"
)

// fileName is the name of a segment: the positions of its first and last row.
func fileName(i segment.Info) string { return i.First.String() + "_" + i.Last.String() + suffix }

// lastRun is the latest run that has a segment; 0 when there is none.
func (h *History) lastRun() (run int64) {
	for _, f := range h.folders {
		entries, _ := os.ReadDir(f.dir) // what is wrong with it load will say
		for _, e := range entries {
			_, last, _ := strings.Cut(strings.TrimSuffix(e.Name(), suffix), "_")
			if at, err := segment.ParsePosition(last); err == nil {
				run = max(run, at.Run)
			}
		}
	}
	return run
}

// load looks through the folders.
func (h *History) load() error {
	defer close(h.loaded)
	for _, f := range h.folders {
		if err := os.MkdirAll(f.dir, 0o750); err != nil {
			return fmt.Errorf("make its folder: %w", err)
		}
		found, err := h.loadFolder(f)
		if err != nil {
			return fmt.Errorf("look through its folder: %w", err)
		}
		h.mu.Lock()
		f.segments = append(found, f.segments...)
		h.mu.Unlock()
	}
	return nil
}

// loadFolder lists the segments of a family. What an agent that was killed left half done is removed.
func (h *History) loadFolder(f *folder) ([]*stored, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var list []*stored
	for _, entry := range entries {
		path := filepath.Join(f.dir, entry.Name())
		switch {
		case !entry.Type().IsRegular():
			continue
		case strings.HasSuffix(path, temporary):
			if err := os.Remove(path); err != nil {
				h.c.Log.Warn("a file that was never ended stays", "file", path, "error", err)
			}
			continue
		case !strings.HasSuffix(path, suffix):
			continue
		}
		s, err := h.inspect(path, f.family)
		if err != nil {
			h.cannotRead(path, err)
			continue
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *stored) int {
		if c := a.First.Compare(b.First); c != 0 {
			return c
		}
		return b.Last.Compare(a.Last) // the larger first
	})
	return h.dropMerged(list), nil
}

// inspect reads what the footer of a file says.
func (h *History) inspect(path string, f *segment.Family) (*stored, error) {
	file, err := openFile(path, h.families)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if file.Family != f.Name {
		return nil, fmt.Errorf("%w: it is of family %s", segment.ErrForeign, file.Family)
	}
	return &stored{Info: file.Info, path: path, bytes: file.size}, nil
}

// dropMerged removes segments that others hold: an agent was killed after it merged them and before it removed them.
func (h *History) dropMerged(list []*stored) []*stored {
	var kept []*stored
	for _, s := range list {
		if n := len(kept); n > 0 && s.Last.Compare(kept[n-1].Last) <= 0 {
			if err := os.Remove(s.path); err != nil {
				h.c.Log.Warn("a segment that was merged stays", "segment", s.path, "error", err)
			}
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// openSegment is a segment that can be read.
type openSegment struct {
	*segment.Segment
	file *os.File
	size int64
}

// Close ends the use of the file.
func (o *openSegment) Close() { _ = o.file.Close() } // only read

func openFile(path string, families []*segment.Family) (*openSegment, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s, err := segment.Open(file, info.Size(), families)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &openSegment{s, file, info.Size()}, nil
}

// writeFile makes a segment that is whole or not there, whenever the host stops: it gets its name when all of it is on
// disk. write fills it.
func writeFile(dir string, write func(io.Writer) (segment.Info, error)) (*stored, error) {
	file, err := os.CreateTemp(dir, "*"+temporary)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*stored, error) {
		return nil, errors.Join(err, file.Close(), removeIfThere(file.Name()))
	}
	info, err := write(file)
	if err != nil {
		return fail(err)
	}
	if err := file.Chmod(0o640); err != nil {
		return fail(err)
	}
	if err := file.Sync(); err != nil {
		return fail(err)
	}
	stat, err := file.Stat()
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(dir, fileName(info))
	if err := os.Rename(file.Name(), path); err != nil {
		return fail(err)
	}
	return &stored{Info: info, path: path, bytes: stat.Size()}, errors.Join(file.Close(), syncDir(dir))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir has the names in a folder written.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
