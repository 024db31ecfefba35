// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// keeper runs the watchdog as a child process, and another one when it dies.
type keeper struct {
	command  []string
	groups   groups
	subjects *ebpf.Map
	pageFile *os.File
	page     *page
	exempt   sync.Locker // held while a watchdog is started: its program is no file that is asked about
	restarts func(error) // told of every watchdog that ended by itself

	stopping atomic.Bool
	pid      atomic.Int32 // of the watchdog that runs; 0: none
	pipe     *os.File     // the agent's end
	done     chan struct{}
}

// start returns when the watchdog runs.
func (k *keeper) start() error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the watchdog's pipe: %w", err)
	}
	k.pipe, k.done = write, make(chan struct{})
	started := make(chan error)
	go func() {
		defer close(k.done)
		defer read.Close()
		k.keep(read, started)
	}()
	if err := <-started; err != nil {
		<-k.done
		return errors.Join(err, write.Close())
	}
	return nil
}

// keep starts the watchdog and waits for it. The kernel ends a child with PR_SET_PDEATHSIG when the thread that started it
// ends, so this thread does nothing else.
func (k *keeper) keep(pipe *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for first := true; !k.stopping.Load(); first = false {
		begun := time.Now()
		pid, said, err := k.run(pipe)
		k.pid.Store(int32(pid))
		if first {
			started <- err
			if err != nil {
				return
			}
		}
		if err == nil {
			err = wait(pid, said)
		}
		k.pid.Store(0)
		if k.stopping.Load() {
			return
		}
		k.release()
		k.restarts(err)
		if pause := time.Second - time.Since(begun); pause > 0 {
			rest(pause) // a watchdog that cannot run is not tried all the time
		}
	}
}

// run starts one. Its messages go to a file that has no name. Not by os/exec, which would make the group's descriptor, and
// with it the agent's, a blocking one.
func (k *keeper) run(pipe *os.File) (pid, said int, err error) {
	said, err = unix.MemfdCreate("vigie-watchdog-stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, 0, fmt.Errorf("start the watchdog: %w", err)
	}
	out := uintptr(said)
	k.exempt.Lock()
	defer k.exempt.Unlock()
	pid, err = syscall.ForkExec(k.command[0], k.command, &syscall.ProcAttr{
		Env: []string{"GOMAXPROCS=1"},
		Files: []uintptr{out, out, out, watchdogNear: uintptr(k.groups[near].fd), watchdogWide: uintptr(k.groups[wide].fd), watchdogSubjects: uintptr(k.subjects.FD()),
			watchdogPage: k.pageFile.Fd(), watchdogPipe: pipe.Fd()},
		// A session of its own: a terminal's ^C is for the agent, which needs its watchdog until it has stopped.
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true},
	})
	if err != nil {
		unix.Close(said)
		return 0, 0, fmt.Errorf("start the watchdog %s: %w", k.command[0], err)
	}
	return pid, said, nil
}

// wait says how a watchdog ended.
func wait(pid, said int) error {
	defer unix.Close(said)
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the watchdog: %w", err)
		}
	}
	var buf [1024]byte
	n, _ := unix.Pread(said, buf[:], 0)
	text := strings.TrimSpace(string(buf[:max(n, 0)]))
	switch {
	case status.Signaled():
		return fmt.Errorf("%w by signal %v: %s", errNoWatchdog, status.Signal(), text)
	default:
		return fmt.Errorf("%w with code %d: %s", errNoWatchdog, status.ExitStatus(), text)
	}
}

// release gives back to the agent what a dead watchdog was answering.
func (k *keeper) release() {
	for i := range k.page.slots {
		k.page.slots[i].state.CompareAndSwap(slotRescuing, slotTaken)
	}
}

// stop ends the watchdog: it reads the end of its pipe.
func (k *keeper) stop() error {
	k.stopping.Store(true)
	err := k.pipe.Close()
	<-k.done
	return err
}

// rest has the calling thread do nothing for a while.
func rest(d time.Duration) { _, _ = unix.Poll(nil, int(d/time.Millisecond)) }
