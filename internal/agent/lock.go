// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RunningError says that another agent runs on this host.
type RunningError struct {
	PID  int // 0 when it could not be read
	Lock string
}

// Error says whose pid it is and what to do.
func (e *RunningError) Error() string {
	return fmt.Sprintf("another vigie agent runs on this host with pid %d (it holds %s): use it (`vigie status`) or stop it first", e.PID, e.Lock)
}

// takeLock holds path, with this process's pid in it, until the returned function is called. The kernel
// frees the lock when the process dies, however it dies.
func takeLock(path string) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make the directory of the lock file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			b, _ := io.ReadAll(io.LimitReader(f, 32))
			pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
			return nil, &RunningError{PID: pid, Lock: path}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write the pid to %s: %w", path, err), f.Close())
	}
	// The file stays: removing it would let two agents hold two files of one name.
	return func() { f.Close() }, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
