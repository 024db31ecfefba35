// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// threads says which process a waiting thread is of. It keeps what it has found: that a pair is still right costs one
// system call, and while the thread waits it cannot become wrong. One goroutine uses it.
type threads struct{ known map[int32]int32 }

// maxKnown bounds threads; one that is full begins anew.
const maxKnown = 8192

// of is the id of the thread's process; 0 when the thread is gone.
func (g *threads) of(tid int32) int32 {
	if unix.Tgkill(int(tid), int(tid), 0) == nil {
		return tid // the first thread of its process
	}
	if pid, ok := g.known[tid]; ok && unix.Tgkill(int(pid), int(tid), 0) == nil {
		return pid
	}
	pid := groupOf(tid)
	if g.known == nil || len(g.known) >= maxKnown {
		g.known = make(map[int32]int32)
	}
	if pid != 0 {
		g.known[tid] = pid
	}
	return pid
}

// groupOf reads it from /proc, which is never marked: nobody waits for the agent to read it.
func groupOf(tid int32) int32 {
	var buf [512]byte
	b := readProc(tid, "/status", buf[:])
	_, after, ok := bytes.Cut(b, []byte("\nTgid:\t"))
	if !ok {
		return 0
	}
	digits, _, _ := bytes.Cut(after, []byte("\n"))
	pid, err := strconv.ParseInt(string(digits), 10, 32)
	if err != nil {
		return 0
	}
	return int32(pid)
}

// readProc reads the beginning of a file of /proc/ID; nothing when it cannot be read.
func readProc(id int32, name string, buf []byte) []byte {
	path := append(strconv.AppendInt([]byte("/proc/"), int64(id), 10), name...)
	fd, err := unix.Open(string(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil || n < 0 {
		return nil
	}
	return buf[:n]
}
