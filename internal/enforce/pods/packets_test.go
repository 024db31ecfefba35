// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestSensorsSeePackets holds that who looks at packets sees each once, denied or not, while there are policies, before and after.
func TestSensorsSeePackets(t *testing.T) {
	w := newWorld(t)
	w.enforcer.options.PinDir = fmt.Sprintf("/sys/fs/bpf/vigie-test-%d-packets", os.Getpid())
	t.Cleanup(func() { _ = os.RemoveAll(w.enforcer.options.PinDir) })
	for _, step := range []struct {
		name, policies string
		comes          bool
	}{{"before policies", "", true}, {"denied", closed, false}, {"after policies", "", true}, {"denied again", closed, false}} {
		if step.policies != "" {
			w.apply(step.policies)
		} else if err := w.enforcer.Apply(context.Background(), State{}); err != nil {
			t.Fatal(err)
		}
		to := target{netpoltest.Address(5, false), unix.IPPROTO_UDP, 80}
		if got := w.pods[0].probe(t, time.Second, to)[0]; got != step.comes {
			t.Fatalf("%s: came through: %v", step.name, got)
		}
		w.awaits(step.name+": the datagram is counted once", func() bool {
			return slices.ContainsFunc(w.closes, func(ev *model.Event) bool {
				return ev.Key.PID == uint32(w.pods[0].cmd.Process.Pid) && ev.Socket.PacketsSent == 1 && ev.Socket.Remote == netip.AddrPortFrom(to.Address, to.Port)
			})
		})
		w.pods[3].ns.Do(t, func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(netpoltest.Address(4, false), 53).String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(make([]byte, 17)) // of a question, what the kernel looks at
			return err
		})
		w.awaits(step.name+": the question is seen", func() bool { return w.dns > 0 })
		w.mu.Lock()
		if w.dns != 1 {
			t.Errorf("%s: a question is seen %d times", step.name, w.dns)
		}
		w.closes, w.dns = nil, 0
		w.mu.Unlock()
	}
}

// awaits waits until something holds of what was recorded.
func (w *world) awaits(what string, holds func() bool) {
	w.t.Helper()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		ok := holds()
		w.mu.Unlock()
		if ok {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.closes {
		w.t.Logf("close of %v: %+v", ev.Key, *ev.Socket)
	}
	w.t.Fatalf("not so: %s (%d packets of DNS)", what, w.dns)
}
