// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// testBinary is one package's tests, compiled to run without the source tree.
type testBinary struct {
	pkg      string // import path
	name     string // of the file in the guest, unique
	path     string // on the host
	testdata string // the package's testdata folder on the host, or ""
	dir      string // of the package in the module
}

// goPackage is the part of go list -json that is needed here.
type goPackage struct {
	ImportPath   string
	Dir          string
	Module       struct{ Dir string }
	TestGoFiles  []string
	XTestGoFiles []string
}

// buildTests compiles the tests of all packages that have any, static, so that they run beside a busybox.
func buildTests(ctx context.Context, patterns []string, dir string, out io.Writer) ([]testBinary, error) {
	pkgs, err := listPackages(ctx, patterns)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder for test binaries: %w", err)
	}
	var bins []testBinary
	for _, p := range pkgs {
		if len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 {
			continue
		}
		name := strings.ReplaceAll(p.ImportPath, "/", "_") + ".test"
		b := testBinary{pkg: p.ImportPath, name: name, path: filepath.Join(dir, name)}
		fmt.Fprintln(out, "build", p.ImportPath)
		if err := goBuild(ctx, "test", b.path, "-c", p.ImportPath); err != nil {
			return nil, err
		}
		if b.dir, err = filepath.Rel(p.Module.Dir, p.Dir); err != nil {
			return nil, err
		}
		if fi, err := os.Stat(filepath.Join(p.Dir, "testdata")); err == nil && fi.IsDir() {
			b.testdata = filepath.Join(p.Dir, "testdata")
		}
		bins = append(bins, b)
	}
	if len(bins) == 0 {
		return nil, fmt.Errorf("no tests in %s", strings.Join(patterns, " "))
	}
	return bins, nil
}

// goBuild runs a command of Go that makes a static binary for the guest.
func goBuild(ctx context.Context, command, file string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{command, "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", command, strings.Join(args, " "), err, msg)
	}
	return nil
}

func listPackages(ctx context.Context, patterns []string) ([]goPackage, error) {
	// A pattern that matches nothing is a warning of go list, not a failure of ours.
	args := append([]string{"list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles"}, patterns...)
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, fmt.Errorf("go list: %w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
}
