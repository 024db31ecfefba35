// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	unified    = "unified" // cgroup2 beside v1 hierarchies
)

// cgroupHomes finds this process's cgroup in every hierarchy: by the name of its folder below cgroupRoot. On a pure cgroup2 machine there is
// only unified, which is cgroupRoot itself.
func cgroupHomes() (map[string]string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	homes := map[string]string{}
	for line := range strings.Lines(string(data)) {
		// hierarchy number, controllers, path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		name := strings.TrimPrefix(f[1], "name=")
		if name == "" {
			name = unified
		}
		homes[name] = f[2]
	}
	return homes, nil
}

// cgroups are the folders of a node's cgroups, one a hierarchy.
func (c *cluster) cgroups(n string) ([]string, error) {
	homes, err := cgroupHomes()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for hierarchy, home := range homes {
		root := filepath.Join(cgroupRoot, hierarchy)
		if len(homes) == 1 {
			root = cgroupRoot
		}
		dirs = append(dirs, filepath.Join(root, home, "lab-"+filepath.Base(c.Dir)+"-"+n))
	}
	return dirs, nil
}

// joinCgroups moves this process into cgroups of the node's own, new ones.
func (c *cluster) joinCgroups(n string) error {
	dirs, err := c.cgroups(n)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := removeCgroup(dir); err != nil { // what an earlier life of this node left
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// A new cpuset is empty and takes no process.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err := errors.Join(err, os.WriteFile(filepath.Join(dir, f), data, 0o644)); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("join %s: %w", dir, err)
		}
	}
	return nil
}

// removeCgroups removes those of all nodes, after their end.
func (c *cluster) removeCgroups() {
	for _, n := range c.NodeNames() {
		dirs, err := c.cgroups(n)
		for _, dir := range dirs {
			err = errors.Join(err, removeCgroup(dir))
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "cluster: cgroups are left behind: %v\n", err)
		}
	}
}

// removeCgroup removes a cgroup and those below it. A process that was just killed may still be in one of them.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return err
	}
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Rmdir(dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}
