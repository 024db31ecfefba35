// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// change is what a watching worker saw: from At on (CLOCK_MONOTONIC) something is denied, or allowed again.
type change struct {
	What   string        `json:"what"` // open or connect
	Denied bool          `json:"denied"`
	At     time.Duration `json:"at_ns"`
}

// watchStep opens a file and connects to an address again and again, and writes a line each time that one of them begins or
// ceases to be denied. target is "FILE ADDRESS"; "-" in the place of one: only the other is tried.
func (j *job) watchStep() (func() error, func(), error) {
	file, host, ok := strings.Cut(j.target, " ")
	if !ok {
		return nil, nil, fmt.Errorf("watch %q: no FILE ADDRESS", j.target)
	}
	path, err := unix.BytePtrFromString(file)
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket: %w", err)
	}
	tries := make(map[string]func() syscall.Errno)
	if file != "-" {
		tries["open"] = func() syscall.Errno {
			opened, errno := openRaw(path)
			if errno == 0 {
				unix.Close(int(opened))
			}
			return errno
		}
	}
	if host != "-" {
		to := address(host, anyPort)
		tries["connect"] = func() syscall.Errno { return connectRaw(fd, to) }
	}
	denied, out := make(map[string]bool), json.NewEncoder(j.out)
	return func() error {
		for what, try := range tries {
			errno := try()
			if errno != 0 && errno != syscall.EPERM { // EPERM is how policies deny
				return fmt.Errorf("%s: %w", what, errno)
			}
			if now := errno != 0; now != denied[what] {
				denied[what] = now
				if err := out.Encode(change{what, now, monotonic()}); err != nil {
					return err
				}
			}
		}
		time.Sleep(watchInterval)
		return nil
	}, func() { unix.Close(fd) }, nil
}

// watchInterval is how closely a change is timed. A worker that never slept would take the core on which the agent works.
const watchInterval = 100 * time.Microsecond

// monotonic is CLOCK_MONOTONIC, which all processes share.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every Linux has it
	}
	return time.Duration(ts.Nano())
}

// watcher is a worker that watches.
type watcher struct{ *crewMember }

// watch starts a worker that tries to open a file and to connect to an address; "-" for neither. End it.
func (b *bench) watch(ctx context.Context, file, host string) (*watcher, error) {
	m, err := b.hire(ctx, job{kind: "watch", target: file + " " + host})
	if err != nil {
		return nil, err
	}
	w := &watcher{m}
	if err := m.begin(); err != nil {
		w.end()
		return nil, err
	}
	return w, nil
}

var errNoChange = errors.New("nothing changed for the worker")

// await reads what changed until each of what is denied, or is not, and returns when each was.
func (w *watcher) await(denied bool, what ...string) (map[string]time.Duration, error) {
	at := make(map[string]time.Duration)
	late := time.AfterFunc(readyTimeout, func() { _ = w.cmd.Process.Kill() })
	defer late.Stop()
	for len(what) > 0 {
		line, err := w.out.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: %v is not %v within %v: %s", errNoChange, what, deniedWord(denied), readyTimeout, w.err.String())
		}
		var c change
		if err == nil {
			err = json.Unmarshal(line, &c)
		}
		if err != nil {
			return nil, fmt.Errorf("read what a worker saw: %w", err)
		}
		if i := slices.Index(what, c.What); i >= 0 && c.Denied == denied {
			what = slices.Delete(slices.Clone(what), i, i+1)
			at[c.What] = c.At
		}
	}
	return at, nil
}

func deniedWord(denied bool) string {
	if denied {
		return "denied"
	}
	return "allowed"
}

// end kills the worker and waits for it.
func (w *watcher) end() {
	_ = w.cmd.Process.Kill()
	w.dismiss()
}
