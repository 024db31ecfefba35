// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// BootTime is nanoseconds since boot (CLOCK_BOOTTIME), the clock of all records. It fails on no kernel that runs BPF.
func BootTime() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read the time since boot: %w", err)
	}
	return uint64(ts.Nano()), nil
}
