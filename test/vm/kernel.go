// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// image is a kernel unpacked in the cache folder.
type image struct {
	dir     string
	release string // as uname -r says it
	vmlinuz string
}

// errNoPackage means that the package lists of this machine have no such kernel.
var errNoPackage = errors.New("no such package in apt's lists")

// fetchKernel returns the newest Debian cloud kernel of a series ("6.1"), or the one in a .deb file. It
// downloads only what the cache lacks, and installs nothing.
func fetchKernel(ctx context.Context, name, cache string) (image, error) {
	if strings.HasSuffix(name, ".deb") {
		return unpack(ctx, name, filepath.Join(cache, strings.TrimSuffix(filepath.Base(name), ".deb")))
	}
	pkg, err := imagePackage(ctx, name)
	if err != nil {
		return image{}, fmt.Errorf("find Debian's kernel %s (run apt-get update, or pass the path of a linux-image .deb): %w", name, err)
	}
	version, err := candidate(ctx, pkg)
	if err != nil {
		return image{}, err
	}
	dir := filepath.Join(cache, pkg+"_"+version)
	if img, err := open(dir); err == nil {
		return img, nil
	}
	tmp, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return image{}, fmt.Errorf("make a download folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	get := exec.CommandContext(ctx, "apt-get", "-q", "download", pkg+"="+version)
	get.Dir = tmp
	if msg, err := get.CombinedOutput(); err != nil {
		return image{}, fmt.Errorf("apt-get download %s: %w\n%s", pkg, err, msg)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return image{}, fmt.Errorf("apt-get download %s left %d .deb files, wanted one", pkg, len(debs))
	}
	return unpack(ctx, debs[0], dir)
}

// imagePackage follows the meta package of a series to the image that it depends on. Debian 12 names the
// meta package of its own series without a version.
func imagePackage(ctx context.Context, series string) (string, error) {
	image := regexp.MustCompile(`linux-image-` + regexp.QuoteMeta(series) + `[.-][0-9][^ ]*-cloud-amd64\b`)
	for _, meta := range []string{"linux-image-" + series + "-cloud-amd64", "linux-image-cloud-amd64"} {
		out, err := exec.CommandContext(ctx, "apt-cache", "depends", "--important", meta).Output()
		if err != nil {
			continue
		}
		if pkg := image.Find(out); pkg != nil {
			return string(pkg), nil
		}
	}
	return "", errNoPackage
}

// candidate is the version of a package that apt would install.
func candidate(ctx context.Context, pkg string) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "--no-all-versions", "show", pkg).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache show %s: %w", pkg, err)
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("apt-cache show %s: %w", pkg, errNoPackage)
}

// unpack extracts a .deb into dir, which appears complete or not at all.
func unpack(ctx context.Context, deb, dir string) (image, error) {
	tmp := dir + ".partial"
	if err := os.RemoveAll(tmp); err != nil {
		return image{}, fmt.Errorf("clear a former download: %w", err)
	}
	if msg, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, tmp).CombinedOutput(); err != nil {
		return image{}, fmt.Errorf("dpkg-deb -x %s: %w\n%s", deb, err, msg)
	}
	if err := os.RemoveAll(dir); err != nil {
		return image{}, fmt.Errorf("replace the unpacked kernel: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return image{}, fmt.Errorf("keep the unpacked kernel: %w", err)
	}
	return open(dir)
}

func open(dir string) (image, error) {
	found, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return image{}, err
	}
	if len(found) != 1 {
		return image{}, fmt.Errorf("%s holds %d kernels, wanted one", dir, len(found))
	}
	release := strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	return image{dir: dir, release: release, vmlinuz: found[0]}, nil
}
