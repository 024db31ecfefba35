// SPDX-License-Identifier: Apache-2.0

// Command web sets the stage on which the web page is tested: an agent of its own, a small shop whose workloads talk to
// each other, a relay in front of the agent and of a node that does not answer, and a made-up agent with a large map. In: the command to run on it, by default none: then the stage stands until
// it is interrupted. Out: VIGIE_URL, VIGIE_TOKEN, VIGIE_RELAY_URL and VIGIE_LARGE_URL in the command's environment, and its exit code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/test/web/fake"
	"github.com/vigie-io/vigie/test/web/shop"
)

// token is what the agent of the stage asks for.
const token = "a-token-for-the-tests-of-the-page"

func main() {
	if role, ok := shop.RoleOf(os.Args); ok {
		shop.Play(role)
		return
	}
	vigie := flag.String("vigie", "bin/vigie", "the agent's binary")
	addr := flag.String("http", "127.0.0.1:0", "address of the agent")
	large := flag.String("large", "1000x5000", "nodes and edges of the made-up map")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, options{vigie: *vigie, addr: *addr, large: *large, command: flag.Args()})
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "test/web:", err)
		os.Exit(1)
	}
}

type options struct {
	vigie, addr, large string
	command            []string
}

// run sets the stage, runs the command on it and clears it away.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "vigie-web-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	a, err := startAgent(ctx, o.vigie, o.addr, dir)
	if err != nil {
		return err
	}
	defer a.stop()
	relay, err := startRelay(ctx, o.vigie, a, dir)
	if err != nil {
		return err
	}
	defer relay.stop()
	s, err := shop.Open(ctx, filepath.Join(dir, "shop"))
	if err != nil {
		return err
	}
	defer s.Close()
	large, err := serveLarge(ctx, o.large)
	if err != nil {
		return err
	}
	fmt.Printf("agent  %s  token %s\nrelay  %s\nlarge  %s\n", a.url, token, relay.url, large)
	if len(o.command) == 0 {
		<-ctx.Done()
		return nil
	}
	cmd := exec.CommandContext(ctx, o.command[0], o.command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "VIGIE_URL="+a.url, "VIGIE_TOKEN="+token, "VIGIE_RELAY_URL="+relay.url, "VIGIE_LARGE_URL="+large)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}

// serveLarge serves the made-up agent until ctx ends, and returns its address.
func serveLarge(ctx context.Context, size string) (string, error) {
	var nodes, edges int
	if _, err := fmt.Sscanf(size, "%dx%d", &nodes, &edges); err != nil || nodes < 1 || edges < 1 {
		return "", fmt.Errorf("-large %q: give NODESxEDGES", size)
	}
	handler, err := fake.New(nodes, edges)
	if err != nil {
		return "", err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the made-up agent: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }() // ends with the process
	return "http://" + l.Addr().String(), nil
}
