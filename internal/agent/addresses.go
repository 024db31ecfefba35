// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// addressCache knows the addresses of network namespaces.
type addressCache struct {
	mu    sync.Mutex
	known map[uint32]knownAddresses
}

type knownAddresses struct {
	list []netip.Addr
	at   time.Time
}

// Addresses change rarely, and namespaces are many on a host of containers.
const (
	addressAge = 2 * time.Second
	addressMax = 4096
)

// of is the addresses of a network namespace that a process is in, both loopback ones included; of one that cannot be
// entered only these.
func (c *addressCache) of(inode, pid uint32) []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.known[inode]; ok && time.Since(k.at) < addressAge {
		return k.list
	}
	list := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	found, err := addressesIn(pid)
	if err == nil {
		list = found
	}
	if c.known == nil || len(c.known) >= addressMax {
		c.known = make(map[uint32]knownAddresses)
	}
	c.known[inode] = knownAddresses{list, time.Now()}
	return list
}

// addressesIn asks the network namespace of a process by a socket that is made there.
func addressesIn(pid uint32) ([]netip.Addr, error) {
	ns, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open a network namespace: %w", err)
	}
	defer ns.Close()
	h, err := askIn(ns)
	if err != nil {
		return nil, fmt.Errorf("ask a network namespace: %w", err)
	}
	defer h.Close()
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of a network namespace: %w", err)
	}
	var out []netip.Addr
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			out = append(out, ip.Unmap())
		}
	}
	return out, nil
}

// askIn opens a socket in a network namespace. To enter another than one's own takes CAP_SYS_ADMIN.
func askIn(ns netns.NsHandle) (*netlink.Handle, error) {
	own, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	if own.Equal(ns) {
		return netlink.NewHandle()
	}
	return netlink.NewHandleAt(ns)
}
