// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// nodeInit is process 1 of a node: it makes the node's own view of the machine, starts the node's services, and reaps. It does not
// return while the node lives; when it does, the kernel ends the node.
func nodeInit(c *cluster, n string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // ends when the link is there
		return err
	}
	if err := c.joinCgroups(n); err != nil {
		return err
	}
	// unshare is of one thread, and children come from this one.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	for _, step := range []func(string) error{c.mountKernel, c.coverSysctls, c.mountDisks, c.ownDevices, c.closeRoot, c.name, c.link} {
		if err := step(n); err != nil {
			return fmt.Errorf("make node %s: %w", n, err)
		}
	}
	services := exec.Command("/proc/self/exe", "services", c.Dir, n)
	services.Stdout, services.Stderr = os.Stdout, os.Stderr
	if err := services.Start(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if pid == services.Process.Pid {
			return fmt.Errorf("the services of %s ended with status %d", n, status.ExitStatus())
		}
	}
}

// disk is a folder of a node that survives its power cuts.
func (c *cluster) disk(n string, parts ...string) string {
	return c.path(append([]string{"nodes", n}, parts...)...)
}

// mountKernel mounts the kernel's file systems as the node's namespaces see them: own processes, own cgroups, an own bpffs.
func (c *cluster) mountKernel(string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return err
	}
	errs := []error{mount("proc", "/proc", "proc", 0, ""), mount("sysfs", "/sys", "sysfs", 0, "")}
	homes, err := cgroupHomes()
	if err != nil {
		return err
	}
	if _, hybrid := homes["memory"]; hybrid {
		errs = append(errs, mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755"))
		for hierarchy := range homes {
			switch hierarchy {
			case unified:
				errs = append(errs, mount("cgroup2", "/sys/fs/cgroup/"+unified, "cgroup2", 0, ""))
			case "systemd":
				errs = append(errs, mount("cgroup", "/sys/fs/cgroup/systemd", "cgroup", 0, "none,name=systemd"))
			default:
				errs = append(errs, mount("cgroup", "/sys/fs/cgroup/"+hierarchy, "cgroup", 0, hierarchy))
			}
		}
	} else {
		errs = append(errs, mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""))
	}
	errs = append(errs, mount("bpf", "/sys/fs/bpf", "bpf", 0, ""))
	for dir, fs := range map[string]string{"/sys/kernel/security": "securityfs", "/sys/kernel/tracing": "tracefs", "/sys/kernel/debug": "debugfs"} {
		_ = syscall.Mount(fs, dir, fs, 0, "") // not every kernel has them
	}
	return errors.Join(errs...)
}

// coverSysctls lets kubelet find as it wants them what it would otherwise set for the whole machine.
func (c *cluster) coverSysctls(n string) error {
	dir := c.disk(n, "sysctl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for key, value := range map[string]string{"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000"} {
		f := filepath.Join(dir, strings.ReplaceAll(key, "/", "."))
		if err := os.WriteFile(f, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(f, "/proc/sys/"+key, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover the sysctl %s: %w", key, err)
		}
	}
	return nil
}

// mountDisks gives the node its own /etc, /var and /opt over the machine's, and an own /run and /tmp.
func (c *cluster) mountDisks(n string) error {
	base, err := c.base()
	if err != nil {
		return err
	}
	for _, dir := range []string{"etc", "var", "opt"} {
		upper, work := c.disk(n, dir), c.disk(n, "work-"+dir)
		if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
			return err
		}
		if err := mount("overlay", "/"+dir, "overlay", 0, fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", dir, upper, work)); err != nil {
			return err
		}
	}
	// The images' own overlays cannot sit on one.
	for _, dir := range []string{"containerd", "kubelet"} {
		d := c.disk(n, "disk-"+dir)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := mount(d, "/var/lib/"+dir, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	// A user namespace may mount proc only where one with nothing over it is in sight.
	if err := mount("proc", "/run/lab/proc", "proc", 0, ""); err != nil {
		return err
	}
	// What the lab itself needs stays where it is, also when that is below /tmp.
	if err := mount(base, "/run/lab/base", "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777"); err != nil {
		return err
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	return syscall.Mount("/run/lab/base", base, "", syscall.MS_MOVE, "")
}

// base is the folder that holds the cluster and all programs it runs.
func (c *cluster) base() (string, error) {
	base := filepath.Dir(filepath.Dir(c.Dir)) // …/run/NAME
	for _, dir := range []string{c.Tools.Kube, c.Tools.Containerd, c.Tools.CNI} {
		if !strings.HasPrefix(dir, base+"/") {
			return "", fmt.Errorf("the cluster's folder %s must be two below the programs' (%s)", c.Dir, filepath.Dir(dir))
		}
	}
	return base, nil
}

// ownDevices gives the node a /dev that is not the machine's.
func (c *cluster) ownDevices(string) error {
	const dev = "/run/lab/dev"
	if err := mount("tmpfs", dev, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for name, number := range map[string][2]int{"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "kmsg": {1, 11},
		"tty": {5, 0}, "fuse": {10, 229}, "net/tun": {10, 200}} {
		f := filepath.Join(dev, name)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			return err
		}
		if err := syscall.Mknod(f, syscall.S_IFCHR|0o666, number[0]<<8|number[1]); err != nil {
			return fmt.Errorf("make the device %s: %w", name, err)
		}
		if err := os.Chmod(f, 0o666); err != nil {
			return err
		}
	}
	return errors.Join(
		os.Symlink("/proc/self/fd", dev+"/fd"),
		mount("devpts", dev+"/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
		os.Symlink("pts/ptmx", dev+"/ptmx"),
		mount("tmpfs", dev+"/shm", "tmpfs", 0, ""),
		mount("mqueue", dev+"/mqueue", "mqueue", 0, ""),
		syscall.Mount(dev, "/dev", "", syscall.MS_MOVE, ""))
}

// closeRoot makes everything read-only that is not the node's own: nothing a node does may change the machine.
func (c *cluster) closeRoot(string) error {
	base, err := c.base()
	if err != nil {
		return err
	}
	const readOnly = syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_RDONLY
	if err := syscall.Mount(c.Dir, c.Dir, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	return errors.Join(
		syscall.Mount("", base, "", readOnly, ""),
		syscall.Mount("", "/", "", readOnly, ""),
		syscall.Mount("", "/", "", syscall.MS_SHARED|syscall.MS_REC, "")) // as systemd leaves it, and as mount propagation wants it
}

func (c *cluster) name(n string) error {
	return errors.Join(syscall.Sethostname([]byte(n)), put("/etc/hostname", n+"\n"),
		put("/etc/hosts", "127.0.0.1 localhost\n"+nodeIP(n)+" "+n+"\n"), put("/etc/resolv.conf", ""),
		put("/etc/machine-id", fmt.Sprintf("%032d\n", nodeNumber(n))))
}

// link sets up the node's end of its link, and the ways to the other nodes' pods.
func (c *cluster) link(n string) error {
	lines := []string{"link set lo up", "addr add " + nodeIP(n) + "/24 dev eth0", "link set eth0 up", "route add default via " + controlPlaneIP}
	for _, other := range c.NodeNames() {
		if other != n {
			lines = append(lines, "route add "+podNet(other)+" via "+nodeIP(other))
		}
	}
	for _, line := range lines {
		if err := command("ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	// Only where bridge-nf is there, bridged packets pass netfilter.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

func mount(source, target, fs string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(source, target, fs, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// put replaces a file, and makes the folders that it needs.
func put(file, content string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(file, []byte(content), 0o644)
}
