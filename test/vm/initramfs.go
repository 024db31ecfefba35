// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript []byte

// modules are the kernel's loadable parts that the tests use, each behind those that it depends on.
func modules() []string {
	return []string{"veth", "dummy", "overlay", "loop", "sch_ingress", "cls_bpf", "libcrc32c", "udp_tunnel", "ip6_udp_tunnel", "sctp"}
}

// writeInitramfs packs a root file system: busybox, the init script, the modules, and per package a folder
// with its test binary and testdata. It is not compressed: emulated decompression is slower than the copy.
func writeInitramfs(file string, img image, bins []testBinary, runExpr string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("find busybox (install busybox-static): %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &cpio{w: bufio.NewWriter(f)}
	for _, dir := range []string{"bin", "sbin", "usr", "usr/bin", "usr/sbin", "etc", "modules", "tests"} {
		w.dir(dir)
	}
	w.copy("bin/busybox", busybox)
	w.file("init", 0o755, initScript)
	w.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	w.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	w.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	w.file("etc/run", 0o644, []byte(runExpr))
	if err := addModules(w, img); err != nil {
		return err
	}
	for _, b := range bins {
		dir := path.Join("tests", b.name)
		w.dir(dir)
		w.copy(path.Join(dir, "test"), b.path)
		w.file(path.Join(dir, "package"), 0o644, []byte(b.pkg))
		if b.testdata != "" {
			w.tree(path.Join(dir, "testdata"), b.testdata)
		}
	}
	if err := w.close(); err != nil {
		return err
	}
	return f.Close()
}

// addModules packs the modules, numbered in the order in which they are to be loaded. A module that the
// kernel has built in, or does not have, is left out.
func addModules(w *cpio, img image) error {
	found := map[string]string{}
	root := filepath.Join(img.dir, "lib", "modules", img.release)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(p), ".ko"); ok && err == nil && !d.IsDir() {
			found[name] = p
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look for modules: %w", err)
	}
	for i, name := range modules() {
		if p := found[name]; p != "" {
			w.copy(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(p)), p)
		}
	}
	return nil
}

// cpio writes the "newc" archive that the kernel unpacks as its first root (Documentation/driver-api/
// early-userspace/buffer-format.rst). It keeps the first error and does nothing after it.
type cpio struct {
	w   *bufio.Writer
	ino int
	off int64
	err error
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

func (c *cpio) dir(name string) { c.entry(name, modeDir|0o755, 0, nil) }

func (c *cpio) file(name string, perm uint32, data []byte) {
	c.entry(name, modeFile|perm, int64(len(data)), strings.NewReader(string(data)))
}

// copy packs a file of the host, executable.
func (c *cpio) copy(name, from string) {
	if c.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		c.err = err
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		c.err = err
		return
	}
	c.entry(name, modeFile|0o755, fi.Size(), f)
}

// tree packs a folder's regular files.
func (c *cpio) tree(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		switch to := path.Join(name, filepath.ToSlash(rel)); {
		case d.IsDir():
			c.dir(to)
		case d.Type().IsRegular():
			c.copy(to, p)
		}
		return c.err
	})
	if c.err == nil {
		c.err = err
	}
}

// entry writes one member. A file that grew or shrank since it was measured is an error.
func (c *cpio) entry(name string, mode uint32, size int64, body io.Reader) {
	if c.err != nil {
		return
	}
	c.ino++
	const nlink = 1
	c.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.ino, mode, 0, 0, nlink, 0, size, 0, 0, 0, 0, len(name)+1, 0, name))
	c.pad()
	if body != nil {
		n, err := io.Copy(c.w, io.LimitReader(body, size))
		c.off += n
		if err == nil && n != size {
			err = fmt.Errorf("%s changed while it was packed", name)
		}
		if c.err == nil {
			c.err = err
		}
		c.pad()
	}
}

func (c *cpio) write(b []byte) {
	n, err := c.w.Write(b)
	c.off += int64(n)
	if c.err == nil {
		c.err = err
	}
}

// pad fills to the next multiple of four, where header and body begin.
func (c *cpio) pad() { c.write(make([]byte, (4-c.off%4)%4)) }

func (c *cpio) close() error {
	c.entry("TRAILER!!!", 0, 0, nil)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
