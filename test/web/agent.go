// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// agent is a `vigie run` with sockets, state and policies of its own, or a `vigie relay`.
type agent struct {
	cmd *exec.Cmd
	url string
	log string // its file
}

// startAgent starts one and waits until it is ready.
func startAgent(ctx context.Context, vigie, addr, dir string) (*agent, error) {
	addr, err := free(ctx, addr)
	if err != nil {
		return nil, err
	}
	tokenFile, policies := filepath.Join(dir, "token"), filepath.Join(dir, "policies")
	if err := errors.Join(os.WriteFile(tokenFile, []byte(token), 0o600), os.Mkdir(policies, 0o755)); err != nil {
		return nil, fmt.Errorf("prepare the agent: %w", err)
	}
	return start(ctx, addr, filepath.Join(dir, "agent.log"), exec.Command(vigie, "run", "--quiet", "--http", addr, "--token-file", tokenFile,
		"--socket", filepath.Join(dir, "vigie.sock"), "--state-dir", filepath.Join(dir, "state"), "--policy-dir", policies,
		"--lock-file", filepath.Join(dir, "lock"), "--tetragon-api", "off", "--program-stats"))
}

// startRelay starts one that answers for the agent, and for a node that nobody answers at.
func startRelay(ctx context.Context, vigie string, a *agent, dir string) (*agent, error) {
	addr, err := free(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tokenFile := filepath.Join(dir, "token")
	return start(ctx, addr, filepath.Join(dir, "relay.log"), exec.Command(vigie, "relay", "--http", addr, "--token-file", tokenFile,
		"--agent-token-file", tokenFile, "--agents", strings.TrimPrefix(a.url, "http://")+",gone=127.0.0.1:1"))
}

// start starts a command that serves the page at addr, and waits until it does.
func start(ctx context.Context, addr, file string, cmd *exec.Cmd) (*agent, error) {
	a := &agent{cmd: cmd, url: "http://" + addr, log: file}
	log, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", filepath.Base(file), err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %w; build it with make build", err)
	}
	if err := a.await(ctx); err != nil {
		a.stop()
		text, _ := os.ReadFile(a.log)
		return nil, fmt.Errorf("%w; its log:\n%s", err, text)
	}
	return a, nil
}

// free is addr with a port that nothing has, where addr leaves it open.
func free(ctx context.Context, addr string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("find a port for the agent: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (a *agent) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for tick := time.Tick(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return errors.New("the agent does not become ready")
		case <-tick:
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
}

func (a *agent) stop() {
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	_ = a.cmd.Wait()
}
