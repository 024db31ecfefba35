// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/render"
)

// Stdin is the path that stands for standard input, and the name that findings in it have.
const Stdin = "-"

// Input is what is scanned.
type Input struct {
	Paths    []string // files, directories, charts, overlays, and Stdin
	Stdin    io.Reader
	Values   render.Values  // for charts
	Progress func(Progress) // called now and then, by one goroutine at a time; nil: nobody looks
}

// Progress is how far a scan is.
type Progress struct {
	Files, Found int   // read so far, and known to be there
	Bytes, Size  int64 // read so far, and of all files; Size is 0 when that is not known
}

// source finds the files under paths and reads their documents.
type source struct {
	Input
	ctx      context.Context // of the scan that it is a part of
	visited  map[string]bool // real paths of directories: a link to one above ends here
	values   map[string]any  // for charts; read when the first is met
	overlays []string        // directories
	found    []string        // files, in order
	charts   []string
	files    int
	read     int64 // bytes
	size     int64 // of the files, for those who look on
	send     func([]manifest.Text) error
	problem  func(Problem)

	batch []manifest.Text
	bytes int // of the batch
}

// all follows the paths that a user gave. A file is read whatever it is called; of a directory those that may hold manifests. What is
// in a chart or named by an overlay is read as a part of that.
func (s *source) all() error {
	if err := s.look(); err != nil {
		return err
	}
	if slices.Contains(s.Paths, Stdin) {
		s.files++
		if err := s.documents(s.Stdin, "stdin"); err != nil {
			return err
		}
	}
	return s.readFound()
}

// look finds what is under the paths.
func (s *source) look() error {
	for _, path := range s.Paths {
		if path == Stdin {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		switch {
		case info.IsDir():
			s.dir(path)
		case render.IsArchive(path):
			s.charts = append(s.charts, path)
		default:
			s.found = append(s.found, path)
		}
	}
	return nil
}

// Found is what is under paths.
type Found struct {
	Files    []string // with manifests; those that an overlay lists as its resources are among them, its patches are not
	Charts   []string
	Problems []Problem
}

// Find looks for what a scan of paths would read.
func Find(paths []string) (Found, error) {
	var out Found
	s := &source{Input: Input{Paths: paths}, visited: map[string]bool{}, problem: func(p Problem) { out.Problems = append(out.Problems, p) }}
	if err := s.look(); err != nil {
		return out, err
	}
	out.Files, out.Charts = s.found, s.charts
	have := map[string]bool{}
	for _, file := range out.Files {
		have[realPath(file)] = true
	}
	for _, dir := range s.overlays {
		for _, file := range render.Resources(dir) {
			if !have[realPath(file)] {
				have[realPath(file)] = true
				out.Files = append(out.Files, file)
			}
		}
	}
	return out, nil
}

// readFound reads what the paths led to.
func (s *source) readFound() error {
	named := s.named()
	s.found = slices.DeleteFunc(s.found, func(file string) bool { return named[realPath(file)] })
	if s.Progress != nil {
		for _, file := range s.found {
			if info, err := os.Stat(file); err == nil {
				s.size += info.Size()
			}
		}
	}
	for _, file := range s.found {
		if err := s.file(file); err != nil {
			return err
		}
	}
	for _, chart := range s.charts {
		if err := s.chart(chart); err != nil {
			return err
		}
	}
	for _, dir := range s.overlays {
		if named[realPath(dir)] {
			continue
		}
		if err := s.overlay(dir); err != nil {
			return err
		}
	}
	return s.flush()
}

// named are the real paths of what overlays name.
func (s *source) named() map[string]bool {
	named := map[string]bool{}
	for _, dir := range s.overlays {
		for _, target := range render.References(dir) {
			named[realPath(target)] = true
		}
	}
	return named
}

// realPath is a path without links; itself, when it cannot be followed.
func realPath(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path
}

func (s *source) dir(path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		s.fail(path, err)
		return
	}
	if s.visited[real] {
		return
	}
	s.visited[real] = true
	if render.ChartIn(path) {
		s.charts = append(s.charts, path)
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		s.fail(path, err)
		return
	}
	overlay := render.OverlayIn(path) != ""
	if overlay {
		s.overlays = append(s.overlays, path)
	}
	for _, e := range entries {
		s.entry(filepath.Join(path, e.Name()), e, overlay)
	}
}

// entry is one of a directory; overlay tells that its files are those of an overlay.
func (s *source) entry(name string, e os.DirEntry, overlay bool) {
	info, err := os.Stat(name) // follows links
	switch {
	case err != nil && e.Type()&os.ModeSymlink != 0:
		s.fail(name, errors.New("a link to something that is not there"))
	case err != nil:
		s.fail(name, err)
	case info.IsDir():
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "node_modules" || e.Name() == ".github" {
			s.dir(name)
		}
	case info.Mode().IsRegular() && isManifest(e.Name()) && !overlay:
		s.found = append(s.found, name)
	}
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name)))
}

func (s *source) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	defer f.Close() // it was only read
	s.files++
	if s.Progress != nil {
		s.Progress(Progress{Files: s.files, Found: len(s.found), Bytes: s.read, Size: s.size})
	}
	return s.documents(f, path)
}

// documents sends on what is in a stream. An error is one of sending; what cannot be read is a problem.
func (s *source) documents(in io.Reader, name string) error {
	return s.texts(manifest.NewReader(in, name), name, nil)
}

func (s *source) texts(r *manifest.Reader, name string, locate manifest.Locate) error {
	for {
		t, err := r.NextText()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.fail(name, err)
			return nil
		}
		t.Locate = locate
		s.read += int64(len(t.Bytes))
		s.batch, s.bytes = append(s.batch, t), s.bytes+len(t.Bytes)
		if len(s.batch) >= batchTexts || s.bytes >= batchBytes {
			if s.Progress != nil {
				s.Progress(Progress{Files: s.files, Found: len(s.found), Bytes: s.read, Size: s.size})
			}
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

func (s *source) flush() error {
	batch := s.batch
	s.batch, s.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	return s.send(batch)
}

func (s *source) fail(path string, err error) {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	s.problem(Problem{File: path, Line: 1, Column: 1, Message: "cannot be read: " + err.Error()})
}
