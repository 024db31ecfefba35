// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// Stdin is the path that stands for standard input, and the name that findings in it have.
const Stdin = "-"

// source finds the files under paths and reads their documents.
type source struct {
	stdin   io.Reader
	visited map[string]bool // real paths of directories: a link to one above ends here
	files   int
	send    func([]manifest.Text) error
	problem func(Problem)

	batch []manifest.Text
	bytes int // of the batch
}

// read follows the paths that a user gave. A file is read whatever it is called; of a directory those that may hold manifests.
func (s *source) read(paths []string) error {
	for _, path := range paths {
		if path == Stdin {
			s.files++
			if err := s.documents(s.stdin, "stdin"); err != nil {
				return err
			}
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if info.IsDir() {
			err = s.dir(path)
		} else {
			err = s.file(path)
		}
		if err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *source) dir(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	if s.visited[real] {
		return nil
	}
	s.visited[real] = true
	entries, err := os.ReadDir(path)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	chart := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "Chart.yaml" })
	for _, e := range entries {
		if err := s.entry(filepath.Join(path, e.Name()), e, chart); err != nil {
			return err
		}
	}
	return nil
}

// entry is one of a directory; chart tells that the directory is a chart's.
func (s *source) entry(name string, e os.DirEntry, chart bool) error {
	info, err := os.Stat(name) // follows links
	switch {
	case err != nil && e.Type()&os.ModeSymlink != 0:
		s.fail(name, errors.New("a link to something that is not there"))
	case err != nil:
		s.fail(name, err)
	case info.IsDir() && chart && e.Name() == "templates":
		s.problem(Problem{File: name, Line: 1, Column: 1, Note: true,
			Message: "templates of a Helm chart were not rendered: scan the output of `helm template` by a pipe"})
	case info.IsDir():
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "node_modules" || e.Name() == ".github" {
			return s.dir(name)
		}
	case info.Mode().IsRegular() && isManifest(e.Name()) && (!chart || !chartFile(e.Name())):
		return s.file(name)
	}
	return nil
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name)))
}

func chartFile(name string) bool {
	return name == "Chart.yaml" || strings.HasPrefix(name, "values") || name == "Chart.lock"
}

func (s *source) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	defer f.Close() // it was only read
	s.files++
	return s.documents(f, path)
}

// documents sends on what is in a stream. An error is one of sending; what cannot be read is a problem.
func (s *source) documents(in io.Reader, name string) error {
	r := manifest.NewReader(in, name)
	for {
		t, err := r.NextText()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.fail(name, err)
			return nil
		}
		s.batch, s.bytes = append(s.batch, t), s.bytes+len(t.Bytes)
		if len(s.batch) >= batchTexts || s.bytes >= batchBytes {
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
