// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NetNS is a network namespace of a test, without a name, so that nothing is left of it when the test
// ends, however it ends. Its loopback device is up.
type NetNS struct {
	Inode  uint32 // as in events
	handle netns.NsHandle
}

// NewNetNS makes a network namespace that goes away with the test.
func NewNetNS(t testing.TB) *NetNS {
	t.Helper()
	n := &NetNS{}
	err := onThread(func() error {
		handle, err := netns.New()
		if err != nil {
			return fmt.Errorf("make a network namespace (CAP_SYS_ADMIN): %w", err)
		}
		n.handle = handle
		var st unix.Stat_t
		if err := unix.Fstat(int(handle), &st); err != nil {
			return err
		}
		n.Inode = uint32(st.Ino)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.handle.Close() })
	n.link(t, "lo", "")
	return n
}

// Do runs fn in the namespace, on a thread of its own, and fails the test when fn does. Sockets that fn makes
// stay in the namespace.
func (n *NetNS) Do(t testing.TB, fn func() error) {
	t.Helper()
	if err := n.Run(fn); err != nil {
		t.Fatal(err)
	}
}

// Run is Do for goroutines that are not the test's own.
func (n *NetNS) Run(fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return fn()
	})
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

// Connect joins two namespaces by a pair of virtual Ethernet devices with the given addresses ("10.0.0.1/24",
// "fd00::1/64"). The test is skipped where the kernel has no such devices.
func Connect(t testing.TB, a, b *NetNS, addrA, addrB string) {
	t.Helper()
	var missing error
	a.Do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "peer"
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer", PeerNamespace: netlink.NsFd(b.handle)}
		missing = netlink.LinkAdd(veth)
		return nil
	})
	if errors.Is(missing, unix.EOPNOTSUPP) {
		t.Skip("needs virtual Ethernet devices (CONFIG_VETH, module veth)")
	}
	if missing != nil {
		t.Fatalf("make a pair of virtual devices: %v", missing)
	}
	a.link(t, "peer", addrA)
	b.link(t, "peer", addrB)
}

// link sets a device up, with an address when addr is not empty.
func (n *NetNS) link(t testing.TB, name, addr string) {
	t.Helper()
	n.Do(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find device %s: %w", name, err)
		}
		if addr != "" {
			ip, network, err := net.ParseCIDR(addr)
			if err != nil {
				return err
			}
			network.IP = ip
			// Without duplicate address detection an IPv6 address can be used at once.
			if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: network, Flags: unix.IFA_F_NODAD}); err != nil {
				return fmt.Errorf("give %s the address %s: %w", name, addr, err)
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
		return nil
	})
}
