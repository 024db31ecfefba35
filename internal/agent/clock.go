// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/kernel"
)

// clock turns the kernel's time since boot into wall-clock time. The offset is read anew with every batch, so
// that a step of the wall clock shows in the events after it and in none before.
type clock struct {
	realtime func() time.Time
	boottime func() uint64 // ns since boot; 0 when the kernel does not say
	offset   atomic.Int64
}

func newClock(realtime func() time.Time, boottime func() uint64) *clock {
	c := &clock{realtime: realtime, boottime: boottime}
	c.sync()
	return c
}

func (c *clock) sync() {
	if boot := c.boottime(); boot != 0 {
		c.offset.Store(c.realtime().UnixNano() - int64(boot))
	}
}

// bootTime is kernel.BootTime, 0 when the kernel does not say.
func bootTime() uint64 {
	now, _ := kernel.BootTime()
	return now
}

func (c *clock) wall(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+c.offset.Load()).UTC()
}

// bootID is the kernel's boot id, dashes included.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if len(id) < 8 {
		return "", fmt.Errorf("boot id %q is too short", id)
	}
	return id, nil
}

// shortBoot is what an exec_id carries of a boot id: its first eight digits, before the first dash.
func shortBoot(id string) string { return id[:8] }
