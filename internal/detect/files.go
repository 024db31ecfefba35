// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file of rules.
type File struct {
	Path string // for messages; Default for those that come with vigie
	Data []byte
}

// DefaultSource begins the path of the files that come with vigie, and is the source of their rules.
const DefaultSource = "default"

// maxFile bounds a file of rules, in bytes.
const maxFile = 1 << 20

//go:embed rules/*.yaml
var embedded embed.FS

// Default are the files that come with vigie.
func Default() ([]File, error) {
	names, err := fs.Glob(embedded, "rules/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the default rules: %w", err)
	}
	var files []File
	for _, name := range names {
		data, err := embedded.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the default rules: %w", err)
		}
		files = append(files, File{DefaultSource + "/" + filepath.Base(name), data})
	}
	return files, nil
}

// ReadDir reads the files *.yaml and *.yml of a directory, by name. A directory that is not there has none.
func ReadDir(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list the rules: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); (ext == ".yaml" || ext == ".yml") && e.Name()[0] != '.' {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return ReadFiles(paths)
}

// ReadFiles reads the named files.
func ReadFiles(paths []string) ([]File, error) {
	var files []File
	var errs []error
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("read rules: %w", err))
			continue
		case !info.Mode().IsRegular():
			errs = append(errs, fmt.Errorf("read rules: %s is no regular file", path))
			continue
		case info.Size() > maxFile:
			errs = append(errs, fmt.Errorf("read rules: %s is %d bytes long, at most %d are read: split it", path, info.Size(), maxFile))
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("read rules: %w", err))
			continue
		}
		files = append(files, File{path, data})
	}
	return files, errors.Join(errs...)
}
