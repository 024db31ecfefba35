// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"runtime"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// Cut ends the conversations of processes under policies that their tables do not allow, and notes which sockets listen.
// Call it when other tables have come in force. When it returns nothing passes through what it cut any more; its ends are
// told so at once (ECONNABORTED) where the kernel can do that.
func (b *Backend) Cut(ctx context.Context) error {
	b.mu.Lock()
	idle := b.host == nil || (len(b.tables) == 0 && !b.judged)
	b.judged = len(b.tables) > 0
	var err error
	if !idle {
		err = b.recall()
	}
	b.mu.Unlock() // what follows takes its time, and is about programs that only Attach and Close change
	if idle || err != nil {
		return err
	}
	b.pass++
	if err := b.objs.VgNetPass.Set(b.pass); err != nil {
		return kernel.Explain("begin to look at open sockets", err)
	}
	found := make(map[uint32][]bpfVgNetCut) // by process
	err = b.host.Iterate(b.objs.VgNetHeld, func(r kernel.Record) error {
		c, _, err := kernel.View[bpfVgNetCut](r)
		if err != nil {
			return err
		}
		found[c.Pid] = append(found[c.Pid], *c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at open sockets: %w", err)
	}
	return b.endAll(ctx, found)
}

// endAll ends what was found, in each network namespace.
func (b *Backend) endAll(ctx context.Context, found map[uint32][]bpfVgNetCut) error {
	byNamespace := make(map[uint64][]bpfVgNetCut)
	paths := make(map[uint64]string)
	for pid, cuts := range found {
		path := "/proc/" + strconv.Itoa(int(pid)) + "/ns/net"
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			continue // the process is gone, and its sockets with it or with another holder, whose they are too
		}
		byNamespace[st.Ino] = append(byNamespace[st.Ino], cuts...)
		paths[st.Ino] = path
	}
	var errs []error
	for ns, cuts := range byNamespace {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		err := inNamespace(paths[ns], func() error {
			if err := run(b.objs.VgNetFlow); err != nil {
				return err
			}
			return b.end(cuts)
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, b.clearFlows())
	return errors.Join(errs...)
}

// endByProgram asks bpf_sock_destroy.
func (b *Backend) endByProgram([]bpfVgNetCut) error {
	return errors.Join(run(b.destroy.VgNetDestroyTcp), run(b.destroy.VgNetDestroyUdp))
}

// endByDiag asks sock_diag.
func (b *Backend) endByDiag(cuts []bpfVgNetCut) error {
	for i := range cuts {
		c := &cuts[i]
		if c.Cut == 0 || (c.Protocol != unix.IPPROTO_TCP && c.Protocol != unix.IPPROTO_UDP) {
			continue
		}
		// Best effort: nothing passes through it anyway, and it may have ended by itself.
		if err := destroyByDiag(c); err != nil && !errors.Is(err, unix.ENOENT) {
			b.options.Log.Debug("a connection that became forbidden is dead but was not told so", "error", err)
		}
	}
	return nil
}

func destroyByDiag(c *bpfVgNetCut) error {
	r := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	r.AddData((*destroyRequest)(c))
	_, err := r.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// destroyRequest is struct inet_diag_req_v2 (include/uapi/linux/inet_diag.h).
type destroyRequest bpfVgNetCut

// Len implements nl.NetlinkRequestData.
func (r *destroyRequest) Len() int { return 56 }

// Serialize implements nl.NetlinkRequestData.
func (r *destroyRequest) Serialize() []byte {
	b := make([]byte, 0, r.Len())
	local, remote := netip.AddrFrom16(r.Local).Unmap(), netip.AddrFrom16(r.Remote).Unmap()
	family, pad := byte(unix.AF_INET6), 0
	if local.Is4() {
		family, pad = unix.AF_INET, 12
		remote = netip.AddrFrom4([4]byte(r.Remote[12:])) // of a listener: 0.0.0.0
	}
	b = append(b, family, byte(r.Protocol), 0, 0)
	b = binary.NativeEndian.AppendUint32(b, math.MaxUint32) // any state
	b = binary.NativeEndian.AppendUint16(b, r.LocalPort)    // in network byte order already
	b = binary.NativeEndian.AppendUint16(b, r.RemotePort)
	b = append(append(b, local.AsSlice()...), make([]byte, pad)...)
	b = append(append(b, remote.AsSlice()...), make([]byte, pad)...)
	b = binary.NativeEndian.AppendUint32(b, 0)                 // any interface
	return binary.NativeEndian.AppendUint64(b, math.MaxUint64) // whatever its cookie
}

// run runs an iterator to its end.
func run(p *ebpf.Program) error {
	it, err := link.AttachIter(link.IterOptions{Program: p})
	if err != nil {
		return kernel.Explain("attach an iterator over sockets", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return kernel.Explain("open an iterator over sockets", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("go through the sockets: %w", err)
	}
	return nil
}

// clearFlows forgets the addresses of MPTCP's sockets, which mean something for this pass only.
func (b *Backend) clearFlows() error {
	var keys []uint64
	var key uint64
	var flow [8]byte
	it := b.objs.VgNetFlows.Iterate()
	for it.Next(&key, &flow) {
		keys = append(keys, key)
	}
	return errors.Join(it.Err(), deleteAll(b.objs.VgNetFlows, keys))
}

// inNamespace runs fn on a thread in a network namespace.
func inNamespace(path string, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends, and nobody else gets its namespace
		done <- func() error {
			ns, err := netns.GetFromPath(path)
			if err != nil {
				return fmt.Errorf("open a network namespace: %w", err)
			}
			defer ns.Close()
			if err := netns.Set(ns); err != nil {
				return fmt.Errorf("enter a network namespace (CAP_SYS_ADMIN): %w", err)
			}
			return fn()
		}()
	}()
	return <-done
}
