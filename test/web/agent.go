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
	"syscall"
	"time"
)

// agent is a `vigie run` with sockets, state and policies of its own.
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
	a := &agent{url: "http://" + addr, log: filepath.Join(dir, "agent.log")}
	log, err := os.Create(a.log)
	if err != nil {
		return nil, fmt.Errorf("prepare the agent: %w", err)
	}
	defer log.Close()
	a.cmd = exec.Command(vigie, "run", "--quiet", "--http", addr, "--token-file", tokenFile, "--socket", filepath.Join(dir, "vigie.sock"),
		"--state-dir", filepath.Join(dir, "state"), "--policy-dir", policies, "--lock-file", filepath.Join(dir, "lock"),
		"--tetragon-api", "off", "--program-stats")
	a.cmd.Stderr = log
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w; build it with make build", err)
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
