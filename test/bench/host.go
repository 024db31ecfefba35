// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// raisePIDs makes room for n more processes and returns what undoes it. The room is the smallest of
// kernel.pid_max, kernel.threads-max and what memory allows.
func raisePIDs(n int) (room int, restore func(), err error) {
	const path, perProcess = "/proc/sys/kernel/pid_max", 120 << 10 // bytes of kernel memory, measured generously
	restore = func() {}
	limit, err := strconv.Atoi(measure.SysText(path))
	if err != nil {
		return 0, restore, fmt.Errorf("read kernel.pid_max: %w", err)
	}
	if want := n + 10_000; limit < want {
		old := strconv.Itoa(limit)
		if err := os.WriteFile(path, []byte(strconv.Itoa(want)), 0); err == nil {
			restore = func() { _ = os.WriteFile(path, []byte(old), 0) }
			limit = want
		}
	}
	room = min(n, limit-5000)
	if threads, err := strconv.Atoi(measure.SysText("/proc/sys/kernel/threads-max")); err == nil {
		room = min(room, threads-5000)
	}
	for line := range strings.Lines(measure.SysText("/proc/meminfo")) {
		if name, value, _ := strings.Cut(line, ":"); name == "MemAvailable" {
			kib, _ := strconv.ParseUint(strings.Fields(value)[0], 10, 64)
			room = min(room, int(kib<<10*3/4/perProcess))
		}
	}
	return max(room, 0), restore, nil
}
