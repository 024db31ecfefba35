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
	take    func(*manifest.Document)
	problem func(Problem)
}

// read follows the paths that a user gave. A file is read whatever it is called; of a directory those that may hold manifests.
func (s *source) read(paths []string) error {
	for _, path := range paths {
		if path == Stdin {
			s.files++
			s.documents(s.stdin, "stdin")
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return fmt.Errorf("scan: %w", err)
		case info.IsDir():
			s.dir(path)
		default:
			s.file(path)
		}
	}
	return nil
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
	entries, err := os.ReadDir(path)
	if err != nil {
		s.fail(path, err)
		return
	}
	chart := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "Chart.yaml" })
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
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
				s.dir(name)
			}
		case info.Mode().IsRegular() && isManifest(e.Name()) && (!chart || !chartFile(e.Name())):
			s.file(name)
		}
	}
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name)))
}

func chartFile(name string) bool {
	return name == "Chart.yaml" || strings.HasPrefix(name, "values") || name == "Chart.lock"
}

func (s *source) file(path string) {
	f, err := os.Open(path)
	if err != nil {
		s.fail(path, err)
		return
	}
	defer f.Close() // it was only read
	s.files++
	s.documents(f, path)
}

func (s *source) documents(in io.Reader, name string) {
	r := manifest.NewReader(in, name)
	for {
		d, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			s.fail(name, err)
			return
		}
		if d.Err != nil {
			s.problem(Problem{File: name, Line: d.Err.Line, Column: d.Err.Column, Message: d.Err.Message})
			continue
		}
		for _, item := range d.Items() {
			s.take(item)
		}
	}
}

func (s *source) fail(path string, err error) {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	s.problem(Problem{File: path, Line: 1, Column: 1, Message: "cannot be read: " + err.Error()})
}
