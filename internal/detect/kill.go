// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// Kill ends a process with SIGKILL, and only the one that key names: a number that another process has by now is left alone.
// pid 1 and this process are never ended.
func Kill(key model.ProcessKey) error {
	switch {
	case key.PID <= 1:
		return fmt.Errorf("pid %d is not ended: the host needs it", key.PID)
	case int(key.PID) == os.Getpid():
		return errors.New("the agent does not end itself")
	}
	// The descriptor holds on to the process that has the number now; then the start time tells whether that is the one.
	fd, err := unix.PidfdOpen(int(key.PID), 0)
	if err != nil {
		return fmt.Errorf("take hold of process %d: %w", key.PID, err)
	}
	defer unix.Close(fd)
	start, err := startTicks(key.PID)
	if err != nil {
		return err
	}
	if start != key.Start/(1e9/userHZ) {
		return fmt.Errorf("process %d is another one by now", key.PID)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("end process %d: %w", key.PID, err)
	}
	return nil
}

// userHZ is the unit of times in /proc/PID/stat: USER_HZ, 100 on every architecture that Go runs on.
const userHZ = 100

// startTicks is when a process started, in ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
func startTicks(pid uint32) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read when process %d started: %w", pid, err)
	}
	// The name, in parentheses, can hold anything; after the last one fields 3 and on follow.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read when process %d started: /proc/%d/stat has %d fields", pid, pid, len(fields)+2)
	}
	n, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read when process %d started: %w", pid, err)
	}
	return n, nil
}
