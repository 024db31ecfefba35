// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
)

// Do runs fn in the network of a node, or of the control plane ("cp"), on a thread of its own. Sockets that fn makes stay there.
func (c *Cluster) Do(node string, fn func() error) error {
	pid, err := c.pid(node)
	if err != nil {
		return err
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("find the network of %s: %w", node, err)
	}
	defer ns.Close()
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter the network of %s: %w", node, err)
		}
		return fn()
	})
}

// Dial connects from the network of the control plane, whence nodes and pods are reached.
func (c *Cluster) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = c.Do("cp", func() error {
		// One address and one attempt: another thread would dial from elsewhere.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// pid is process 1 of a node, or the control plane, as this machine numbers it.
func (c *Cluster) pid(node string) (int, error) {
	data, err := os.ReadFile(filepath.Join(c.Dir, "cp.pid"))
	if err != nil {
		return 0, err
	}
	master, err := strconv.Atoi(string(data))
	if err != nil || node == "cp" {
		return master, err
	}
	// Among the children of the control plane, by their arguments.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", master))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(children)) {
			args, err := os.ReadFile("/proc/" + pid + "/cmdline")
			if err == nil && strings.HasSuffix(string(args), "\x00node\x00"+c.Dir+"\x00"+node+"\x00") {
				return strconv.Atoi(pid)
			}
		}
	}
	return 0, fmt.Errorf("node %s does not run", node)
}

// Cgroup is the folder of a node's cgroup2, as this machine sees it.
func (c *Cluster) Cgroup(t testing.TB, node string) string {
	t.Helper()
	pid, err := c.pid(node)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
				return filepath.Join("/sys/fs/cgroup/unified", path)
			}
			return filepath.Join("/sys/fs/cgroup", path)
		}
	}
	t.Fatalf("node %s is in no cgroup2", node)
	return ""
}

// onThread runs fn on a thread that ends with it, so that no other goroutine gets its namespace.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is destroyed
		done <- fn()
	}()
	return <-done
}
