// SPDX-License-Identifier: Apache-2.0

package all

import (
	"bytes"
	"errors"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const spawnerArg = "spawner"

// Spawner starts processes for a world, in a process of its own: while a Go program starts another one it can be held
// until that one's file has been opened, and the back-end that is asked about the open may be in the test's own process.
type Spawner struct{}

// Spawn is what to start.
type Spawn struct {
	Binary string
	Args   []string
	Dir    string
}

// Run runs it and says how it went: what it printed, or "killed".
func (Spawner) Run(s Spawn, how *string) error {
	var out bytes.Buffer
	cmd := exec.Command(s.Binary, s.Args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), actorEnv+"=1")
	err := cmd.Run()
	if cmd.ProcessState == nil {
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			*how = unix.ErrnoName(errno)
			return nil
		}
		return err
	}
	*how = strings.TrimSpace(out.String())
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		if *how = ws.Signal().String(); ws.Signal() == unix.SIGKILL {
			*how = "killed"
		}
	}
	return nil
}

// stdio is what a spawner is asked by.
type stdio struct {
	io.Reader
	io.WriteCloser
}

func serveSpawner() error {
	server := rpc.NewServer()
	if err := server.Register(Spawner{}); err != nil {
		return err
	}
	server.ServeConn(stdio{os.Stdin, os.Stdout})
	return nil
}

// startSpawner starts one that ends with the test.
func startSpawner(t *testing.T) *rpc.Client {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", spawnerArg)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := rpc.NewClient(stdio{out, in})
	t.Cleanup(func() {
		client.Close()
		_ = cmd.Wait()
	})
	return client
}
