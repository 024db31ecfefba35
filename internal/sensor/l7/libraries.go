// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor/l7/site"
)

// libraries attaches the probes to the files that have TLS libraries in them: those of processes that run, those where
// programs that start later will find them, and what the kernel tells of.
type libraries struct {
	objs    *bpfObjects
	log     *slog.Logger
	notices chan notice
	lost    *pipeline.Counter
	cancel  context.CancelFunc
	done    sync.WaitGroup

	links []link.Link // of the goroutine, until it has ended

	mu    sync.Mutex
	known map[fileID]bool // files that were looked at; true once their probes are attached
}

// notice is a process that runs code of a file for the first time.
type notice struct {
	pid    uint32
	inode  uint64
	device uint32 // as the kernel writes it
}

type fileID struct{ device, inode uint64 }

func newLibraries(objs *bpfObjects, log *slog.Logger, losses *pipeline.Losses) *libraries {
	return &libraries{objs: objs, log: log, notices: make(chan notice, 1024), known: make(map[fileID]bool),
		lost: losses.Counter("l7", "too many new programs at once")}
}

// start looks at what is there, and then at what comes, until ctx ends or Close.
func (l *libraries) start(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	l.done.Go(func() {
		l.scan(ctx)
		for {
			select {
			case <-ctx.Done():
				return
			case n := <-l.notices:
				l.look(n)
			}
		}
	})
}

// Close detaches all probes.
func (l *libraries) Close() error {
	l.cancel()
	l.done.Wait()
	var errs []error
	for _, k := range l.links {
		errs = append(errs, k.Close())
	}
	l.links = nil
	return errors.Join(errs...)
}

// notice takes what the kernel tells. It does not wait.
func (l *libraries) notice(n notice) {
	select {
	case l.notices <- n:
	default:
		l.lost.Add(1)
		l.forget(n)
	}
}

// forget has the kernel tell of a file again.
func (l *libraries) forget(n notice) {
	err := l.objs.VgL7Files.Delete(bpfL7File{Inode: n.inode, Device: n.device})
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		l.log.Debug("a program will not be looked at again", "inode", n.inode, "error", err)
	}
}

// look finds the file that a process has mapped. A process that has ended by now has another come to tell of it.
func (l *libraries) look(n notice) {
	paths, err := mappedCode(n.pid)
	for _, m := range paths {
		if err == nil && m.inode == n.inode && l.file(m.path) {
			return
		}
	}
	l.forget(n)
}

// scan looks at the code of all processes, and at the libraries of the host.
func (l *libraries) scan(ctx context.Context) {
	var paths []string
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib/*-linux-gnu", "/usr/lib/*-linux-gnu"} {
		for _, name := range []string{"libssl.so*", "libgnutls.so*"} {
			found, _ := filepath.Glob(filepath.Join(dir, name)) // the pattern is a good one
			paths = append(paths, found...)
		}
	}
	seen := make(map[uint64]bool)
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range pids {
		pid, err := strconv.ParseUint(filepath.Base(p), 10, 32)
		if err != nil {
			continue
		}
		mapped, _ := mappedCode(uint32(pid)) // it may have ended
		for _, m := range mapped {
			if !seen[m.inode] {
				seen[m.inode] = true
				paths = append(paths, m.path)
			}
		}
	}
	for _, p := range paths {
		if ctx.Err() != nil {
			return
		}
		l.file(p)
	}
}

type mappedFile struct {
	path  string // through the process's root
	inode uint64
}

// mappedCode lists the files whose code a process has mapped, from /proc/PID/maps (proc_pid_maps(5)).
func mappedCode(pid uint32) ([]mappedFile, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, fmt.Errorf("read what a process has mapped: %w", err)
	}
	defer f.Close()
	var out []mappedFile
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// address perms offset dev inode path
		w := strings.Fields(lines.Text())
		if len(w) < 6 || !strings.HasPrefix(w[5], "/") || w[1][2] != 'x' {
			continue
		}
		inode, err := strconv.ParseUint(w[4], 10, 64)
		if err != nil {
			continue
		}
		out = append(out, mappedFile{fmt.Sprintf("/proc/%d/root%s", pid, strings.Join(w[5:], " ")), inode})
	}
	return out, lines.Err()
}

// file attaches the probes of a file, once. False: it cannot be opened any more, it was deleted or its process has ended.
func (l *libraries) file(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || !l.first(fileID{st.Dev, st.Ino}) {
		return true
	}
	probes, err := probesOf(f)
	if err != nil {
		if !errors.Is(err, site.ErrNone) {
			l.log.Info("TLS of a program is not read", "file", path, "error", err)
		}
		return true
	}
	// By the open file: the process through whose root it was found may end meanwhile.
	exe, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		l.log.Info("TLS of a program is not read", "file", path, "error", err)
		return true
	}
	for _, p := range probes {
		attach := exe.Uprobe
		if p.returns {
			attach = exe.Uretprobe
		}
		k, err := attach("", p.program(l.objs), &link.UprobeOptions{Address: p.offset, Cookie: p.cookie})
		if err != nil {
			l.log.Warn("TLS of a program is not read in full", "file", path, "function", p.name, "error", err)
			continue
		}
		l.links = append(l.links, k)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[fileID{st.Dev, st.Ino}] = true
	l.log.Debug("TLS of a program is read", "file", path, "probes", len(probes))
	return true
}

// first reports whether a file has not been looked at, and notes that it has.
func (l *libraries) first(id fileID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, seen := l.known[id]
	if !seen {
		l.known[id] = false
	}
	return !seen
}

// probed reports whether the probes of a file are attached.
func (l *libraries) probed(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[fileID{st.Dev, st.Ino}]
}

// probesOf says where the probes of a file go. Errors: site.ErrNone, or why it cannot be said.
func probesOf(r io.ReaderAt) ([]probe, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, site.ErrNone // no program
	}
	probes, err := libraryProbes(f)
	if !errors.Is(err, site.ErrNone) {
		return probes, err
	}
	return goProbes(f)
}
