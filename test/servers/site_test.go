// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// site is a host within the host: a mount namespace whose root is an overlay of this host's, so that nothing that is
// written stays and no file of the host changes, and a network namespace with nothing but a loopback device. One thread
// lives in it, and what is started by this thread does too.
type site struct {
	t    *testing.T
	work chan func()
}

// What attackers reach for, and must not. The files are everybody's, so that nothing but a policy protects them.
const (
	secret     = "/root/.ssh/id_rsa"
	shadow     = "/etc/shadow"
	elsewhere  = "192.0.2.10" // an address that no server has to do with
	implanted  = "/opt/implant"
	bystander  = "127.0.0.1:7777" // something else that listens on this host
	stolenText = "vigie-test-secret"
)

// hidden are directories of the host that a site begins without.
func hidden() map[string]uint32 {
	return map[string]uint32{"tmp": 0o1777, "root": 0o755, "home": 0o755, "run": 0o755, "dev": 0o755, "srv": 0o755, "opt": 0o755,
		"var/tmp": 0o1777, "var/lib/postgresql": 0o755, "var/lib/redis": 0o755, "var/log/nginx": 0o755, "var/log/redis": 0o755,
		"var/www": 0o755, "etc/nginx/sites-enabled": 0o755}
}

// newSite makes a site that goes away with the test.
func newSite(t *testing.T) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, mounts and cgroups")
	}
	var root unix.Statfs_t
	if err := unix.Statfs("/", &root); err != nil || root.Type == unix.OVERLAYFS_SUPER_MAGIC {
		t.Skipf("needs a root that is no overlay itself, as that of a container is: agents of these tests watch overlays (%v)", err)
	}
	s := &site{t: t, work: make(chan func())}
	dir := t.TempDir()
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the site
		err := enterSite(dir)
		made <- err
		if err != nil {
			return
		}
		for fn := range s.work {
			fn()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(s.work) })
	s.must(fillSite)
	s.put(implanted+"/implant", readFile(t, program(t, "implant")), 0o755)
	return s
}

// do runs fn in the site.
func (s *site) do(fn func() error) error {
	done := make(chan error)
	s.work <- func() { done <- fn() }
	return <-done
}

// must is do for what has to work.
func (s *site) must(fn func() error) {
	s.t.Helper()
	if err := s.do(fn); err != nil {
		s.t.Fatal(err)
	}
}

// put makes a file in the site, in a directory that is made if it is not there; one that exists is replaced by another
// inode, so that a program that runs can be.
func (s *site) put(name string, text []byte, mode os.FileMode) {
	s.t.Helper()
	s.must(func() error {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name+".new", text, mode); err != nil {
			return err
		}
		if err := os.Chmod(name+".new", mode); err != nil {
			return err
		}
		return os.Rename(name+".new", name)
	})
}

// own gives files of the site to a user; what is not there becomes a directory.
func (s *site) own(id account, names ...string) {
	s.t.Helper()
	s.must(func() error {
		for _, name := range names {
			if _, err := os.Lstat(name); err != nil {
				if err := os.MkdirAll(name, 0o755); err != nil {
					return err
				}
			}
			if err := os.Chown(name, int(id.uid), int(id.gid)); err != nil {
				return err
			}
		}
		return nil
	})
}

// text reads a file of the site; empty when it is not there.
func (s *site) text(name string) string {
	var b []byte
	_ = s.do(func() (err error) {
		b, err = os.ReadFile(name)
		return err
	})
	return string(b)
}

// exists reports whether a file is in the site.
func (s *site) exists(name string) bool {
	return s.do(func() error {
		_, err := os.Lstat(name)
		return err
	}) == nil
}

// enterSite moves this thread into namespaces of its own, with dir as the place of the new root.
func enterSite(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part from the host's mounts: %w", err)
	}
	if err := unix.Mount("vigie-test", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	upper, root := dir+"/upper", dir+"/root"
	for _, d := range []string{upper, dir + "/work", root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for name, mode := range hidden() {
		d := filepath.Join(upper, name)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := unix.Chmod(d, mode); err != nil {
			return err
		}
		if err := unix.Setxattr(d, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("hide /%s: %w", name, err)
		}
	}
	options := "lowerdir=/,upperdir=" + upper + ",workdir=" + dir + "/work"
	if err := unix.Mount("vigie-test", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay of the root: %w", err)
	}
	if err := unix.Mount("proc", root+"/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("/sys", root+"/sys", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// fillSite makes what a server finds on a host, and what an attacker looks for.
func fillSite() error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod("/dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
		if err := os.Chmod("/dev/"+name, 0o666); err != nil {
			return err
		}
	}
	for _, d := range []string{"/dev/shm", "/root/.ssh", "/etc/cron.d"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(d, 0o777); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{secret: stolenText + "\n", shadow: "root:" + stolenText + ":19000:0:99999:7:::\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(name, 0o666); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	for _, address := range []string{elsewhere + "/32"} {
		ip, network, err := net.ParseCIDR(address)
		if err != nil {
			return err
		}
		network.IP = ip
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: network}); err != nil {
			return fmt.Errorf("give the loopback device %s: %w", address, err)
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback device up: %w", err)
	}
	return nil
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
