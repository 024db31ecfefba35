// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// readExceptions reads PolicyExceptions from files. One that says nothing that can be understood is an error: it was meant
// to excuse something.
func readExceptions(paths []string, picked []*control.Control) (*exception.Set, error) {
	found, err := exceptionFiles(paths)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return exceptionSet(found, picked)
}

func exceptionFiles(paths []string) ([]*exception.Exception, error) {
	var found []*exception.Exception
	documents, err := readDocuments(paths)
	if err != nil {
		return nil, fmt.Errorf("read exceptions: %w", err)
	}
	for _, d := range documents {
		if d.Value["kind"] != exception.Kind {
			continue
		}
		e, err := exception.Parse(d.Value)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", d.File, d.Line, err)
		}
		found = append(found, e)
	}
	return found, nil
}

// exceptionSet finds the controls that exceptions name, among all that there are: those that are not asked now are no error.
func exceptionSet(found []*exception.Exception, picked []*control.Control) (*exception.Set, error) {
	all, err := control.Default()
	if err != nil {
		return nil, err
	}
	for _, c := range picked {
		if !slices.ContainsFunc(all, func(x *control.Control) bool { return x.ID == c.ID }) {
			all = append(all, c)
		}
	}
	set, errs := exception.NewSet(found, all)
	return set, errors.Join(errs...)
}

// readDocuments reads all documents of files, and of the YAML and JSON files in directories.
func readDocuments(paths []string) ([]*manifest.Document, error) {
	var out []*manifest.Document
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || name != path && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
				return err
			}
			documents, err := readFile(name)
			out = append(out, documents...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readFile(name string) ([]*manifest.Document, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	var out []*manifest.Document
	r := manifest.NewReader(f, name)
	for {
		d, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil && d.Err != nil {
			err = fmt.Errorf("%s:%w", name, d.Err)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d.Items()...)
	}
}

// whereOf is the place of a finding, for people.
func whereOf(r *scan.Report, f *scan.Finding) string {
	if r.Live {
		return f.Path
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// printExcused tells what fails and may, until when, and who answers for it.
func printExcused(out io.Writer, st term.Style, r *scan.Report) {
	seen := map[string]int{}
	for _, e := range r.Excused {
		seen[e.Exception]++
	}
	var told []string
	for _, e := range r.Excused {
		if slices.Contains(told, e.Exception) {
			continue
		}
		told = append(told, e.Exception)
		fmt.Fprintf(out, "%s %s: %s, by %s until %s: %s\n", st.Yellow("excused"), st.Bold(term.Escape(e.Exception)), plural(seen[e.Exception], "finding"),
			term.Escape(e.Owner), e.Expires.Format("2006-01-02 15:04 MST"), term.Escape(strings.TrimSpace(e.Reason)))
	}
}
