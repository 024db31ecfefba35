// SPDX-License-Identifier: Apache-2.0

// Package helm reads and renders Helm charts. In: a directory or an archive, and values. Out: the text of each template.
//
// Helm's own engine cannot be used: with it comes all of client-go's scheme, which costs every process of vigie 24 MiB and 17 MiB of
// binary, and no part of it goes without. What decides is used as it is (Go's templates, sprig's functions, Helm's
// reader of --set); what puts values and templates together is here, and a test renders charts by both and requires the same text.
package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Bounds of a chart.
const (
	maxFile  = 5 << 20
	maxChart = 100 << 20
)

// Chart is a chart that was read.
type Chart struct {
	Meta      Meta
	Values    map[string]any // its defaults
	Schema    []byte         // values.schema.json; empty: none
	Templates []*Template
	Files     []File // all others
	Charts    []*Chart
	Dir       string // in the chart that it is a part of
}

// Meta is what Chart.yaml says, as far as rendering asks.
type Meta struct {
	Name         string       `json:"name"`
	Version      string       `json:"version"`
	Type         string       `json:"type"`
	Dependencies []Dependency `json:"dependencies"`
	all          map[string]any
}

// Dependency is a chart that is wanted.
type Dependency struct {
	Name         string   `json:"name"`
	Alias        string   `json:"alias"`
	Condition    string   `json:"condition"`
	Tags         []string `json:"tags"`
	ImportValues []any    `json:"import-values"`
}

// Template is a file under templates/.
type Template struct {
	Name string // as templates call it: CHART/templates/a.yaml
	Path string // under the root of the outermost chart
	Text []byte
}

// File is a file of a chart.
type File struct {
	Name string
	Data []byte
}

// Load reads a chart: a directory or an archive.
func Load(root string) (*Chart, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	var files []File
	if info.IsDir() {
		files, err = readDir(root)
	} else {
		var f *os.File
		if f, err = os.Open(root); err == nil {
			files, err = readArchive(f)
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	c, err := assemble(files)
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	return c, nil
}

// readDir reads the files of a directory, without those that .helmignore names.
func readDir(root string) ([]File, error) {
	ignored := ignoredBy(filepath.Join(root, ".helmignore"))
	var files []File
	sum := int64(0)
	err := filepath.WalkDir(root, func(name string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil || relative == "." {
			return err
		}
		relative = filepath.ToSlash(relative)
		if ignored(relative, entry.IsDir()) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := os.Stat(name) // follows a link to a file
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // a link to nothing is no part of the chart
		}
		if sum += info.Size(); info.Size() > maxFile || sum > maxChart {
			return fmt.Errorf("%s: a chart has at most %d MiB, a file in it %d", relative, maxChart>>20, maxFile>>20)
		}
		data, err := os.ReadFile(name)
		files = append(files, File{relative, data})
		return err
	})
	return files, err
}

// ignoredBy reads patterns: of names, of paths when they have a slash, of directories when they end with one.
func ignoredBy(file string) func(name string, dir bool) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		text = nil // there is none
	}
	patterns := []string{"templates/.?*"}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != '!' {
			patterns = append(patterns, line)
		}
	}
	return func(name string, dir bool) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			rest, onlyDirs := strings.CutSuffix(p, "/")
			if onlyDirs && !dir {
				return false
			}
			against := path.Base(name)
			if strings.Contains(rest, "/") {
				rest, against = strings.TrimPrefix(rest, "/"), name
			}
			ok, err := path.Match(rest, against)
			return err == nil && ok
		})
	}
}

// readArchive reads the files under the one directory that a packed chart has.
func readArchive(in io.Reader) ([]File, error) {
	zip, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	var files []File
	sum := int64(0)
	for archive := tar.NewReader(zip); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		_, name, ok := strings.Cut(path.Clean(strings.ReplaceAll(header.Name, `\`, "/")), "/")
		if !ok || strings.HasPrefix(header.Name, "/") || strings.HasPrefix(path.Clean(header.Name), "..") {
			return nil, fmt.Errorf("read the archive: %q is in no directory of a chart", header.Name)
		}
		if sum += header.Size; header.Size > maxFile || sum > maxChart {
			return nil, fmt.Errorf("%s: a chart has at most %d MiB, a file in it %d", name, maxChart>>20, maxFile>>20)
		}
		data, err := io.ReadAll(io.LimitReader(archive, maxFile))
		if err != nil {
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		files = append(files, File{name, data})
	}
}

// assemble makes a chart of its files.
func assemble(files []File) (*Chart, error) {
	c := &Chart{Values: map[string]any{}}
	inside := map[string][]File{} // of charts/
	for _, f := range files {
		f.Data = bytes.TrimPrefix(f.Data, []byte("\ufeff"))
		switch {
		case f.Name == "Chart.yaml":
			if err := errors.Join(yaml.Unmarshal(f.Data, &c.Meta), yaml.Unmarshal(f.Data, &c.Meta.all)); err != nil {
				return nil, fmt.Errorf("read Chart.yaml: %w", err)
			}
		case f.Name == "requirements.yaml": // of charts of the first version
			if err := yaml.Unmarshal(f.Data, &c.Meta); err != nil {
				return nil, fmt.Errorf("requirements.yaml: %w", err)
			}
		case f.Name == "values.yaml":
			if err := yaml.Unmarshal(f.Data, &c.Values); err != nil {
				return nil, fmt.Errorf("values.yaml: %w", err)
			}
		case strings.HasPrefix(f.Name, "templates/"):
			c.Templates = append(c.Templates, &Template{Name: f.Name, Text: f.Data})
		case strings.HasPrefix(f.Name, "charts/"):
			name, rest, _ := strings.Cut(strings.TrimPrefix(f.Name, "charts/"), "/")
			inside[name] = append(inside[name], File{rest, f.Data})
		case f.Name == "values.schema.json":
			c.Schema = f.Data
		case f.Name != "Chart.lock":
			c.Files = append(c.Files, f)
		}
	}
	if c.Meta.Name == "" {
		return nil, errors.New("the file Chart.yaml is missing, or has no name")
	}
	for name, files := range inside {
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") || files[0].Name == "" && filepath.Ext(name) != ".tgz" {
			continue
		}
		var err error
		if files[0].Name == "" {
			if files, err = readArchive(bytes.NewReader(files[0].Data)); err != nil {
				return nil, fmt.Errorf("charts/%s: %w", name, err)
			}
		}
		sub, err := assemble(files)
		if err != nil {
			return nil, fmt.Errorf("charts/%s: %w", name, err)
		}
		sub.Dir = path.Join("charts", name)
		c.Charts = append(c.Charts, sub)
	}
	slices.SortFunc(c.Charts, func(a, b *Chart) int { return strings.Compare(a.Dir, b.Dir) })
	return c, nil
}

// Missing are dependencies that are not in charts/.
func (c *Chart) Missing() []string {
	var out []string
	for _, d := range c.Meta.Dependencies {
		if !slices.ContainsFunc(c.Charts, func(sub *Chart) bool { return sub.Meta.Name == d.Name }) {
			out = append(out, "the dependency "+d.Name+" is not in charts/ and was not rendered: run `helm dependency build`")
		}
	}
	return out
}
