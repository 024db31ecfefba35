// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// up boots a cluster and stays until ctx ends. The control plane lives in namespaces of its own. It holds the other end of a pipe
// and ends when that closes, so that nothing stays however this process ends.
func up(ctx context.Context, dir string, o lab.Options) error {
	c, err := prepare(dir, o, "containerd", "cni")
	if err != nil {
		return err
	}
	// A socket belongs to the network in which it was made: by this one the API server is reached from outside.
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	file, err := outside.(*net.TCPListener).File()
	outside.Close()
	if err != nil {
		return err
	}
	defer file.Close()
	cp := exec.Command("/proc/self/exe", "control-plane", c.Dir)
	cp.Stdout, cp.Stderr, cp.ExtraFiles = os.Stdout, os.Stderr, []*os.File{file}
	cp.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, // an interrupt from the terminal is for this process, which then ends the other
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID}
	lifeline, err := cp.StdinPipe()
	if err != nil {
		return err
	}
	if err := cp.Start(); err != nil {
		return fmt.Errorf("make the control plane's namespaces (root): %w", err)
	}
	defer c.removeCgroups()
	for name, pid := range map[string]int{"cp.pid": cp.Process.Pid, "up.pid": os.Getpid()} {
		if err := os.WriteFile(c.path(name), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return errors.Join(err, lifeline.Close(), cp.Wait())
		}
		defer os.Remove(c.path(name))
	}
	ended := make(chan error, 1)
	go func() { ended <- cp.Wait() }()
	select {
	case err := <-ended:
		return fmt.Errorf("the control plane ended: %w", errors.Join(err, context.Cause(ctx)))
	case <-ctx.Done():
	}
	lifeline.Close()
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		return errors.Join(errors.New("the control plane did not end by itself"), cp.Process.Kill(), <-ended)
	}
}

// api runs etcd and kube-apiserver on the loopback of this machine, for tests of controllers and admission. It needs no privilege.
func api(ctx context.Context, dir string, o lab.Options) error {
	o.Nodes, o.NoNodes = 0, true
	c, err := prepare(dir, o)
	if err != nil {
		return err
	}
	// Found free and given back; kube-apiserver takes no listener.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	server := "https://127.0.0.1:" + port
	p := newProcesses(c)
	defer p.stop()
	// They also end when this process is killed: that goes by the thread that starts them.
	runtime.LockOSThread()
	p.attr.Pdeathsig = syscall.SIGKILL
	admin, err := c.identities(server, server)
	if err != nil {
		return err
	}
	if err := p.apiServer("127.0.0.1", port); err != nil {
		return err
	}
	k := &kubernetes{server: server, admin: admin}
	if err := p.orEnd(ctx, k.awaitReady); err != nil {
		return err
	}
	p.say("ready: export KUBECONFIG=%s", c.path("kubeconfig"))
	if err := p.ready(); err != nil {
		return err
	}
	select {
	case err := <-p.ended:
		return err
	case <-ctx.Done():
		return nil
	}
}
