// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// env holds what tests share. Each part is made when the first test asks for it.
type env struct {
	cgroupRoot string // "" without cgroup v2

	specOnce sync.Once
	spec     *btf.Spec
	specErr  error
	specMu   sync.Mutex // a Spec decodes types lazily and is not safe for concurrent use

	cgroupOnce sync.Once
	cgroupDir  string
	cgroupMade bool
	cgroupErr  error

	lsmOnce sync.Once
	lsmErr  error

	netOnce sync.Once
	netJobs chan func()
	netDone chan struct{}
	netFD   int
	netErr  error
}

func (e *env) close() error {
	if e.netJobs != nil {
		close(e.netJobs)
		<-e.netDone
		e.netJobs = nil
	}
	if !e.cgroupMade {
		return nil
	}
	err := os.Remove(e.cgroupDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the probe's cgroup: %w", err)
	}
	return nil
}

// cgroup is a cgroup to attach to: one of our own without any process. Where none can be made, for
// the agent may run with fewer rights than that takes, it is the root of the hierarchy, to which the
// agent attaches as well; the tests' programs let everything pass.
func (e *env) cgroup() (string, error) {
	e.cgroupOnce.Do(func() {
		if e.cgroupRoot == "" {
			e.cgroupErr = errNoCgroup2
			return
		}
		dir, err := os.MkdirTemp(e.cgroupRoot, "vigie-probe-")
		if err != nil {
			e.cgroupDir = e.cgroupRoot
			return
		}
		e.cgroupDir, e.cgroupMade = dir, true
	})
	return e.cgroupDir, e.cgroupErr
}

// inNetns runs f on a thread in a network namespace of our own, where interface 1 is a loopback
// that nobody uses; nsfd is the namespace.
func (e *env) inNetns(f func(nsfd int) error) error {
	e.netOnce.Do(e.startNetns)
	if e.netErr != nil {
		return e.netErr
	}
	result := make(chan error)
	e.netJobs <- func() { result <- f(e.netFD) }
	return <-result
}

func (e *env) startNetns() {
	started := make(chan error)
	jobs, done := make(chan func()), make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine and takes the namespace with it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			started <- &setupError{"make a network namespace", err}
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			started <- &setupError{"open a network namespace", err}
			return
		}
		defer unix.Close(fd)
		e.netFD = fd
		started <- nil
		for job := range jobs {
			job()
		}
	}()
	if e.netErr = <-started; e.netErr == nil {
		e.netJobs, e.netDone = jobs, done
	}
}

// kernelType is the id of a named type of vmlinux; found is false when there is no such type.
func (e *env) kernelType(name string, typ any) (id btf.TypeID, found bool, err error) {
	e.specOnce.Do(func() { e.spec, e.specErr = btf.LoadKernelSpec() })
	if e.specErr != nil {
		return 0, false, errNoBTF
	}
	e.specMu.Lock()
	defer e.specMu.Unlock()
	if err := e.spec.TypeByName(name, typ); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			return 0, false, nil
		}
		return 0, false, fmt.Errorf("look up %s in the kernel's BTF: %w", name, err)
	}
	var t btf.Type
	switch typ := typ.(type) {
	case **btf.Func:
		t = *typ
	case **btf.Typedef:
		t = *typ
	case **btf.Struct:
		t = *typ
	}
	id, err = e.spec.TypeID(t)
	return id, err == nil, err
}
