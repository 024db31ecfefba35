// SPDX-License-Identifier: Apache-2.0

// Command vigie is the agent and its command line in one binary. In: arguments and signals. Out: an exit
// code; what is printed on the way is internal/cli's.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/cli"
	"github.com/vigie-io/vigie/internal/cli/doctor"
)

// version is set by the linker; see the Makefile.
var version = "unversioned"

// clockAhead is set by the linker in the test of nodes whose clocks differ: by how much this agent believes that it is later
// than the host's clock says.
var clockAhead string

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends a stop that takes too long
	env := cli.SystemEnv(version, commit())
	if ahead, err := time.ParseDuration(clockAhead); err == nil {
		env.Now = func() time.Time { return time.Now().Add(ahead) }
	}
	return cli.Execute(ctx, env, cli.New(env,
		cli.NewRun(env, agent.Default(), agent.Run),
		cli.NewRelay(env, agent.DefaultRelayConfig(), agent.RunRelay),
		cli.NewStatus(env),
		cli.NewPS(env),
		cli.NewPods(env),
		cli.NewLifecycle(env),
		cli.NewEvents(env),
		cli.NewFlows(env),
		cli.NewMap(env),
		cli.NewTop(env),
		cli.NewQuery(env),
		cli.NewRules(env),
		cli.NewRecord(env, cli.CaptureFile),
		cli.NewPolicy(env),
		cli.NewScan(env),
		cli.NewFix(env),
		cli.NewImport(env),
		cli.NewControls(env),
		cli.NewAdmit(env),
		doctor.NewCommand(doctor.Streams{Out: env.Out, Err: env.Err, Getenv: env.Getenv}),
		cli.NewInstall(env),
		cli.NewUninstall(env),
		cli.NewCleanup(env),
		cli.NewVersion(env),
		cli.NewMan(env),
		cli.NewWatchdog(agent.Watchdog),
	), os.Args[1:])
}

// commit is what the Go tool noted of the source; empty when it was built without.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return ""
}
